"""Kakehashi (架け橋): rebuild the core models from primitives; check, predict, break and ship them."""

__version__ = "0.1.0"


class Mistake(Exception):
    """Something a person can put right: one line that says what was seen and what to do.

    The faces print it without a traceback and exit with `exit_code` (2: the call was wrong).
    """

    exit_code = 2
