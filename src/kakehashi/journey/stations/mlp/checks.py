"""Checks of the MLP station. In each, B = 3, T = 6, N = 4, C = 5, K = 8, V = 11: no two axes are of one length."""

import torch

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, fresh, gradients, part, same, shake, twin
from kakehashi.journey.lm_checks import (
    HALF,
    LEFT_PAD,
    Loss,
    alike,
    changed,
    keeps_its_config,
    normal,
    suspect,
    targets_with_gaps,
)

V, N, C, K = 11, 4, 5, 8
SIZES = {"vocab_size": V, "block_size": N, "n_embd": C, "n_hidden": K}


# Linear


def linear(mine, ref, rng, **settings):
    """Twins of 6 -> 4 with random weights."""
    theirs = shake(ref.Linear(6, 4, **settings), rng)
    return twin("Linear", mine.Linear(6, 4, **settings), theirs), theirs


@check("Linear", 100)
def linear_has_its_parameters(mine, ref, rng):
    linear(mine, ref, rng)
    linear(mine, ref, rng, bias=False)
    same("Linear.bias at the start", mine.Linear(6, 4).bias, torch.zeros(4))


@check("Linear", 110)
def linear_multiplies(mine, ref, rng):
    for settings in ({}, {"bias": False}):
        own, theirs = linear(mine, ref, rng, **settings)
        for size in ((3, 6), (2, 5, 6), (6,)):
            x = torch.randn(size, generator=rng)
            suspect("Linear", own(fresh(x)), theirs(x), linear_bias=x @ theirs.weight.T)


@check("Linear", 120)
def linear_keeps_the_scale(mine, ref, rng):
    n_in, n_out, gain = 400, 100, 2.0
    normal(
        "Linear.weight",
        mine.Linear(n_in, n_out, gain).weight,
        gain / n_in**0.5,
        linear_fan=gain / n_out**0.5,
        linear_gain=1 / n_in**0.5,
        linear_variance=gain / n_in,
        linear_unscaled=gain,
        linear_root=gain**0.5 / n_in**0.5,
        linear_relu=gain * (2 / n_in) ** 0.5,
        linear_both_fans=gain * (2 / (n_in + n_out)) ** 0.5,
    )


@check("Linear", 130)
def linear_has_a_gradient(mine, ref, rng):
    own, theirs = linear(mine, ref, rng)
    gradients("Linear", own, theirs, torch.randn(3, 5, 6, generator=rng))


