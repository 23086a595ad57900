"""Checks of the ResNet station. B = 3, C_in = 4, C_out = 8, H = 9, W = 12, h = 5, w = 6, V = 11: all different."""

import copy
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, fresh, gradients, part, same, shake, shape, twin
from kakehashi.journey.lm_checks import (
    HALF,
    Loss,
    alike,
    changed,
    keeps_its_config,
    learns_alike,
    normal,
    starts_apart,
    suspect,
)
from kakehashi.models.protocol import IGNORE

B, C_IN, C_OUT, H, W, V = 3, 4, 8, 9, 12, 11
KINDS = {
    "projection": {},
    "pad": {"shortcut": "pad"},
    "plain": {"residual": False},
    "bottleneck": {"bottleneck": True},
    "bottleneck, pad": {"bottleneck": True, "shortcut": "pad"},
}


def images(rng, channels=C_IN, batch=B, height=H, width=W):
    """(B, C, H, W)."""
    return torch.randn(batch, channels, height, width, generator=rng)


def twins(name, mine, ref, rng, *given):
    """mine.NAME and ref.NAME made of the same arguments, with the same random weights; settings become a Config."""

    def made(module):
        return getattr(module, name)(*(module.Config(**each) if isinstance(each, dict) else each for each in given))

    theirs = shake(made(ref), rng)
    return twin(name, made(mine), theirs), theirs


def identity(x):
    return x


def parts_are_new(module):
    """Each part has weights of its own, and no norm begins silent: that came later, and is another net."""
    owners: dict[Any, str] = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        if (first := owners.setdefault(value, name)) != name:
            raise Wrong("parts_shared", name=name, first=first)
        if name.endswith("norm.weight") and not (value == 1).all():
            raise Wrong("start_norm", name=name, seen=value[value != 1][0])


def remembers_once(name, own, theirs, x):
    """One pass in training moves every running statistic once, as the batch at that place moves it.

    own is the twin of theirs again at the end.
    """
    once, twice = copy.deepcopy(theirs).train(), copy.deepcopy(theirs).train()
    for model in (own.train(), once, twice, twice):
        model(fresh(x))
    seen = own.state_dict()
    for buffer, right in once.named_buffers():
        suspect(
            f"{name}.{buffer} after a step",
            seen[buffer],
            right,
            passes_twice=twice.get_buffer(buffer),
            passes_never=theirs.get_buffer(buffer),
        )
    twin(name, own, theirs)


def keeps_what_it_remembers(own, theirs, x):
    """A pass in eval() moves none of them."""
    own.eval()(fresh(x))
    for buffer, value in theirs.named_buffers():
        if changed(value, own.state_dict()[buffer]).any():
            raise Wrong("norm_learns_in_evaluation", name=buffer)


# Conv


WINDOWS = ((3, 1), (3, 2), (1, 1), (1, 2), (7, 2))  # size, stride


@check("Conv", 100)
def conv_has_its_weight(mine, ref, rng):
    for size in (3, 1):
        twins("Conv", mine, ref, rng, C_IN, C_OUT, size)


@check("Conv", 110)
def conv_looks_at_its_neighbours(mine, ref, rng):
    for size, stride in WINDOWS:
        own, theirs = twins("Conv", mine, ref, rng, C_IN, C_OUT, size, stride)
        x, weight, n = images(rng), theirs.weight, size // 2
        right = theirs(x)
        suspect(
            f"Conv of {size} x {size}, stride {stride}",
            own(fresh(x)),
            right,
            conv_no_padding=F.conv2d(x, weight, stride=stride),
            conv_padding_fixed=F.conv2d(x, weight, stride=stride, padding=1),
            conv_edge_repeated=F.conv2d(F.pad(x, (n, n, n, n), mode="replicate"), weight, stride=stride),
            conv_stride_ignored=F.conv2d(x, weight, padding=n),
            conv_late=F.conv2d(F.pad(x, (n - 1, n + 1, n - 1, n + 1)), weight, stride=stride),
            conv_flipped=F.conv2d(x, weight.flip(2, 3), stride=stride, padding=n),
            conv_turned=F.conv2d(x, weight.mT, stride=stride, padding=n),
        )
        one = x[:1, :, :1, :1]
        same("Conv of an image of one place", own(fresh(one)), theirs(one))


