"""Checks of the bigram station. In each, B = 3, T = 5, V = 7: no two axes are of one length."""

import torch

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, gradients, part, same, shake, shape, twin
from kakehashi.journey.lm_checks import Loss, in_pieces, keeps_its_config, suspect, targets_with_gaps
from kakehashi.models.protocol import IGNORE

V = 7


def model(mine, ref, rng):
    """Twins with a random table."""
    theirs = shake(ref.Bigram(ref.Config(V)), rng)
    return twin("Bigram", mine.Bigram(mine.Config(V)), theirs), theirs


@check("count", 100)
def count_gives_probabilities(mine, ref, rng):
    """Each row is a distribution."""
    tokens = torch.randint(V, (3, 6), generator=rng)
    table = shape("count", mine.count(tokens[:, :-1], tokens[:, 1:], V), (V, V))
    if not torch.isfinite(table).all():
        raise Wrong("count_smoothing", smoothing=1.0)
    if table.max() > 0:
        raise Wrong("count_log", seen=table.max())
    sums, columns = table.exp().sum(1), table.exp().sum(0)
    if not (sums - 1).abs().max() <= 1e-5:
        raise Wrong("count_columns" if (columns - 1).abs().max() <= 1e-5 else "count_sums", row=0, seen=sums[0])


@check("count", 110)
def count_follows_the_order(mine, ref, rng):
    """Row a, column b: b after a."""
    tokens, targets = torch.tensor([[1, 1, 1, 2]]), torch.tensor([[4, 4, 4, 5]])
    right = ref.count(tokens, targets, V)
    suspect("count", mine.count(tokens, targets, V), right, count_transposed=ref.count(targets, tokens, V))


@check("count", 120)
def count_skips_what_is_not_counted(mine, ref, rng):
    tokens, targets = torch.randint(V, (3, 6), generator=rng)[:, :-1], targets_with_gaps(rng, 3, 5, V)
    right = ref.count(tokens, targets, V)
    as_zero, as_last = targets.clamp(min=0), targets.masked_fill(targets == IGNORE, V - 1)
    suspect(
        "count",
        mine.count(tokens, targets, V),
        right,
        count_padding=ref.count(tokens, as_zero, V),
        count_padding_last=ref.count(tokens, as_last, V),
    )
    nothing = torch.full((1, 2), IGNORE)
    same("count of nothing", mine.count(tokens[:1, :2], nothing, V), ref.count(tokens[:1, :2], nothing, V))


@check("count", 130)
def count_smooths(mine, ref, rng):
    """A pair that was never seen stays possible."""
    tokens = torch.randint(3, (2, 6), generator=rng)  # tokens 3 to 6 never occur
    for smoothing in (1.0, 0.25):
        table = mine.count(tokens[:, :-1], tokens[:, 1:], V, smoothing)
        if not torch.isfinite(table).all():
            raise Wrong("count_smoothing", smoothing=smoothing)
        right = ref.count(tokens[:, :-1], tokens[:, 1:], V, smoothing)
        suspect("count", table, right, count_smoothing_fixed=ref.count(tokens[:, :-1], tokens[:, 1:], V, 1.0))


@check("cross_entropy", 200)
def loss_is_the_mean(mine, ref, rng):
    lm_checks.loss_of_everything(mine, ref, rng)


@check("cross_entropy", 210)
def loss_counts_what_counts(mine, ref, rng):
    lm_checks.loss_of_what_counts(mine, ref, rng)


@check("cross_entropy", 220)
def loss_of_nothing_is_zero(mine, ref, rng):
    lm_checks.loss_of_nothing(mine, ref, rng)


@check("cross_entropy", 230)
def loss_stays_finite(mine, ref, rng):
    lm_checks.loss_of_large_logits(mine, ref, rng)


@check("cross_entropy", 240)
def loss_takes_slices(mine, ref, rng):
    lm_checks.loss_of_slices(mine, ref, rng)


@check("cross_entropy", 250)
def loss_has_a_gradient(mine, ref, rng):
    lm_checks.loss_gradient(mine, ref, rng)


@check("Bigram", 300)
def table_starts_at_zero(mine, ref, rng):
    own = mine.Bigram(mine.Config(V))
    twin("Bigram", mine.Bigram(mine.Config(V)), ref.Bigram(ref.Config(V)))
    same("Bigram.table at the start", own.table, torch.zeros(V, V))


@check("Bigram", 305)
def model_keeps_its_config(mine, ref, rng):
    config = mine.Config(V)
    keeps_its_config("Bigram", mine.Bigram(config), config)


@check("Bigram", 310)
def table_is_looked_up(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    for tokens in (torch.randint(V, (3, 6), generator=rng)[:, 1:], torch.tensor([[2]])):
        output = own(tokens)
        logits = shape("logits", part("forward", output, "logits"), (*tokens.shape, V))
        suspect("logits", logits, theirs(tokens).logits, bigram_column=theirs.table.T[tokens])
        if output.loss is not None:
            raise Wrong("loss_without_targets")


@check("Bigram", 320)
def table_learns(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    tokens, targets = torch.randint(V, (3, 6), generator=rng)[:, :-1], targets_with_gaps(rng, 3, 5, V)
    gradients("loss", Loss(own, targets), Loss(theirs, targets), tokens)


@check("Bigram", 330)
def model_needs_no_state(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    shape("new_state: tokens", part("new_state", own.new_state(3), "tokens"), (3, 0))
    tokens = torch.randint(V, (3, 6), generator=rng)[:, :-1]
    same("logits of pieces", in_pieces(own, (3, 1, 1), tokens), theirs(tokens).logits)


@check("", 900)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    lm_checks.trains_alike(mine.Model(mine.Config(V)), shake(ref.Model(ref.Config(V)), rng), rng, V, 5)


@check("", 910)
def counting_is_the_end_of_learning(mine, ref, rng):
    """Stays: the point of the station. At the counted table the gradient of the loss is 0: nothing is left to learn."""
    stream = torch.cat((torch.cartesian_prod(torch.arange(V), torch.arange(V)).flatten(), torch.tensor([0, 3, 3, 5])))
    tokens, targets = stream[None, :-1], stream[None, 1:]
    own = mine.Model(mine.Config(V))
    with torch.no_grad():
        own.table.copy_(mine.count(tokens, targets, V, 0.0))
    part("forward", own(tokens, targets), "loss").backward()
    if not own.table.grad.abs().max() <= 1e-6:  # each row's probabilities minus its shares: rounding alone is left
        raise Wrong("house_count", seen=own.table.grad.abs().max())


@check("", 920)
def writes_in_the_house(mine, ref, rng):
    """Stays: generation is the other half of the house: a state, one token at a time."""
    own, theirs = mine.Model(mine.Config(V)), shake(ref.Model(ref.Config(V)), rng)
    lm_checks.continues_alike(own, theirs, torch.randint(V, (3, 5), generator=rng))