@check("Linear", 140)
def linear_runs_in_half_precision(mine, ref, rng):
    own, theirs = linear(mine, ref, rng)
    x = torch.randn(5, 3, 6, generator=rng).bfloat16().transpose(0, 1)
    same("Linear in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# BatchNorm


def norm(mine, ref, rng, eps=0.1, momentum=0.3):
    """Twins with random gains, biases and running statistics; eps and momentum of a size that shows."""
    theirs = shake(ref.BatchNorm(K, eps, momentum), rng)
    return twin("BatchNorm", mine.BatchNorm(K, eps, momentum), theirs), theirs


def features(rng, *sizes):
    """(..., K): features of different means and scales, the last of them constant."""
    x = torch.randn(*sizes, K, generator=rng) * torch.logspace(-2, 1, K) + torch.arange(K)
    x[..., -1] = 2.0
    return x


@check("BatchNorm", 200)
def norm_has_its_parameters(mine, ref, rng):
    norm(mine, ref, rng)
    start = mine.BatchNorm(K)
    for name, value in ref.BatchNorm(K).state_dict().items():
        same(f"BatchNorm.{name} at the start", start.state_dict()[name], value)
    if learned := [name for name, _ in start.named_parameters() if name.startswith("running")]:
        raise Wrong("norm_learned", name=learned[0])


@check("BatchNorm", 210)
def norm_uses_the_batch(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    for sizes in ((7,), (3, 5)):
        x = features(rng, *sizes)
        running_mean, running_var = theirs.running_mean.clone(), theirs.running_var.clone()
        rows, eps = x.flatten(0, -2), theirs.eps
        mean, variance = rows.mean(0), rows.var(0, correction=0)

        def scaled(y):
            return y * theirs.weight + theirs.bias

        suspect(
            "BatchNorm in training",
            own(fresh(x)),
            theirs(x),
            norm_eps_outside=scaled((x - mean) / (variance.sqrt() + eps)),
            norm_eps_fixed=scaled((x - mean) / torch.sqrt(variance + 1e-5)),
            norm_sample_variance=scaled((x - mean) / torch.sqrt(rows.var(0) + eps)),
            norm_running_in_training=scaled((x - running_mean) / torch.sqrt(running_var + eps)),
            norm_running_in_training_after=scaled((x - theirs.running_mean) / torch.sqrt(theirs.running_var + eps)),
            norm_rows=scaled((x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, True, keepdim=True) + eps)),
            norm_first_axis=scaled((x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + eps)),
            norm_not_scaled=(x - mean) / torch.sqrt(variance + eps),
        )
        twin("BatchNorm", own, theirs)


@check("BatchNorm", 220)
def norm_remembers(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    x = features(rng, 3, 5)
    mean, var, m = theirs.running_mean.clone(), theirs.running_var.clone(), theirs.momentum
    rows = x.flatten(0, -2)
    own(fresh(x))
    theirs(x)
    suspect(
        "running_mean",
        own.running_mean,
        theirs.running_mean,
        norm_not_remembered=mean,
        norm_momentum=m * mean + (1 - m) * rows.mean(0),
        norm_momentum_fixed=0.9 * mean + 0.1 * rows.mean(0),
        norm_replaced=rows.mean(0),
    )
    suspect(
        "running_var",
        own.running_var,
        theirs.running_var,
        norm_not_remembered=var,
        norm_momentum=m * var + (1 - m) * rows.var(0),
        norm_biased=(1 - m) * var + m * rows.var(0, correction=0),
        norm_deviation=(1 - m) * var + m * rows.std(0),
    )
    if own.running_mean.requires_grad or own.running_var.requires_grad:
        raise Wrong("norm_graph")


@check("BatchNorm", 230)
def norm_recalls_in_evaluation(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    own.eval()
    theirs.eval()
    x = features(rng, 3, 6)
    outside = (x - theirs.running_mean) / (theirs.running_var.sqrt() + theirs.eps) * theirs.weight + theirs.bias
    for counted in (None, LEFT_PAD):  # as the model calls it in an evaluation with targets
        rows = x.flatten(0, -2) if counted is None else x[counted]
        batch = (x - rows.mean(0)) / torch.sqrt(rows.var(0, correction=0) + theirs.eps) * theirs.weight + theirs.bias
        suspect(
            "BatchNorm in evaluation",
            own(fresh(x), None if counted is None else counted.clone()),
            theirs(x, counted),
            norm_batch_in_evaluation=batch,
            norm_eps_outside=outside,
        )
    if changed(theirs.running_mean, own.running_mean).any() or changed(theirs.running_var, own.running_var).any():
        raise Wrong("norm_learns_in_evaluation")


@check("BatchNorm", 240)
def norm_leaves_out_what_is_no_data(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    x, counted = features(rng, 3, 6), LEFT_PAD
    everything = shake(ref.BatchNorm(K, theirs.eps, theirs.momentum), rng)
    everything = twin("BatchNorm", everything, theirs)
    right = theirs(x, counted)
    output = own(fresh(x), counted.clone())
    suspect("BatchNorm with rows left out", output, right, norm_counts_padding=everything(x))
    for name in ("running_mean", "running_var"):
        value, other = getattr(theirs, name), getattr(everything, name)
        suspect(name, getattr(own, name), value, norm_counts_padding=other)


@check("BatchNorm", 250)
def norm_survives_a_small_batch(mine, ref, rng):
    """One row has no sample variance, and no row has no mean."""
    for x, counted in ((features(rng, 1), None), (features(rng, 2), torch.zeros(2, dtype=torch.bool))):
        own, theirs = norm(mine, ref, rng)
        rows = 1 if counted is None else 0
        outputs = own(fresh(x), counted), theirs(x, counted)
        for name, value in (("output", outputs[0]), ("running_var", own.running_var)):
            if not torch.isfinite(value).all():
                raise Wrong("norm_small_batch", name=name, rows=rows)
        same(f"BatchNorm, rows: {rows}", *outputs)
        same(f"running_var, rows: {rows}", own.running_var, theirs.running_var)
        same(f"running_mean, rows: {rows}", own.running_mean, theirs.running_mean)


@check("BatchNorm", 255)
def norm_far_from_zero(mine, ref, rng):
    """A small deviation from a large mean: the difference of two large squares has lost it."""
    own, theirs = norm(mine, ref, rng, 1e-5)
    x = 100 + 0.01 * torch.randn(3, 5, K, generator=rng)
    output, right = own(fresh(x)), theirs(x)
    if not alike(output, right, tol=2e-2):  # the mean itself is rounded at 1e-5, a thousandth of the deviation
        raise Wrong("norm_cancels")


@check("BatchNorm", 260)
def norm_has_a_gradient(mine, ref, rng):
    for training in (True, False):
        own, theirs = norm(mine, ref, rng)
        x = torch.randn(3, 5, K, generator=rng)
        gradients("BatchNorm", own.train(training), theirs.train(training), x)


@check("BatchNorm", 270)
def norm_runs_in_half_precision(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    x = torch.randn(5, 3, K, generator=rng).bfloat16().transpose(0, 1)
    same("BatchNorm in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# The loss


@check("cross_entropy", 300)
def loss_is_the_mean(mine, ref, rng):
    lm_checks.loss_of_everything(mine, ref, rng)


@check("cross_entropy", 310)
def loss_counts_what_counts(mine, ref, rng):
    lm_checks.loss_of_what_counts(mine, ref, rng)


@check("cross_entropy", 320)
def loss_of_nothing_is_zero(mine, ref, rng):
    lm_checks.loss_of_nothing(mine, ref, rng)


@check("cross_entropy", 330)
def loss_stays_finite(mine, ref, rng):
    lm_checks.loss_of_large_logits(mine, ref, rng)


@check("cross_entropy", 340)
def loss_takes_slices(mine, ref, rng):
    lm_checks.loss_of_slices(mine, ref, rng)


@check("cross_entropy", 350)
def loss_has_a_gradient(mine, ref, rng):
    lm_checks.loss_gradient(mine, ref, rng)


# MLP


def model(mine, ref, rng, **settings):
    """Twins with random weights and running statistics, evaluating."""
    settings = SIZES | settings
    theirs = shake(ref.MLP(ref.Config(**settings)), rng).eval()
    return twin("MLP", mine.MLP(mine.Config(**settings)), theirs), theirs


def by_hand(theirs, contexts, activation=torch.tanh):
    """The logits for given contexts (B, T, N), row numbers of the embedding."""
    h = theirs.norm(theirs.hidden(theirs.embedding(contexts).flatten(2)))
    return theirs.output(activation(h))


def windows(tokens, before=V):
    """(B, T) -> (B, T, N): each token with the N - 1 before it."""
    return torch.cat((torch.full((len(tokens), N - 1), before), tokens), 1).unfold(1, N, 1)


def some_tokens(rng):
    """(3, 6), a slice."""
    return torch.randint(V, (3, 7), generator=rng)[:, :-1]


@check("MLP", 400)
def model_has_its_parameters(mine, ref, rng):
    model(mine, ref, rng)
    model(mine, ref, rng, batch_norm=False)


@check("MLP", 405)
def model_keeps_its_config(mine, ref, rng):
    config = mine.Config(**SIZES)
    keeps_its_config("MLP", mine.MLP(config), config)


@check("MLP", 410)
def model_predicts_at_every_position(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    lm_checks.predicts_at_every_position(own, V, (3, 6), (1, 1), (2, N))


@check("MLP", 420)
def model_looks_at_its_window(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    lm_checks.looks_at_its_window(own, V, N)


@check("MLP", 430)
def model_keeps_batches_apart(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    lm_checks.keeps_batches_apart(own, V, some_tokens(rng))


@check("MLP", 440)
def model_computes_its_logits(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    tokens = some_tokens(rng)
    contexts = windows(tokens)
    suspect(
        "logits",
        own(tokens).logits,
        theirs(tokens).logits,
        model_beginning=by_hand(theirs, windows(tokens, 0)),
        model_reversed=by_hand(theirs, contexts.flip(-1)),
        model_no_tanh=by_hand(theirs, contexts, lambda h: h),
        model_relu=by_hand(theirs, contexts, torch.relu),
        model_no_norm=theirs.output(torch.tanh(theirs.hidden(theirs.embedding(contexts).flatten(2)))),
        model_norm_after=theirs.output(theirs.norm(torch.tanh(theirs.hidden(theirs.embedding(contexts).flatten(2))))),
        model_interleaved=by_hand_flat(theirs, theirs.embedding(contexts).transpose(-2, -1).flatten(2)),
    )
    own, theirs = model(mine, ref, rng, batch_norm=False)
    same("logits without the norm", own(tokens).logits, theirs(tokens).logits)


def by_hand_flat(theirs, x):
    """The logits for given embeddings (B, T, N C)."""
    return theirs.output(torch.tanh(theirs.norm(theirs.hidden(x))))


@check("MLP", 450)
def model_normalises_over_what_counts(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    everything = twin("MLP", ref.MLP(ref.Config(**SIZES)), theirs)
    for each in (own, theirs, everything):
        each.train()
    tokens, targets = some_tokens(rng), targets_with_gaps(rng, 3, 6, V)
    right = theirs(tokens, targets)
    wrong = everything(tokens).logits  # without targets every row counts
    output = own(tokens, fresh(targets))
    suspect("logits in training", part("forward", output, "logits"), right.logits, model_norm_padding=wrong)
    suspect("loss", part("forward", output, "loss"), right.loss, model_norm_padding=ref.cross_entropy(wrong, targets))
    if own.norm is not None:
        same("norm.running_mean", own.norm.running_mean, theirs.norm.running_mean)


@check("MLP", 455)
def model_recalls_in_evaluation(mine, ref, rng):
    """In eval() the running statistics count and stay, with targets, too; and the logits are there beside the loss."""
    own, theirs = model(mine, ref, rng)
    tokens, targets = some_tokens(rng), targets_with_gaps(rng, 3, 6, V)
    batch = twin("MLP", ref.MLP(ref.Config(**SIZES)), theirs).train()(tokens, targets)
    right = theirs(tokens, targets)
    output = own(tokens, fresh(targets))
    logits = part("forward", output, "logits")
    suspect("logits beside a loss", logits, right.logits, norm_batch_in_evaluation=batch.logits)
    suspect("loss", part("forward", output, "loss"), right.loss, norm_batch_in_evaluation=batch.loss)
    for name, value in theirs.named_buffers():
        if changed(value, own.state_dict()[name]).any():
            raise Wrong("norm_learns_in_evaluation")


@check("MLP", 460)
def model_goes_on_from_its_state(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    lm_checks.goes_on_from_its_state(own, theirs, some_tokens(rng), (1,) * 6, (3, 1, 2), (5, 1), (6,))


@check("MLP", 470)
def model_does_not_read_padding(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    lm_checks.leaves_out_padding(own, theirs, some_tokens(rng))


@check("MLP", 480)
def model_starts_modestly(mine, ref, rng):
    sizes = {"vocab_size": 50, "block_size": 4, "n_embd": 1000, "n_hidden": 100}
    own = mine.MLP(mine.Config(**sizes))
    lm_checks.embedding_starts_at_1(own.embedding.weight)
    normal("hidden.weight", own.hidden.weight, 5 / 3 / 4000**0.5, start_gain=1 / 4000**0.5)
    normal("output.weight", own.output.weight, 0.1 / 100**0.5, start_output_gain=1 / 100**0.5)
    lm_checks.biases_start_at_zero(own)
    lm_checks.starts_undecided(own, 50, rng)


@check("MLP", 490)
def model_has_a_gradient(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    tokens, targets = some_tokens(rng), targets_with_gaps(rng, 3, 6, V)
    gradients("loss", Loss(own.train(), targets), Loss(theirs.train(), targets), tokens)


@check("MLP", 495)
def model_runs_in_half_precision(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    tokens = some_tokens(rng)
    same("logits in bfloat16", own.bfloat16()(tokens).logits, theirs.bfloat16()(tokens).logits, tol=HALF)


# The house


@check("", 900)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    lm_checks.trains_alike(mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng), rng, V, 6)


@check("", 910)
def writes_in_the_house(mine, ref, rng):
    """Stays: generation is the other half of the house: a state, one token at a time."""
    own, theirs = mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng)
    lm_checks.continues_alike(own, theirs, some_tokens(rng))
