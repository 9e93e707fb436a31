"""Whether verdicts are as sure as they are right: bins of equal mass, and the expected calibration error.

A verdict p has the confidence max(p, 1 - p), and is right when the better answer has more than half; an exact
half names nobody and is half right.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING

from cai.evals._gaps import Gaps
from cai.evals._intervals import WHOLE, Z95, Interval, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 10
LEAST = 20
TAIL = 0.025
_HALVINGS = 12
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

    There must be one verdict at least. (Naeini, Cooper and Hauskrecht 2015.) Noise alone makes it positive.
    The interval is the value less that bias, +- the doubt about the sum of the gaps with their signs; of the
    absolute values the spread is less, the doubt is not. Its lower end goes further down to the least error,
    of the same shape over the bins, that explains the value: to 0 where noise alone does. Noise is drawn with
    the chances of being right that an error implies, not with those observed: under an error of 0 a judge is
    right as often as it says (consistency resampling, Broecker and Smith 2007).

    Near 0 it is the interval of a number at a boundary: it holds the value, and no true error lies above it.
    So that it covers 95 % there and not 97.5 %, the lower end is given what the upper one leaves of the 5 %
    (from one-sided to two-sided, as in Feldman and Cousins 1998). It covers more, 98 to 99 % as simulated,
    where there are fewer than some 60 verdicts or 30 prompts.
    """
    import numpy as np

    found = bins(judged)
    ordered = [one for place in found for one in place.judged]
    gaps = Gaps(
        bins=np.repeat(np.arange(len(found)), [len(place.judged) for place in found]),
        sure=np.array([one.confidence for one in ordered]),
        right=np.array([one.right for one in ordered]),
        prompts=[one.prompt for one in ordered],
    )
    value = float(np.abs(gaps.sums).sum()) / len(judged)
    if len(set(gaps.prompts)) < 2:
        return value, WHOLE
    luck, signs = gaps.luck(), np.where(gaps.sums < 0, -1.0, 1.0)

    def under(scale: float) -> tuple["Floats", float, float]:
        """Errors under a hypothesis, the doubt about each, and their bias."""
        truth = scale * gaps.sums
        drawn = gaps.drawn(truth, luck)
        errors = np.abs(drawn).sum(1) / len(judged)
        doubt = Z95 * float(((drawn - truth) @ signs).std()) / len(judged)
        return errors, doubt, float(errors.mean()) - scale * value

    def explains(scale: float) -> bool:
        errors, doubt, bias = under(scale)
        missed = min(TAIL, float((errors < scale * value - max(0.0, doubt - bias)).mean()))
        return bool(np.quantile(errors, 1 - 2 * TAIL + missed) >= value)

    _, doubt, bias = under(1.0)
    low = max(0.0, min(value * _least(explains), value - bias - doubt))
    above = hypot(max(0.0, doubt - bias), _hidden(found) / len(judged))
    return value, (low, min(1.0, value + above))


def _hidden(found: Sequence[Bin]) -> float:
    """By how much luck could hide an error of another shape: bins without one mistake.

    Wilson's interval of all of them together says how often they could be wrong all the same.
    """
    faultless = [place for place in found if all(one.right == 1 for one in place.judged)]
    prompts = len({one.prompt for place in faultless for one in place.judged})
    chance = wilson(prompts, prompts)[0]
    return sum(
        len(place.judged) * max(0.0, abs(chance - place.confidence) - (1 - place.confidence))
        for place in faultless
    )


def _least(holds: Callable[[float], bool]) -> float:
    """The least scale, 0 or more, at which it holds; it must from some scale on."""
    if holds(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while not holds(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
