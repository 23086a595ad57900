"""Reverse-mode differentiation on NumPy alone."""

from kakehashi.autograd import functional, nn, ops, optim
from kakehashi.autograd.draw import draw
from kakehashi.autograd.gradcheck import GradientError, gradcheck
from kakehashi.autograd.tensor import AutogradError, ShapeError, Tensor, grad, no_grad, record
from kakehashi.autograd.trace import NotFinite, trace_nan
from kakehashi.autograd.value import Value

__all__ = [
    "AutogradError",
    "GradientError",
    "NotFinite",
    "ShapeError",
    "Tensor",
    "Value",
    "draw",
    "functional",
    "grad",
    "gradcheck",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "record",
    "trace_nan",
]