@check("Conv", 120)
def conv_keeps_the_scale_of_gradients(mine, ref, rng):
    n_in, n_out = 40, 90
    for size in (3, 1):
        area = size * size
        normal(
            f"Conv.weight of {size} x {size}",
            mine.Conv(n_in, n_out, size).weight,
            (2 / (area * n_out)) ** 0.5,
            conv_fan_in=(2 / (area * n_in)) ** 0.5,
            conv_no_relu=(1 / (area * n_out)) ** 0.5,
            conv_both_fans=(2 / (area * (n_in + n_out))) ** 0.5,
            conv_window_left_out=(2 / n_out) ** 0.5,
            conv_window_once=(2 / (size * n_out)) ** 0.5,
            conv_no_root=2 / (area * n_out),
            conv_default=(1 / (3 * area * n_in)) ** 0.5,
            conv_unscaled=1.0,
        )
    starts_apart(mine.Conv(n_in, n_out, 3).weight, mine.Conv(n_in, n_out, 3).weight)


@check("Conv", 130)
def conv_has_a_gradient(mine, ref, rng):
    for size, stride in WINDOWS:
        own, theirs = twins("Conv", mine, ref, rng, C_IN, C_OUT, size, stride)
        gradients("Conv", own, theirs, images(rng))


@check("Conv", 140)
def conv_takes_views_and_half_precision(mine, ref, rng):
    own, theirs = twins("Conv", mine, ref, rng, C_IN, C_OUT, 3, 2)
    x = images(rng).transpose(2, 3)
    same("Conv of a transposed view", own(x), theirs(x))
    x = x.bfloat16()
    same("Conv in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# BatchNorm


def norms(mine, ref, rng, eps=0.1, momentum=0.3):
    """Twins with random gains, biases and running statistics; eps and momentum of a size that shows."""
    return twins("BatchNorm", mine, ref, rng, C_IN, eps, momentum)


def channels(rng):
    """(B, C, H, W): channels of different means and scales, the last of them constant, places and images of different
    brightness."""
    x = images(rng) + 2 * torch.randn(B, 1, H, W, generator=rng) + torch.arange(B)[:, None, None, None]
    x = x * torch.logspace(-2, 1, C_IN)[:, None, None] + torch.arange(C_IN)[:, None, None]
    x[:, -1] = 2.0
    return x


def standard(theirs, x, mean, variance):
    """x by mean and variance, (C) or of as many axes as x, with the gain and bias of `theirs`."""
    mean, variance = (each[:, None, None] if each.ndim == 1 else each for each in (mean, variance))
    return (x - mean) / torch.sqrt(variance + theirs.eps) * theirs.weight[:, None, None] + theirs.bias[:, None, None]


def over(axes, x):
    """Mean and variance over some axes, which stay."""
    return x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)


@check("BatchNorm", 200)
def norm_has_its_parameters(mine, ref, rng):
    own, theirs = norms(mine, ref, rng)
    start = mine.BatchNorm(C_IN)
    for name, value in ref.BatchNorm(C_IN).state_dict().items():
        same(f"BatchNorm.{name} at the start", start.state_dict()[name], value)
    if learned := [name for name, _ in start.named_parameters() if name.startswith("running")]:
        raise Wrong("norm_learned", name=learned[0])
    for name in ("eps", "momentum"):
        if getattr(own, name, None) != getattr(theirs, name):
            raise Wrong("norm_not_kept", name=name)


