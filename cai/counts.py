"""How counts are said, wherever they are shown."""

from collections.abc import Mapping


def count(number: int, noun: str) -> str:
    """1,200 rows"""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def reasons(counts: Mapping[str, int]) -> str:
    """12 empty, 3 truncated"""
    return ", ".join(f"{number:,} {reason}" for reason, number in counts.items())
