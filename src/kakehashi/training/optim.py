"""Optimizers: AdamW for every parameter, Muon for the matrices of hidden layers.

Papers: Kingma & Ba, "Adam" (2015), algorithm 1; Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019),
algorithm 2; Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
kellerjordan.github.io). The torch._foreach functions do one operation on a list of tensors, without a Python loop over
them.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class Optimizer:
    """What both have in common. A subclass names its state in `slots` and defines `update`.

    params: tensors, or groups {"params": tensors, "lr": ..., ...} where what is left out takes the value given to the
    optimizer. A parameter without a gradient is left alone, decay included. `param_groups` and `state` look as in
    torch's optimizers, so that tools can read them.
    """

    slots: Sequence[str] = ()  # tensors of the parameter's shape, 0 at first

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], **defaults: Any):
        given = list(params)
        groups = [each for each in given if isinstance(each, dict)] or [{"params": given}]
        self.param_groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state = {p: {"step": 0, **{slot: torch.zeros_like(p) for slot in self.slots}} for p in self.parameters()}

    def parameters(self) -> list[Tensor]:
        """All tensors of all groups, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients in `.grad`."""
        for group in self.param_groups:
            if params := [p for p in group["params"] if p.grad is not None]:
                states = [self.state[p] for p in params]
                for state in states:
                    state["step"] += 1
                self.update(params, [p.grad for p in params], states, group)

    def update(
        self, params: list[Tensor], grads: list[Any], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        """Move the parameters of one group by their gradients."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters():
            p.grad = None

    def arrays(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: each parameter's step and slots, by its place."""
        states = enumerate(self.state[p] for p in self.parameters())
        return {f"{i}.{key}": torch.as_tensor(value) for i, state in states for key, value in state.items()}

    def load_arrays(self, arrays: dict[str, Tensor]) -> None:
        """Go on from what `arrays` gave."""
        for i, p in enumerate(self.parameters()):
            state = self.state[p]
            state["step"] = int(arrays[f"{i}.step"])
            for slot in self.slots:
                state[slot].copy_(arrays[f"{i}.{slot}"])


class AdamW(Optimizer):
    """Steps of about equal size in every direction, and weights that shrink by themselves: as torch.optim.AdamW."""

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(
        self, params: list[Tensor], grads: list[Any], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        """m = beta1 m + (1 - beta1) g: where to go.  v = beta2 v + (1 - beta2) g^2: how loud it usually is."""
        lr, (beta1, beta2) = group["lr"], group["betas"]
        m = [state["exp_avg"] for state in states]
        v = [state["exp_avg_sq"] for state in states]
        # decay is not part of the gradient: divided by sqrt(v), it would shrink the quiet weights most
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_lerp_(m, grads, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
        # both averages start at 0 and are too small at first: after t steps by 1 - beta^t
        m_scale = [1 - beta1 ** state["step"] for state in states]
        v_scale = [math.sqrt(1 - beta2 ** state["step"]) for state in states]
        # p = p - lr (m / m_scale) / (sqrt(v) / v_scale + eps); the fraction times v_scale saves a pass over v
        roots = torch._foreach_sqrt(v)
        torch._foreach_add_(roots, [group["eps"] * scale for scale in v_scale])
        torch._foreach_addcdiv_(params, m, roots, [-lr * b / a for a, b in zip(m_scale, v_scale, strict=True)])


class Muon(Optimizer):
    """Steps of about equal size in every direction of a matrix: the momentum, its singular values brought to about 1.

    For the matrices of hidden layers; embeddings, heads, gains and biases belong to AdamW. More than two axes are taken
    as a matrix with the first as its rows. Deviation: in the parameter's own dtype, not in bfloat16. Raises ValueError
    for a parameter that is no matrix.
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
                raise ValueError(f"Muon is for matrices, got a parameter of shape {tuple(p.shape)}: give it to AdamW")

    def update(
        self, params: list[Tensor], grads: list[Any], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        """b = beta b + (1 - beta) g;  p = p - lr orthogonal((1 - beta) g + beta b)."""
        lr, beta = group["lr"], group["momentum"]
        for p, g, state in zip(params, grads, states, strict=True):
            b = state["momentum_buffer"].lerp_(g, 1 - beta)
            # Nesterov: the gradient itself counts once more, as if seen from one step on
            towards = g.lerp(b, beta) if group["nesterov"] else b
            matrix = towards.flatten(1)  # (rows, columns)
            # a matrix with more rows than columns has a smaller root mean square when orthogonal: made up for
            scale = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
            p.mul_(1 - lr * group["weight_decay"])
            p.add_(orthogonal(matrix, group["ns_steps"]).reshape(p.shape), alpha=-lr * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """U V^T of matrix = U S V^T, nearly: singular values between about 0.7 and 1.2 (Newton-Schulz, 5th order).

    Each step takes every singular value s to a s + b s^3 + c s^5. The coefficients are Jordan's: chosen for the
    steepest rise at 0, so that small values come up in five steps, at the price of not settling at 1 exactly.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix  # the smaller product
    x = x / (x.norm() + 1e-7)  # all singular values in [0, 1]
    for _ in range(steps):
        square = x @ x.T
        polynomial = torch.addmm(square, square, square, beta=b, alpha=c)  # b X X^T + c (X X^T)^2
        x = torch.addmm(x, polynomial, x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