@check("BatchNorm", 210)
def norm_uses_the_batch(mine, ref, rng):
    for grad, x in ((True, channels(rng)), (False, channels(rng)), (True, channels(rng)[:1])):
        own, theirs = norms(mine, ref, rng)
        recalled = standard(theirs, x, theirs.running_mean.clone(), theirs.running_var.clone())
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        gain, bias = theirs.weight[:, None, None], theirs.bias[:, None, None]
        centred, n = x - mean[:, None, None], x.numel() // C_IN
        with torch.set_grad_enabled(grad):
            output = own(fresh(x))
        suspect(
            "BatchNorm in training",
            output,
            theirs(x),
            norm_eps_outside=centred / (variance.sqrt() + theirs.eps)[:, None, None] * gain + bias,
            norm_eps_fixed=standard(theirs, x, mean, variance + 1e-5 - theirs.eps),
            norm_eps_missing=(centred / variance.sqrt()[:, None, None]).nan_to_num() * gain + bias,
            norm_sample_variance=standard(theirs, x, mean, variance * n / (n - 1)),
            norm_about_zero=standard(theirs, x, mean, x.square().mean((0, 2, 3))),
            norm_running_in_training_after=standard(theirs, x, theirs.running_mean, theirs.running_var),
            norm_each_image=standard(theirs, x, *over((2, 3), x)),
            norm_each_place=standard(theirs, x, *over((0,), x)),
            norm_rows_of_channels=standard(theirs, x, *over((1, 2, 3), x)),
            norm_every_channel=standard(theirs, x, *over((0, 1, 2, 3), x)),
            norm_not_scaled=(standard(theirs, x, mean, variance) - bias) / gain,
            norm_no_bias=standard(theirs, x, mean, variance) - bias,
            **{"norm_running_in_training" if grad else "norm_mode": recalled},
        )


@check("BatchNorm", 220)
def norm_remembers(mine, ref, rng):
    own, theirs = norms(mine, ref, rng)
    m = theirs.momentum
    for grad in (True, False, True):  # each call goes on from the one before
        x = channels(rng) + own.running_mean.mean()
        mean, var = theirs.running_mean.clone(), theirs.running_var.clone()
        new_mean, new_var, biased = x.mean((0, 2, 3)), x.var((0, 2, 3)), x.var((0, 2, 3), correction=0)
        with torch.set_grad_enabled(grad):
            own(fresh(x).requires_grad_().clone())
        theirs(x)
        suspect(
            "running_mean",
            own.running_mean,
            theirs.running_mean,
            norm_not_remembered=mean,
            norm_momentum=m * mean + (1 - m) * new_mean,
            norm_momentum_fixed=0.9 * mean + 0.1 * new_mean,
            norm_replaced=new_mean,
        )
        suspect(
            "running_var",
            own.running_var,
            theirs.running_var,
            norm_not_remembered=var,
            norm_momentum=m * var + (1 - m) * new_var,
            norm_biased=(1 - m) * var + m * biased,
            norm_counts_images=(1 - m) * var + m * biased * B / (B - 1),
            norm_counts_places=(1 - m) * var + m * biased * H * W / (H * W - 1),
            norm_counts_everything=(1 - m) * var + m * biased * x.numel() / (x.numel() - 1),
            norm_deviation=(1 - m) * var + m * new_var.sqrt(),
        )
        if own.running_mean.requires_grad or own.running_var.requires_grad:
            raise Wrong("norm_graph")


@check("BatchNorm", 230)
def norm_recalls_in_evaluation(mine, ref, rng):
    for grad in (True, False):
        own, theirs = norms(mine, ref, rng)
        x = channels(rng)
        batch = standard(theirs, x, x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0))
        with torch.set_grad_enabled(grad):
            output = own.eval()(fresh(x))
        suspect("BatchNorm in evaluation", output, theirs.eval()(x), norm_batch_in_evaluation=batch)
        keeps_what_it_remembers(own, theirs, x)


@check("BatchNorm", 240)
def norm_survives_one_number(mine, ref, rng):
    """A batch of one image of one place has no sample variance, and answers its bias."""
    own, theirs = norms(mine, ref, rng)
    x = torch.randn(1, C_IN, 1, 1, generator=rng)
    output, right = own(fresh(x)), theirs(x)
    for name, value in (("output", output), ("running_var", own.running_var)):
        if not torch.isfinite(value).all():
            raise Wrong("norm_one_number", name=name)
    same("BatchNorm of one number a channel", output, right)
    same("running_mean after one number a channel", own.running_mean, theirs.running_mean)
    same("running_var after one number a channel", own.running_var, theirs.running_var)


@check("BatchNorm", 250)
def norm_far_from_zero(mine, ref, rng):
    """A small deviation from a large mean: the difference of two large squares has lost it."""
    own, theirs = norms(mine, ref, rng, 1e-5)
    x = 100 + 0.01 * images(rng)
    if not alike(own(fresh(x)), theirs(x), tol=2e-2):  # the mean is rounded at 1e-5, a thousandth of the deviation
        raise Wrong("norm_cancels")


