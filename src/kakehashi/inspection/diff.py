"""Where two models part: both run on one input, and the first tensor that differs beyond rounding.

    found = diff(mine, theirs, (tokens,))
    found.equal
    found.parting.a                 # "h.0.attn": whose code computed it
    found.parting.pattern           # Pattern("mask_ahead", {"a": 0, "b": 1})

Everything before the first difference is equal, so the cause lies between it and the last equal tensor, in the code of
one module: that is measured. The pattern is what explains the numbers there, if anything that we know does.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kakehashi.inspection import align
from kakehashi.inspection.closeness import distance, real, tolerance
from kakehashi.inspection.parting import Parting, Place, explain, limit, walk
from kakehashi.inspection.record import DiffError, Forward, Pass, Trace, copies, one_line, record, unchanged


@dataclass(frozen=True)
class Diff:
    """What `diff` found.

    weights         which correspond; copied: whether one model was given the other's
    places          all tensors that were compared, in a's order
    parting         the first that differs and what is known of it; None where all are equal
    only_a, only_b  modules that ran in one model and have no partner in the other
    logits          how far apart the models' answers are, relative to the largest
    tolerance       what counted as rounding there
    loss            of both; one of them None: that model gives none, though the other does; None: not compared
    gradients       of the losses: how far apart, by a's name of the weight; None where they were not compared
    frozen_a, _b    weights that this model does not learn and the other does, by its own names; [] without grads
    failed          the models whose pass with gradients, or backward pass, fails: with what error
    buffers_apart   buffers that the pass changed, and that differ after it: how far apart, by a's name
    random          the models, of "A" and "B", whose answer depends on the seed in eval mode
    overwrote       those that change their inputs in place
    """

    weights: align.Weights
    copied: bool
    places: list[Place]
    parting: Parting | None
    only_a: list[str]
    only_b: list[str]
    logits: float
    tolerance: float
    loss: tuple[float | None, float | None] | None
    gradients: dict[str, float] | None
    frozen_a: list[str]
    frozen_b: list[str]
    failed: dict[str, str]
    buffers_apart: dict[str, float]
    random: tuple[str, ...]
    overwrote: tuple[str, ...]

    @property
    def gradients_apart(self) -> dict[str, float]:
        """The gradients that differ beyond rounding, farthest first."""
        # a gradient sums over all places: its rounding is coarser than an answer's
        apart = {name: far for name, far in (self.gradients or {}).items() if far > 10 * self.tolerance}
        return dict(sorted(apart.items(), key=lambda each: -each[1]))

    @property
    def losses_apart(self) -> bool:
        if self.loss is None:
            return False
        a, b = self.loss
        if a is None or b is None:
            return True
        return not (math.isnan(a) and math.isnan(b)) and not math.isclose(a, b, rel_tol=self.tolerance, abs_tol=1e-12)

    @property
    def nan(self) -> int:
        """In how many tensors both hold NaN, which counts as equal."""
        return sum(place.nan for place in self.places)

    @property
    def equal(self) -> bool:
        """Whether all that was compared is equal up to rounding."""
        weights = self.gradients_apart or self.frozen_a or self.frozen_b or self.failed or self.buffers_apart
        return not (self.parting or self.losses_apart or weights)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no word for what is not finite: None. Of the places, how many."""
        return plain(asdict(self) | {"places": len(self.places), "nan": self.nan, "equal": self.equal})


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def diff(
    a: nn.Module,
    b: nn.Module,
    inputs: Sequence[Any],
    *,
    forward_a: Forward | None = None,
    forward_b: Forward | None = None,
    own_weights: bool = False,
    from_b: bool = False,
    grads: bool = True,
    training: bool = False,
    tol: float | None = None,
    seed: int = 0,
) -> Diff:
    """Run two models on the same inputs, and find where they part.

    inputs: what both take. forward_a, forward_b: how a model takes them, where it is not model(*inputs). Of what it
    gives, `logits` and `loss` are the attributes or keys of these names; else the first tensor of floats is its logits.
    A loss that one model alone gives is a difference, but where the other's own forward leaves it out.
    own_weights: compare the models as they are; else a copy of b is given a's weights where they correspond, or with
    from_b a copy of a b's. grads: compare the gradients of the losses, and which weights are learnt. training: run in
    training mode.
    tol: what counts as rounding, relative to the largest value of a tensor; None: by its dtype, 1e-5 for float32.
    seed: set before every pass.

    The models and the inputs are left as they were. A module that is called several times is compared at each call.
    What is computed outside of modules is seen where it enters or leaves one. Raises DiffError where a model does not
    take the inputs.
    """
    inputs = tuple(inputs)
    passes = Pass("A", a, forward_a, inputs, seed, training), Pass("B", b, forward_b, inputs, seed, training)
    traces = record(passes[0]), record(passes[1])
    weights = align.weights(a, b, *traces)
    if not own_weights:
        side, source = (0, b) if from_b else (1, a)
        target = copy.deepcopy(passes[side].model)
        align.copy(source, target, weights.pairs, backwards=from_b)
        passes = tuple(replace(each, model=target) if i == side else each for i, each in enumerate(passes))
        traces = tuple(record(each) if i == side else traces[i] for i, each in enumerate(passes))
    pairs = align.calls(traces[0].calls, traces[1].calls)
    places, first = walk(pairs, tol)
    logits, losses = zip(*(outcome(trace.output) for trace in traces), strict=True)
    both = None not in losses
    left_out = any(loss is None and each.forward for loss, each in zip(losses, passes, strict=True))
    loss_a, loss_b = (None if loss is None else loss.item() for loss in losses)
    apart, failed = gradients(passes, weights.pairs) if grads and both else (None, {})
    frozen_a, frozen_b = frozen(a, b, weights.pairs) if grads else ([], [])
    paired = {id(call) for pair in pairs for call in pair}
    return Diff(
        weights=weights,
        copied=not own_weights,
        places=places,
        parting=first and explain(first, places, pairs, passes, traces, tol),
        only_a=[call.path for call in traces[0].calls if id(call) not in paired],
        only_b=[call.path for call in traces[1].calls if id(call) not in paired],
        logits=distance(*logits),
        tolerance=tolerance(*logits) if tol is None else tol,
        loss=(loss_a, loss_b) if losses != (None, None) and not left_out else None,
        gradients=apart,
        frozen_a=frozen_a,
        frozen_b=frozen_b,
        failed=failed,
        buffers_apart=buffers_apart(passes, traces, weights.pairs, tol),
        random=tuple(each.name for each, x in zip(passes, logits, strict=True) if is_random(each, x)),
        overwrote=tuple(each.name for each, trace in zip(passes, traces, strict=True) if trace.overwrote),
    )


