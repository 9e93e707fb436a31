"""Numbers out of verdict rows: shares with Wilson intervals, means with normal ones."""

from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import fmean, stdev

from cai.evals import Number, VerdictRow
from cai.evals._intervals import Z95, wilson


def share(name: str, of: str, hits: Sequence[bool], group: str = "") -> Number:
    """The share of true ones. No rows: nothing is known, value nan and interval (0, 1)."""
    low, high = wilson(sum(hits), len(hits))
    value = sum(hits) / len(hits) if hits else float("nan")
    return Number(name=name, of=of, value=value, low=low, high=high, n=len(hits), group=group)


def mean(name: str, of: str, values: Sequence[float]) -> Number:
    """The mean, with the normal interval mean +- 1.96 s / sqrt(n)."""
    middle = fmean(values) if values else float("nan")
    half = Z95 * stdev(values) / sqrt(len(values)) if len(values) > 1 else float("nan")
    return Number(name=name, of=of, value=middle, low=middle - half, high=middle + half, n=len(values))


def by(key: str, rows: Iterable[VerdictRow]) -> dict[str, list[VerdictRow]]:
    """Rows by the text under a key, in the order in which the texts first occur."""
    found: dict[str, list[VerdictRow]] = {}
    for row in rows:
        found.setdefault(str(row[key]), []).append(row)
    return found