@check("BatchNorm", 260)
def norm_has_a_gradient(mine, ref, rng):
    own, theirs = norms(mine, ref, rng)
    x, weights = channels(rng), torch.randn(B, C_IN, H, W, generator=rng)

    def pulled(function):
        given = fresh(x).requires_grad_()
        return torch.autograd.grad((function(given) * weights).sum(), given, allow_unused=True)[0]

    def cut(mean=identity, variance=identity):
        return pulled(lambda x: standard(theirs, x, mean(x.mean((0, 2, 3))), variance(x.var((0, 2, 3), correction=0))))

    suspect(
        "BatchNorm: d/d x",
        pulled(own),
        pulled(theirs),
        norm_variance_detached=cut(variance=torch.detach),
        norm_mean_detached=cut(mean=torch.detach),
        norm_detached=cut(torch.detach, torch.detach),
    )
    for training in (True, False):
        own, theirs = norms(mine, ref, rng)
        gradients("BatchNorm", own.train(training), theirs.train(training), x)


@check("BatchNorm", 270)
def norm_runs_in_half_precision(mine, ref, rng):
    for training in (True, False):
        own, theirs = norms(mine, ref, rng)
        own, theirs = own.bfloat16().train(training), theirs.bfloat16().train(training)
        x = images(rng).bfloat16().transpose(2, 3)
        same("BatchNorm in bfloat16", own(x), theirs(x), tol=HALF)
        same("running_mean in bfloat16", own.running_mean, theirs.running_mean, tol=HALF)
        same("running_var in bfloat16", own.running_var, theirs.running_var, tol=HALF)


# Pad


PADS = ((C_IN, C_OUT, 2), (C_IN, C_OUT, 1), (C_IN, C_IN, 2))