def outcome(output: Any) -> tuple[Tensor, Tensor | None]:
    """(logits, loss or None) of what a model gives. Raises DiffError where there is no tensor of floats in it."""
    given = output if isinstance(output, dict) else {name: getattr(output, name, None) for name in ("logits", "loss")}
    loss, logits = given.get("loss"), given.get("logits")
    if logits is None:
        tensors = copies(output)
        logits = next((x for x in tensors.values() if x.is_floating_point()), None)
        if logits is None:
            got = ", ".join(sorted({str(x.dtype) for x in tensors.values()})) or type(output).__name__
            raise DiffError(f"a model must give a tensor of floats to be compared, got {got}")
    return logits, loss if isinstance(loss, Tensor) and loss.numel() == 1 else None


def is_random(one: Pass, logits: Tensor) -> bool:
    """Whether a model's answer is another from another seed, in eval mode."""
    if one.training:
        return False
    again, _ = outcome(record(replace(one, seed=one.seed + 1)).output)
    return distance(again, logits) > tolerance(again, logits)


def gradients(passes: Sequence[Pass], pairs: Sequence[align.Pair]) -> tuple[dict[str, float] | None, dict[str, str]]:
    """How far apart the gradients of both losses are, for each pair that is learnt; and a Diff's `failed`."""
    found, failed = {}, {}
    for each in passes:
        try:
            found[each.name] = gradients_of(each)
        except DiffError as error:
            failed[each.name] = str(error)
    if failed:
        return None, failed
    of_a, of_b = found["A"], found["B"]
    apart = {}
    for pair in pairs:
        if all(name in of_a for name in pair.a) and all(name in of_b for name in pair.b):
            theirs = align.cut([of_b[name] for name in pair.b], len(pair.a), pair.transposed)
            apart |= {name: distance(of_a[name], y) for name, y in zip(pair.a, theirs, strict=True)}
    return apart, {}


def frozen(a: nn.Module, b: nn.Module, pairs: Sequence[align.Pair]) -> tuple[list[str], list[str]]:
    """The names in either model of weights that it does not learn and the other does."""
    learnt_a, learnt_b = ({name for name, p in each.named_parameters() if p.requires_grad} for each in (a, b))
    frozen_a = [name for pair in pairs if learnt_b & {*pair.b} for name in pair.a if name not in learnt_a]
    frozen_b = [name for pair in pairs if learnt_a & {*pair.a} for name in pair.b if name not in learnt_b]
    return frozen_a, frozen_b


def buffers_apart(
    passes: Sequence[Pass], traces: Sequence[Trace], pairs: Sequence[align.Pair], tol: float | None
) -> dict[str, float]:
    """How far apart the buffers are after a pass that changed them in either model, by a's name; those that differ."""
    after_a, after_b = (
        {name: real(x) for name, x in each.model.named_buffers()} | trace.buffers
        for each, trace in zip(passes, traces, strict=True)
    )
    apart = {}
    for pair in pairs:
        (name, *_), (other, *_) = pair.a, pair.b
        if name in traces[0].buffers or other in traces[1].buffers:
            x, y = after_a.get(name), after_b.get(other)
            if x is not None and y is not None and (far := distance(x, y)) > limit(x, y, tol):
                apart[name] = far
    return apart


def gradients_of(one: Pass) -> dict[str, Tensor]:
    """The gradient of the loss by each parameter, by name; zeros where it has none.

    Raises DiffError where the model's pass with gradients, or its backward pass, fails.
    """
    learnt = {name: p for name, p in one.model.named_parameters() if p.requires_grad}
    with unchanged(one.model, one.training), torch.enable_grad():
        torch.manual_seed(one.seed)
        output, _ = one()
        loss = outcome(output)[1]
        found = [None] * len(learnt)
        if learnt and loss is not None and loss.requires_grad:
            try:
                found = torch.autograd.grad(loss, list(learnt.values()), allow_unused=True)
            except RuntimeError as error:
                raise DiffError(f"backward pass: {one_line(error)}") from error
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(learnt.items(), found, strict=True)}
