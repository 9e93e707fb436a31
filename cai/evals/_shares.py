"""Numbers out of verdict rows: shares with Wilson intervals, means with Student's.

`prompts`, where given, names the prompt of each row: rows that share one are no independent draws, and the
interval says so.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean

from cai.evals import Number, Unit, VerdictRow
from cai.evals._intervals import mean_interval, share_interval


def share(
    name: str, of: str, hits: Sequence[float], group: str = "", prompts: Sequence[str] | None = None
) -> Number:
    """The share of true ones; 0.5 is half a hit. No rows: nothing is known, value nan, interval (0, 1)."""
    low, high = share_interval(hits, prompts)
    value = sum(hits) / len(hits) if hits else float("nan")
    return Number(name=name, of=of, value=value, low=low, high=high, n=len(hits), group=group, unit="share")


def mean(
    name: str,
    of: str,
    values: Sequence[float],
    group: str = "",
    prompts: Sequence[str] | None = None,
    unit: Unit = "plain",
) -> Number:
    """The mean of the values. The interval of fewer than two prompts is nan."""
    low, high = mean_interval(values, prompts)
    value = fmean(values) if values else float("nan")
    return Number(name=name, of=of, value=value, low=low, high=high, n=len(values), group=group, unit=unit)


def prompts_of(rows: Iterable[VerdictRow]) -> list[str]:
    """The prompt of each row."""
    return [str(row["prompt"]) for row in rows]


def by(key: str, rows: Iterable[VerdictRow]) -> dict[str, list[VerdictRow]]:
    """Rows by the text under a key, in the order in which the texts first occur."""
    found: dict[str, list[VerdictRow]] = {}
    for row in rows:
        found.setdefault(str(row[key]), []).append(row)
    return found
