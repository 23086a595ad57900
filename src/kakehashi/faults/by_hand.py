"""Faults of backpropagation by hand."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.autograd.by_hand"


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Each backward called twice on what the forward kept, so that a damaged input shows, too; then the whole.

    Tokens stand in several places, gains are not 1, no two axes are of one length but in one case, where all are.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    normal = rng.standard_normal

    def probe(name: str, backward: Callable[..., Any], *given: Any) -> "Probe":
        def run():
            copies = [type(x)(*(part.copy() for part in x)) if isinstance(x, tuple) else x.copy() for x in given]
            for call in ("first", "second"):
                result = backward(*copies)
                for i, g in enumerate(result if isinstance(result, tuple) else (result,)):
                    yield ("grad", call, str(i)), g

        return name, run

    for B, N, C, K, V in ((4, 3, 2, 5, 7), (4, 4, 4, 4, 4)):
        contexts, targets = rng.integers(0, V + 1, (B, N)), rng.integers(0, V, B)
        contexts[0] = contexts[1, 0]
        weights = {
            "embedding.weight": normal((V + 1, C)),
            "hidden.weight": normal((K, N * C)),
            "norm.weight": 1 + normal(K),
            "norm.bias": normal(K),
            "output.weight": normal((V, K)),
            "output.bias": normal(V),
        }
        loss, passed = module.forward(weights, contexts, targets)
        dy, gain, case = normal((B, K)), weights["norm.weight"], f"{V} tokens"
        dx, dlogits = normal((B, N * C)), normal((B, V))
        yield probe(f"embedding, {case}", module.embedding_backward, dx, weights["embedding.weight"], contexts)
        yield probe(f"linear, {case}", module.linear_backward, dlogits, passed.h, weights["output.weight"])
        yield probe(f"norm, {case}", module.batch_norm_backward, dy, passed.norm, gain)
        yield probe(f"norm, short, {case}", module.batch_norm_backward_short, dy, passed.norm, gain)
        yield probe(f"tanh, {case}", module.tanh_backward, dy, passed.h)
        yield probe(f"cross entropy, {case}", module.cross_entropy_backward, passed.scored, targets)
        yield probe(f"cross entropy, short, {case}", module.cross_entropy_backward_short, passed.scored, targets)

        def whole(weights=weights, contexts=contexts, targets=targets):
            loss, passed = module.forward(weights, contexts, targets)
            yield ("loss",), loss
            for name, g in module.backward(weights, passed).items():
                yield ("grad", name), g

        yield f"whole, {case}", whole


FAULTS = (
    Fault(
        "by_hand-embedding-keeps-the-last",
        "backward",
        "repeated_index",
        MODULE,
        (
            Edit(
                "embedding_backward",
                "np.add.at(dtable, contexts, dx.reshape(*contexts.shape, -1))",
                "dtable[contexts] += dx.reshape(*contexts.shape, -1)",
            ),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-weight-transposed",
        "backward",
        "transposition",
        MODULE,
        (Edit("linear_backward", "dy.T @ x", "x.T @ dy"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "by_hand-bias-averaged",
        "backward",
        "broadcast",
        MODULE,
        (Edit("linear_backward", "dy.sum(0)", "dy.mean(0)"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "by_hand-norm-gain-unused",
        "backward",
        "chain",
        MODULE,
        (Edit("batch_norm_backward", "dnormed = dy * weight", "dnormed = dy"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-norm-gain-of-centred",
        "backward",
        "saved_value",
        MODULE,
        (
            Edit("batch_norm_backward", "(dy * normed).sum(0)", "(dy * centred).sum(0)"),
            Edit(
                "batch_norm_backward",
                "centred, inverse, normed = kept",
                "centred, inverse = kept.centred, kept.inverse",
            ),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "by_hand-norm-forgets-the-variance",
        "backward",
        "forgotten_path",
        MODULE,
        (
            Edit("batch_norm_backward", "dcentred += 2 / B * centred * dvariance", ""),
            Edit("batch_norm_backward", "dvariance = -0.5 * inverse**3 * dinverse", ""),
            Edit("batch_norm_backward", "dinverse = (dnormed * centred).sum(0)", ""),
            Edit(
                "batch_norm_backward", "centred, inverse, normed = kept", "inverse, normed = kept.inverse, kept.normed"
            ),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-norm-forgets-the-mean",
        "backward",
        "forgotten_path",
        MODULE,
        (
            Edit("batch_norm_backward", "dx = dcentred + dmean / B", ""),
            Edit("batch_norm_backward", "dmean = -dcentred.sum(0)", ""),
            Edit("batch_norm_backward", "return dx, dweight, dbias", "return dcentred, dweight, dbias"),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-norm-sample-variance",
        "backward",
        "denominator",
        MODULE,
        (Edit("batch_norm_backward", "2 / B", "2 / (B - 1)"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-norm-root-sign",
        "backward",
        "sign",
        MODULE,
        (Edit("batch_norm_backward", "-0.5 * inverse**3", "0.5 * inverse**3"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-norm-root-slope",
        "backward",
        "slope",
        MODULE,
        (Edit("batch_norm_backward", "inverse**3", "inverse**2"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-norm-short-sums",
        "backward",
        "denominator",
        MODULE,
        (Edit("batch_norm_backward_short", "(dy * normed).mean(0)", "(dy * normed).sum(0)"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "by_hand-tanh-of-its-output",
        "backward",
        "saved_value",
        MODULE,
        (Edit("tanh_backward", "1 - h**2", "1 - np.tanh(h) ** 2"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-loss-summed",
        "backward",
        "denominator",
        MODULE,
        (Edit("cross_entropy_backward", "-1 / B", "-1"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "by_hand-loss-forgets-the-total",
        "backward",
        "forgotten_path",
        MODULE,
        (
            Edit("cross_entropy_backward", "dshifted += dcounts * counts", ""),
            Edit("cross_entropy_backward", "dcounts = dtotal", ""),
            Edit("cross_entropy_backward", "dtotal = -dlogs.sum(1, keepdims=True) / total", ""),
            Edit("cross_entropy_backward", "counts, total = kept", "counts = kept.counts"),
        ),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "by_hand-loss-every-row",
        "backward",
        "place",
        MODULE,
        (
            Edit(
                "cross_entropy_backward_short",
                "dlogits[np.arange(len(targets)), targets] -= 1",
                "dlogits[:, targets] -= 1",
            ),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "by_hand-loss-damages-what-was-kept",
        "backward",
        "saved_value",
        MODULE,
        (
            Edit(
                "cross_entropy_backward_short",
                "dlogits = kept.counts / kept.total",
                "dlogits = kept.counts\ndlogits /= kept.total",
            ),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "by_hand-tanh-left-out",
        "backward",
        "chain",
        MODULE,
        (
            Edit("backward", "dy = tanh_backward(dh, h)", ""),
            Edit("backward", "batch_norm_backward(dy, norm, $gain)", "batch_norm_backward(dh, norm, $gain)"),
        ),
        changes=("grad",),
        level=2,
    ),
)
