"""The learning rate of each step: up in a line, down along half a cosine."""

import math


def warmup_cosine(step: int, *, steps: int, lr: float, min_lr: float = 0.0, warmup: int = 0) -> float:
    """The rate for step 0, 1, ..., steps - 1: lr / warmup at first, lr after `warmup` steps, then down towards min_lr.

    Source: Loshchilov & Hutter, "SGDR" (2017), eq. 5, one cycle.
    """
    if step < warmup:
        # early gradients are large and Adam's averages still young: small steps until both settle
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
