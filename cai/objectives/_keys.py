"""Checks of the objectives' keys. Each raises `ValueError` with the text that the user reads."""

from math import inf
from typing import Any


def above_zero(objective: Any, name: str) -> None:
    value = getattr(objective, name)
    if not 0 < value < inf:
        raise ValueError(f"'{name}' is {value}; it must be above 0")


def not_negative(objective: Any, name: str) -> None:
    value = getattr(objective, name)
    if not 0 <= value < inf:
        raise ValueError(f"'{name}' is {value}; it must be 0 or above, and finite")


def fraction(objective: Any, name: str, *, above: bool = False) -> None:
    """Below one half, and at or `above` 0."""
    value = getattr(objective, name)
    if not 0 <= value < 0.5 or (above and value == 0):
        least = "above 0" if above else "at least 0"
        raise ValueError(f"'{name}' is {value}; it must be {least} and below 0.5")
