"""Reverse-mode differentiation on NumPy alone."""

from kakehashi.autograd import functional, ops
from kakehashi.autograd.tensor import AutogradError, ShapeError, Tensor, grad, no_grad

__all__ = ["AutogradError", "ShapeError", "Tensor", "functional", "grad", "no_grad", "ops"]
