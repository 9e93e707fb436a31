"""The logistic function."""

from math import exp


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)."""
    # exp overflows past 709; the value is 0 or 1 long before.
    return 1 / (1 + exp(min(max(-x, -700.0), 700.0)))