@check("Pad", 300)
def pad_keeps_what_is_there(mine, ref, rng):
    for n_in, n_out, stride in PADS:
        own, theirs = twins("Pad", mine, ref, rng, n_in, n_out, stride)
        x, more = images(rng), n_out - n_in
        places = x[:, :, ::stride, ::stride]
        suspect(
            f"Pad({n_in}, {n_out}, {stride})",
            own(fresh(x)),
            theirs(x),
            pad_in_front=F.pad(places, (0, 0, 0, 0, more, 0)),
            pad_both_sides=F.pad(places, (0, 0, 0, 0, more // 2, more - more // 2)),
            pad_in_width=F.pad(places, (0, more)),
            pad_in_height=F.pad(places, (0, 0, 0, more)),
            pad_all_channels=F.pad(places, (0, 0, 0, 0, 0, n_out)),
            pad_repeats=torch.cat((places, places), 1),
            pad_mean=F.pad(F.avg_pool2d(x, stride, ceil_mode=True), (0, 0, 0, 0, 0, more)),
            pad_largest=F.pad(F.max_pool2d(x, stride, ceil_mode=True), (0, 0, 0, 0, 0, more)),
            pad_late=F.pad(x[:, :, stride - 1 :: stride, stride - 1 :: stride], (0, 0, 0, 0, 0, more)),
            pad_stride_ignored=F.pad(x, (0, 0, 0, 0, 0, more)),
        )


@check("Pad", 310)
def pad_has_a_gradient(mine, ref, rng):
    for sizes in PADS:
        gradients("Pad", *twins("Pad", mine, ref, rng, *sizes), images(rng))


@check("Pad", 320)
def pad_keeps_the_dtype(mine, ref, rng):
    own, theirs = twins("Pad", mine, ref, rng, *PADS[0])
    x = images(rng).bfloat16().transpose(2, 3)
    same("Pad in bfloat16", own(x), theirs(x))


# Block


SIZES = ((C_IN, C_OUT, 2), (C_IN, C_OUT, 1), (C_OUT, C_OUT, 2), (C_OUT, C_OUT, 1))  # n_in, n_out, stride


def block_by_hand(theirs, x, *, inside=F.relu, last=identity, way=None, end=F.relu, strides=None):
    """A block put together in another way; way: from the shortcut's answer to what is added."""
    y = x
    for i, unit in enumerate(theirs.units):
        if strides:
            unit = copy.deepcopy(unit)
            unit.conv.stride = strides[i]
        y = unit(y)
        y = inside(y) if i + 1 < len(theirs.units) else last(y)
    return end(way(theirs.shortcut(x)) + y if way else y)


@check("Block", 400)
def block_has_its_parameters(mine, ref, rng):
    for kind, settings in KINDS.items():
        for sizes in SIZES:
            n_in, n_out, stride = sizes
            start = mine.Block(mine.Config(**settings), *sizes)
            learns, should = (
                any(name.startswith("shortcut") for name, _ in block.named_parameters())
                for block in (start, ref.Block(ref.Config(**settings), *sizes))
            )
            if learns != should:
                key = "block_shortcut_learns" if learns else "block_no_projection"
                raise Wrong(key, n_in=n_in, n_out=n_out, stride=stride, kind=kind)
            twins("Block", mine, ref, rng, settings, *sizes)
            parts_are_new(start)


@check("Block", 410)
def block_adds_to_what_came_in(mine, ref, rng):
    """In both modes: a stride that comes late differs in what the norms before it see in training, and in no more."""
    for kind, settings in KINDS.items():
        for sizes in SIZES if kind != "plain" else SIZES[::-1]:  # a plain block of one size may add without an error
            own, theirs = twins("Block", mine, ref, rng, settings, *sizes)
            x = images(rng, sizes[0])
            for training in (False, True):
                output, right = own.train(training)(fresh(x)), theirs.train(training)(x)
                if not alike(output, right):
                    name = "Block ({}) of {} -> {} channels, stride {}".format(kind, *sizes)
                    suspect(name, output, right, **other_blocks(theirs, x, *sizes))


def other_blocks(theirs, x, n_in, n_out, stride):
    """What wrong blocks of the same weights give."""
    way, n = identity if theirs.residual else None, len(theirs.units)
    found = {
        "block_relu_in_branch": block_by_hand(theirs, x, last=F.relu, way=way),
        "block_added_after_relu": block_by_hand(theirs, x, last=F.relu, way=way, end=identity),
        "block_no_last_relu": block_by_hand(theirs, x, way=way, end=identity),
        "block_no_inner_relu": block_by_hand(theirs, x, inside=identity, way=way),
    }
    if theirs.residual:
        same_size = stride == 1 and n_in == n_out
        found["block_no_identity" if same_size else "block_no_shortcut"] = block_by_hand(theirs, x)
        found["block_relu_on_shortcut"] = block_by_hand(theirs, x, way=F.relu)
    elif x.shape == theirs(x).shape:
        found["block_plain_adds"] = block_by_hand(theirs, x, way=identity)
    for i, key in enumerate(("block_stride_first", "block_stride_second", "block_stride_last")[:n]):
        found[key] = block_by_hand(theirs, x, way=way, strides=[stride if i == j else 1 for j in range(n)])
    return found


@check("Block", 420)
def block_learns_and_remembers(mine, ref, rng):
    for settings in KINDS.values():
        for sizes in (SIZES[0], SIZES[-1]):
            own, theirs = twins("Block", mine, ref, rng, settings, *sizes)
            x = images(rng, sizes[0])
            remembers_once("Block", own, theirs, x)
            keeps_what_it_remembers(own, theirs, x)
            gradients("Block", own.train(), theirs, x)


@check("Block", 430)
def block_runs_in_half_precision(mine, ref, rng):
    for settings in KINDS.values():
        own, theirs = (each.bfloat16().eval() for each in twins("Block", mine, ref, rng, settings, *SIZES[0]))
        x = images(rng).bfloat16().transpose(2, 3)
        same("Block in bfloat16", own(x), theirs(x), tol=HALF)


# The loss


def flat(module) -> Any:
    """A module whose cross_entropy takes logits (B, T, V), as the shared checks have them: an image a token."""
    return SimpleNamespace(
        cross_entropy=lambda logits, targets: module.cross_entropy(logits.flatten(0, 1), targets.flatten())
    )


@check("cross_entropy", 500)
def loss_is_the_mean(mine, ref, rng):
    lm_checks.loss_of_everything(flat(mine), flat(ref), rng)


@check("cross_entropy", 510)
def loss_counts_what_counts(mine, ref, rng):
    lm_checks.loss_of_what_counts(flat(mine), flat(ref), rng)


@check("cross_entropy", 520)
def loss_has_a_gradient(mine, ref, rng):
    """Of what a loader and a head hand over, and of every other image."""
    logits, targets = torch.randn(6, 7, generator=rng), torch.tensor([0, IGNORE, 6, 2, IGNORE, 4])
    for given in ((logits, targets), (logits[::2], targets[::2]), (logits[:1], targets[:1])):
        gradients("cross_entropy", mine.cross_entropy, ref.cross_entropy, *given)


@check("cross_entropy", 530)
def loss_of_nothing_is_zero(mine, ref, rng):
    lm_checks.loss_of_nothing(flat(mine), flat(ref), rng)


@check("cross_entropy", 540)
def loss_stays_finite(mine, ref, rng):
    lm_checks.loss_of_large_logits(flat(mine), flat(ref), rng)


# ResNet


NET = {"n_classes": V, "n_channels": 2, "widths": (C_IN, C_OUT)}
NETS = KINDS | {"large": {"stem": "large"}, "small, as wide as a large stem": {"widths": (64, 64)}}


def nets(mine, ref, rng, kind, depths=(1, 2)):
    """Twins with random weights, evaluating."""
    own, theirs = twins("ResNet", mine, ref, rng, NET | NETS[kind] | {"depths": depths})
    return own.eval(), theirs.eval()


def labelled(rng, n=4):
    """Images (B, 2, H, W) and targets (B), one of which does not count."""
    targets = torch.randint(V, (n,), generator=rng)
    targets[1] = IGNORE
    return images(rng, 2, n), targets


def net_by_hand(theirs, x, *, stem=F.relu, pool=None, blocks=None, gather=None):
    """The logits when the parts are put together in another way."""
    x = stem(theirs.stem(x))
    if theirs.config.stem == "large":
        x = pool(x) if pool else F.max_pool2d(x, 3, stride=2, padding=1)
    for block in theirs.blocks if blocks is None else blocks:
        x = block(x)
    return theirs.head(gather(x) if gather else x.mean((2, 3)))


def striding(theirs, halves):
    """The blocks of a plain net, of which those halve for which halves(stage, i, depth) holds."""
    blocks, at = copy.deepcopy(theirs.blocks), 0
    for stage, depth in enumerate(theirs.config.depths):
        for i in range(depth):
            blocks[at + i].units[0].conv.stride = 2 if halves(stage, i, depth) else 1
        at += depth
    return blocks


@check("ResNet", 600)
def net_halves_where_a_stage_begins(mine, ref, rng):
    """The plain twin: nothing in its parameters tells where it halves. Four stages, two of them of one width."""
    parts_are_new(mine.ResNet(mine.Config(**NET, depths=(1, 3))))
    stages = {"widths": (C_IN, C_OUT, C_OUT, 10), "depths": (2, 2, 1, 2)}
    own, theirs = (each.eval() for each in twins("ResNet", mine, ref, rng, NET | NETS["plain"] | stages))
    x = images(rng, 2)
    output, right = part("forward", own(fresh(x)), "logits"), theirs(x).logits
    if alike(output, right):
        return

    def halving(halves):
        return net_by_hand(theirs, x, blocks=striding(theirs, halves))

    suspect(
        "logits",
        output,
        right,
        net_every_block_halves=halving(lambda stage, i, depth: stage or i == 0),
        net_later_stages_halve=halving(lambda stage, i, depth: stage),
        net_first_stage_halves=halving(lambda stage, i, depth: i == 0),
        net_never_halves=halving(lambda stage, i, depth: False),
        net_halves_once=halving(lambda stage, i, depth: stage == 1 and i == 0),
        net_last_stage_stays=halving(lambda stage, i, depth: 0 < stage < 3 and i == 0),
        net_halves_late=halving(lambda stage, i, depth: stage and i == depth - 1),
        net_no_stem_relu=net_by_hand(theirs, x, stem=identity),
        net_head_largest=net_by_hand(theirs, x, gather=lambda x: x.amax((2, 3))),
        net_head_sum=net_by_hand(theirs, x, gather=lambda x: x.sum((2, 3))),
        net_head_corner=net_by_hand(theirs, x, gather=lambda x: x[:, :, 0, 0]),
        net_last_block_left_out=net_by_hand(theirs, x, blocks=theirs.blocks[:-1]),
        net_probabilities=right.softmax(-1),
        net_log_probabilities=right.log_softmax(-1),
    )


@check("ResNet", 605)
def net_keeps_its_config(mine, ref, rng):
    config = mine.Config(**NET, depths=(1, 2))
    keeps_its_config("ResNet", mine.ResNet(config), config)


@check("ResNet", 610)
def net_answers_images_of_any_size(mine, ref, rng):
    """Of every kind; one image, one place; no loss without targets."""
    for kind in NETS:
        own, theirs = nets(mine, ref, rng, kind)
        for x in (images(rng, 2), images(rng, 2, 1, 1, 1)):
            output = own(fresh(x))
            logits = shape("logits", part("forward", output, "logits"), (len(x), V))
            if part("forward", output, "loss") is not None:
                raise Wrong("loss_without_targets")
            pools = {
                "net_no_pool": identity,
                "net_pool_mean": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1),
                "net_pool_of_four": lambda x: F.max_pool2d(x, 2, stride=2, ceil_mode=True),
            }
            mistakes = {key: net_by_hand(theirs, x, pool=pool) for key, pool in pools.items() if kind == "large"}
            suspect(f"logits ({kind})", logits, theirs(x).logits, **mistakes)


@check("ResNet", 620)
def net_remembers_in_training_alone(mine, ref, rng):
    own, theirs = nets(mine, ref, rng, "pad")
    x, targets = labelled(rng)
    given = fresh(targets)
    suspect(
        "logits beside a loss",
        part("forward", own(fresh(x), given), "logits"),
        theirs(x).logits,
        norm_batch_in_evaluation=copy.deepcopy(theirs).train()(x).logits,
    )
    if not torch.equal(given, targets):
        raise Wrong("overwrites", name="forward")
    remembers_once("ResNet", own, theirs, x)
    keeps_what_it_remembers(own, theirs, x)


@check("ResNet", 630)
def net_has_a_gradient(mine, ref, rng):
    for kind, training in (("pad", True), ("large", False)):
        own, theirs = (each.train(training) for each in nets(mine, ref, rng, kind))
        x, targets = labelled(rng)
        gradients("loss", Loss(own, targets), Loss(theirs, targets), x)


@check("ResNet", 640)
def net_starts_as_its_parts_do(mine, ref, rng):
    n = 150
    own = mine.ResNet(mine.Config(50, 3, (2, 1), (n, n)))
    convs = {name: value for name, value in own.named_parameters() if value.ndim == 4}
    for name, weight in convs.items():
        fan = weight[0].numel() * n / weight.shape[1]
        normal(name, weight, (2 / fan) ** 0.5, conv_fan_in=(2 / weight[0].numel()) ** 0.5)
    starts_apart(*(block.units[0].conv.weight for block in own.blocks[:2]))
    bound, weight = n**-0.5, own.head.weight
    # torch's Linear draws evenly between -bound and bound
    if not (weight.abs().max() <= bound and abs(weight.std() / bound * 3**0.5 - 1) <= 0.05):
        raise Wrong("start_head", seen=weight.std(), expected=bound / 3**0.5)


@check("ResNet", 650)
def net_runs_in_half_precision(mine, ref, rng):
    own, theirs = nets(mine, ref, rng, "pad")
    x = images(rng, 2).bfloat16()
    same("logits in bfloat16", own.bfloat16()(x).logits, theirs.bfloat16()(x).logits, tol=HALF)


# The house


@check("", 900)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    for kind in ("pad", "bottleneck"):
        own, theirs = nets(mine, ref, rng, kind)
        learns_alike(own, theirs, [labelled(rng) for _ in range(3)])


@check("", 910)
def classifies_in_the_house(mine, ref, rng):
    """Stays: classification is the other half of the house: one image alone, after training."""
    own, theirs = nets(mine, ref, rng, "pad")
    x, _ = labelled(rng)
    for model in (own, theirs):
        model.train()(x)
        model.eval()
    for i in range(len(x)):
        same("logits of one image in eval()", own(x[i : i + 1]).logits, theirs(x[i : i + 1]).logits)
