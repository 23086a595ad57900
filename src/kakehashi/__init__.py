"""Kakehashi (架け橋): rebuild the core models from primitives; check, predict, break and ship them."""

__version__ = "0.1.0"
