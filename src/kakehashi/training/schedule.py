"""The learning rate of each step: up in a line, then down, along half a cosine or as one over the root of the step."""

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


def noam(step: int, *, lr: float, warmup: int) -> float:
    """The rate for step 0, 1, ...: lr / warmup at first, lr after `warmup` steps, then as 1 / sqrt(step), without end.

    Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 3, whose steps count from 1 and whose lr is
    1 / sqrt(width * warmup).
    """
    nth = step + 1
    return lr * min(nth / max(1, warmup), math.sqrt(max(1, warmup) / nth))
