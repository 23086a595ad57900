"""AdamW: steps of about equal size in every direction, and weights that shrink by themselves.

Papers: Kingma & Ba, "Adam" (2015), algorithm 1; Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019),
algorithm 2. The torch._foreach functions do one operation on a list of tensors, without a Python loop over them.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class AdamW:
    """Adam with decoupled weight decay, computed as torch.optim.AdamW does.

    params: tensors, or groups {"params": tensors, "lr": ..., "betas": ..., "eps": ..., "weight_decay": ...} where what
    is left out takes the value given here. A parameter without a gradient is left alone, decay included.
    `param_groups` and `state` look as in torch's optimizers, so that tools can read them.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        given = list(params)
        groups = [each for each in given if isinstance(each, dict)] or [{"params": given}]
        self.param_groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state = {
            p: {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)} for p in self.parameters()
        }

    def parameters(self) -> list[Tensor]:
        """All tensors of all groups, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients in `.grad`."""
        for group in self.param_groups:
            if params := [p for p in group["params"] if p.grad is not None]:
                self._update(params, group["lr"], group["betas"], group["eps"], group["weight_decay"])

    def _update(
        self, params: list[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        beta1, beta2 = betas
        grads = [p.grad for p in params if p.grad is not None]
        states = [self.state[p] for p in params]
        for state in states:
            state["step"] += 1
        m = [state["exp_avg"] for state in states]
        v = [state["exp_avg_sq"] for state in states]
        # decay is not part of the gradient: divided by sqrt(v), it would shrink the quiet weights most
        if weight_decay:
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        # m = beta1 m + (1 - beta1) g: where to go.  v = beta2 v + (1 - beta2) g^2: how loud it usually is
        torch._foreach_lerp_(m, grads, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
        # both averages start at 0 and are too small at first: after t steps by 1 - beta^t
        m_scale = [1 - beta1 ** state["step"] for state in states]
        v_scale = [math.sqrt(1 - beta2 ** state["step"]) for state in states]
        # p = p - lr (m / m_scale) / (sqrt(v) / v_scale + eps); the fraction times v_scale saves a pass over v
        roots = torch._foreach_sqrt(v)
        torch._foreach_add_(roots, [eps * scale for scale in v_scale])
        torch._foreach_addcdiv_(params, m, roots, [-lr * b / a for a, b in zip(m_scale, v_scale, strict=True)])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters():
            p.grad = None

    def arrays(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: each parameter's step and averages, by its place."""
        states = enumerate(self.state[p] for p in self.parameters())
        return {f"{i}.{key}": torch.as_tensor(value) for i, state in states for key, value in state.items()}

    def load_arrays(self, arrays: dict[str, Tensor]) -> None:
        """Go on from what `arrays` gave."""
        for i, p in enumerate(self.parameters()):
            state = self.state[p]
            state["step"] = int(arrays[f"{i}.step"])
            state["exp_avg"].copy_(arrays[f"{i}.exp_avg"])
            state["exp_avg_sq"].copy_(arrays[f"{i}.exp_avg_sq"])
