"""Whether verdicts are as sure as they are right: bins of equal mass, and the expected calibration error.

A verdict p has the confidence max(p, 1 - p), and is right when the better answer has more than half; an exact
half names nobody and is half right.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING

from cai.evals._bootstrap import resampled
from cai.evals._intervals import WHOLE, Z95, Interval, totals, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 10
LEAST = 20
_HALVINGS = 40
_DIGITS = 9


def won(p: float) -> float:
    """Whether more than half names it; an exact half is half a win."""
    return 1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One verdict against the truth: `p` is the probability it gives to the better of two answers."""

    prompt: str
    p: float

    @property
    def confidence(self) -> float:
        # Rounded, so that p and 1 - (1 - p) are one confidence and fall into one bin.
        return round(max(self.p, 1 - self.p), _DIGITS)

    @property
    def right(self) -> float:
        return won(self.p)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Verdicts of like confidence, from `low` to `high` inclusive."""

    low: float
    high: float
    judged: tuple[Judged, ...]

    @property
    def confidence(self) -> float:
        return sum(one.confidence for one in self.judged) / len(self.judged)


def bins(judged: Sequence[Judged]) -> list[Bin]:
    """Bins of about as many verdicts each, sure ones last; equal confidences stay together.

    There are at most BINS, and not so many that they would hold fewer than LEAST verdicts.
    """
    if not judged:
        return []
    most = max(1, min(BINS, len(judged) // LEAST))
    ordered = sorted(judged, key=lambda one: one.confidence)
    confidences = [one.confidence for one in ordered]
    cuts = [confidences[len(ordered) * at // most] for at in range(most)]
    edges = [*sorted({bisect_left(confidences, cut) for cut in cuts}), len(ordered)]
    return [
        Bin(low=confidences[start], high=confidences[end - 1], judged=tuple(ordered[start:end]))
        for start, end in pairwise(edges)
    ]


def calibration_error(judged: Sequence[Judged]) -> tuple[float, Interval]:
    """The expected calibration error: mean |right - confidence| over bins of equal mass, by their mass.

    There must be one verdict at least. (Naeini, Cooper and Hauskrecht 2015.) Noise alone makes it positive,
    and percentiles of a bootstrap would count that noise twice. So the interval inverts a test: its ends are
    the errors, of the same shape over the bins, under which a value as large (as small) as the one found
    turns up in 2.5 % of bootstrap draws (Carpenter 1999). It goes down to 0 when noise alone explains the
    value; else it is no narrower than that of the sum of the gaps with their signs, of which the absolute
    values take away spread but no doubt.
    """
    import numpy as np

    found = bins(judged)
    rows = [
        (one.prompt, [(one.right - one.confidence) * (at == place) for at in range(len(found))])
        for place, some in enumerate(found)
        for one in some.judged
    ]
    sums = totals(rows)
    gaps = np.asarray(sums).sum(0) / len(judged)
    value = float(np.abs(gaps).sum())
    if len(sums) < 2:
        return value, WHOLE
    counts = np.array([len(place.judged) for place in found])
    noise = (resampled(sums) / len(judged) - gaps) * np.sqrt(counts / np.maximum(counts - 1, 1))
    low = value * _scale_at(gaps, noise, value, 0.975)
    high = value * _scale_at(gaps, noise, value, 0.025)
    if low > 0:
        middle, half = (low + high) / 2, Z95 * float((noise @ np.sign(gaps)).std())
        low, high = max(0.0, min(low, middle - half)), max(high, middle + half)
    hidden = _hidden(found) / len(judged)
    low = max(0.0, value - hypot(value - low, hidden))
    return value, (low, value + hypot(max(high, value) - value, hidden))


def _hidden(found: Sequence[Bin]) -> float:
    """What a bootstrap cannot see: bins without a single error, or without a hit, seem to know no noise.

    Wilson's interval of all of them together says how many could have been otherwise.
    """
    distances = []
    for word in (0.0, 1.0):
        alike = [
            one for place in found if {one.right for one in place.judged} == {word} for one in place.judged
        ]
        prompts = len({one.prompt for one in alike})
        if prompts:
            distances.append(len(alike) * (1 - wilson(prompts, prompts)[0]))
    return hypot(*distances)


def _scale_at(gaps: "Floats", noise: "Floats", value: float, quantile: float) -> float:
    """How many times the gaps make `value` that quantile of the error found under noise; 0 if noise does."""
    import numpy as np

    def reached(scale: float) -> bool:
        return bool(np.quantile(np.abs(scale * gaps + noise).sum(1), quantile) >= value)

    low, high = 0.0, 1.0
    if value == 0 or reached(0.0):
        return 0.0
    while not reached(high):
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
