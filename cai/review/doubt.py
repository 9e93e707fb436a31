"""How doubtful a comparison is, and which of many are the most doubtful."""

from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest
from itertools import combinations
from math import log
from typing import Literal

from cai.annotations import spread
from cai.errors import CaiError
from cai.records import Comparison, draw

By = Literal["entropy", "orders", "panel"]


def entropy(comparison: Comparison) -> float | None:
    """Of the probabilities that training uses, as a share of the most that K candidates can have."""
    bits = sum(-p * log(p) for p in comparison.probabilities if p > 0)
    return bits / log(len(comparison.candidates))


def orders(comparison: Comparison) -> float | None:
    """How far apart two orders of one annotator are at most (total variation); None where nobody saw two."""
    distances = [
        sum(abs(p - q) for p, q in zip(one, other, strict=True)) / 2
        for annotation in comparison.annotations
        for one, other in combinations(annotation.orders, 2)
    ]
    return max(distances, default=None)


def panel(comparison: Comparison) -> float | None:
    """How far the annotators are apart (`cai.annotations.spread`); None where there is but one."""
    return spread(comparison.annotations) if len(comparison.annotations) > 1 else None


MEASURES: Mapping[By, Callable[[Comparison], float | None]] = {
    "entropy": entropy,
    "orders": orders,
    "panel": panel,
}
_NEEDS: Mapping[By, str] = {
    "entropy": "candidates",
    "orders": "two orders of one annotator",
    "panel": "two annotations",
}


def most_doubtful(comparisons: Iterable[Comparison], by: By, count: int, seed: int) -> list[Comparison]:
    """At most `count` comparisons, the most doubtful first; equally doubtful ones in a drawn order.

    No more than `count` are held in memory. Raises `CaiError` when there are comparisons and none of them
    has what the measure needs.
    """
    measured = unmeasured = 0

    def scored() -> Iterable[tuple[float, float, Comparison]]:
        nonlocal measured, unmeasured
        for comparison in comparisons:
            doubt = MEASURES[by](comparison)
            if doubt is None:
                unmeasured += 1
            else:
                measured += 1
                yield doubt, draw(seed, comparison.id, "queue"), comparison

    found = nlargest(count, scored(), key=lambda one: one[:2])
    if unmeasured and not measured:
        others = ", ".join(other for other in MEASURES if other != by)
        raise CaiError(f"no comparison has {_NEEDS[by]}", where=f"--by {by}", next=f"choose one of {others}")
    return [comparison for _, _, comparison in found]
