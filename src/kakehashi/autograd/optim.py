"""Optimizers: from gradients to better parameters, in the arithmetic of torch.optim.

Papers: Sutskever et al. 2013 (SGD with momentum, in torch's form); Kingma & Ba 2015 (Adam); Loshchilov & Hutter 2019
(AdamW); Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024, kellerjordan.github.io).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kakehashi.autograd.nn import fitting
from kakehashi.autograd.tensor import Array, AutogradError, Tensor, no_grad


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], most: float) -> float:
    """Scale all gradients down together to a norm of at most `most`; all to NaN where one is NaN.

    Returns the norm before.
    """
    listed = [parameters] if isinstance(parameters, Tensor) else parameters
    gradients = [p.grad for p in listed if p.grad is not None]
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients))
    if not norm <= most:
        for g in gradients:
            g *= most / (norm + 1e-6)
    return norm


class Optimizer:
    """What all have in common. A subclass names its state in `slots` and defines `update`.

    params: tensors, or groups {"params": tensors, "lr": ..., ...} where what is left out takes the value given to the
    optimizer. A parameter without a gradient is left alone, decay included. Raises AutogradError for what is no leaf
    that requires a gradient, for one given twice, and where there is none.
    """

    slots: Sequence[str] = ()  # arrays of the parameter's shape, 0 at first

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], **defaults: Any):
        given: list[Any] = [{"params": params}] if isinstance(params, Tensor) else list(params)
        groups = given if any(isinstance(each, dict) for each in given) else [{"params": given}]
        for i, group in enumerate(groups):
            if not isinstance(group, dict) or "params" not in group:
                raise AutogradError(f'{type(self).__name__}: number {i} of its groups is no {{"params": tensors, ...}}')
            if isinstance(group["params"], Tensor):
                raise AutogradError(f"{type(self).__name__} takes a list of tensors, got a bare one: write [x]")
        self.param_groups: list[dict[str, Any]] = [
            {**defaults, **group, "params": list(group["params"])} for group in groups
        ]
        self._check()
        self.state: dict[Tensor, dict[str, Any]] = {
            p: {"step": 0, **{slot: np.zeros_like(p.data) for slot in self.slots}} for p in self.parameters()
        }

    def _check(self) -> None:
        name, parameters = type(self).__name__, self.parameters()
        if not parameters:
            raise AutogradError(f"{name} got no parameters: has its iterator been used before?")
        seen: set[Tensor] = set()
        for i, p in enumerate(parameters):
            if not isinstance(p, Tensor):
                raise AutogradError(f"{name} moves tensors, and parameter {i} is a {type(p).__name__}")
            if p.node is not None:
                raise AutogradError(f"parameter {i} of {name} was made by {p.node.name}: give the leaf it is made of")
            if not p.requires_grad:
                raise AutogradError(f"parameter {i} of {name} requires no gradient: make it with requires_grad=True")
            if p in seen:
                raise AutogradError(f"parameter {i} of {name}, of shape {p.shape}, is given twice: it would move twice")
            seen.add(p)

    def parameters(self) -> list[Tensor]:
        """All tensors of all groups, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    def step(self) -> None:
        """One update from the gradients in `.grad`."""
        with no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.state[p]["step"] += 1
                        self.update(p, p.grad, self.state[p], group)

    def update(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move p by its gradient g."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters():
            p.grad = None

    def arrays(self) -> dict[str, Array]:
        """What a checkpoint keeps: each parameter's step and state, by its place."""
        states = enumerate(self.state[p] for p in self.parameters())
        return {f"{i}.{key}": np.array(value) for i, state in states for key, value in state.items()}

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Go on from what `arrays` gave. Raises AutogradError, nothing changed."""
        name = type(self).__name__
        found = fitting(f"load_arrays of {name}", self.arrays(), arrays)
        for i, p in enumerate(self.parameters()):
            self.state[p] = {"step": int(found[f"{i}.step"]), **{slot: found[f"{i}.{slot}"] for slot in self.slots}}


class SGD(Optimizer):
    """Down the gradient; with momentum, down its running sum, which rolls on where gradients agree.

    weight_decay is added to the gradient. nesterov: the gradient itself counts once more, as if seen from one step on.
    """

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def update(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        """b = momentum b + g;  p = p - lr b."""
        momentum = group["momentum"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p.data
        if momentum:
            b = state["momentum_buffer"]
            b *= momentum
            b += g
            g = g + momentum * b if group["nesterov"] else b
        p.add_(g, alpha=-group["lr"])


class Adam(Optimizer):
    """Steps of about equal size in every direction: the mean gradient over the root of the mean square.

    weight_decay is added to the gradient, and so divided by the root as well: AdamW does not.
    """

    slots = ("exp_avg", "exp_avg_sq")
    decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        """m = beta1 m + (1 - beta1) g: where to go.  v = beta2 v + (1 - beta2) g^2: how loud it usually is."""
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        if decay and self.decoupled:
            p.mul_(1 - lr * decay)
        elif decay:
            g = g + decay * p.data
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m += (1 - beta1) * (g - m)
        v *= beta2
        v += (1 - beta2) * (g * g)
        # both averages start at 0 and are too small at first: after t steps by 1 - beta^t
        m_scale, v_scale = 1 - beta1 ** state["step"], math.sqrt(1 - beta2 ** state["step"])
        # p = p - lr (m / m_scale) / (sqrt(v) / v_scale + eps); the fraction times v_scale saves a pass over v
        root = np.sqrt(v)
        root += group["eps"] * v_scale
        p.add_(np.divide(m, root, out=root), alpha=-lr * v_scale / m_scale)


class AdamW(Adam):
    """Adam, and weights that shrink by themselves; `kakehashi.training.optim.AdamW` on arrays."""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


class Muon(Optimizer):
    """Steps of about equal size in every direction of a matrix: the momentum, its singular values brought to about 1.

    For the matrices of hidden layers; embeddings, heads, gains and biases belong to AdamW. More than two axes are taken
    as a matrix with the first as its rows. Deviation: in the parameter's own dtype, not in bfloat16.
    """

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        nesterov: bool = True,
        ns_steps: int = 5,
    ):
        super().__init__(
            params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, ns_steps=ns_steps
        )
        for p in self.parameters():
            if p.ndim < 2 or not p.numel():
                raise AutogradError(f"Muon is for matrices, got a parameter of shape {p.shape}: give it to AdamW")

    def update(self, p: Tensor, g: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        """b = beta b + (1 - beta) g;  p = p - lr orthogonal((1 - beta) g + beta b)."""
        beta, b = group["momentum"], state["momentum_buffer"]
        b += (1 - beta) * (g - b)
        towards = g + beta * (b - g) if group["nesterov"] else b
        matrix = towards.reshape(len(p), -1)
        # a matrix with more rows than columns has a smaller root mean square when orthogonal: made up for
        scale = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(orthogonal(matrix, group["ns_steps"]).reshape(p.shape), alpha=-group["lr"] * scale)


def orthogonal(matrix: Array, steps: int = 5) -> Array:
    """U V^T of matrix = U S V^T, nearly: singular values between about 0.7 and 1.2 (Newton-Schulz, 5th order).

    Each step takes every singular value s to a s + b s^3 + c s^5. The coefficients are Jordan's: chosen for the
    steepest rise at 0, so that small values come up in five steps, at the price of not settling at 1 exactly.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix  # the smaller product
    x = x / (np.linalg.norm(x) + 1e-7)  # all singular values in [0, 1]
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
