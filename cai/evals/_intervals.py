"""Interval estimates, each with its source. All are two-sided at 95 %."""

from collections.abc import Iterable, Sequence
from math import cbrt, erf, nan, pi, sqrt, tan

Z95 = 1.959963984540054
WHOLE = (0.0, 1.0)
# Of fewer draws the skewness cannot be told.
SKEWED = 10

Interval = tuple[float, float]


def wilson(successes: float, n: float, z: float = Z95) -> Interval:
    """The score interval of a proportion (Wilson 1927), which keeps its coverage near 0 and 1 and at small n.

    With n = 0 nothing is known: (0, 1). On average over proportions it covers 95 %; at a given one it swings
    about that by some points while n is in the tens (Brown, Cai and DasGupta 2001).
    """
    if n == 0:
        return WHOLE
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * sqrt(max(share * (1 - share), 0.0) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the limits are exactly 0 and 1, which rounding would miss.
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return low, high


def share_interval(hits: Sequence[float], prompts: Sequence[str] | None = None) -> Interval:
    """The Wilson interval of a mean of numbers in [0, 1], at its effective sample size.

    Rows that share a prompt say less than as many prompts would, and halves (ties) vary less than wins and
    losses: n is divided by the design effect, the variance over prompts over that of n independent yes-or-no
    rows, and scaled for few prompts by (z / t)^2 (Korn and Graubard 1998; Dean and Pagano 2015). Where all
    rows are alike nothing can be seen of the design, and n is the number of prompts. Unlike a bootstrap it
    does not end in width zero where nothing ever failed.
    """
    n = len(hits)
    alone = prompts is None or len(set(prompts)) == n
    if n < 2 or (alone and all(hit in (0, 1) for hit in hits)):
        return wilson(sum(hits), n)
    keys = range(n) if prompts is None else prompts
    sums = totals((key, (hit, 1.0)) for key, hit in zip(keys, hits, strict=True))
    share = sum(hits) / n
    spread = share * (1 - share) / n
    if spread <= 0:
        return wilson(share * len(sums), len(sums))
    if len(sums) < 2:
        return WHOLE
    design = _variance(sums, share) / spread
    # Where every prompt has the same share, rounding is all that is left of the variance.
    effective = n if design < 1e-9 else n / design
    effective *= (Z95 / student(len(sums) - 1)) ** 2
    return wilson(share * effective, effective)


def mean_interval(values: Sequence[float], prompts: Sequence[str] | None = None) -> Interval:
    """Student's interval of a mean, the rows of a prompt counting as one draw (Liang and Zeger 1986).

    From SKEWED prompts on it follows their skewness: of k = skewness / sqrt(n) the limits are not t but
    3 / k (cbrt(1 + k (t - k / 6)) - 1) deviations away (Hall 1992, "On the removal of skewness by
    transformation"). What is rarely large, such as squared errors, is else missed above far more often than
    below. It is +- t for what is not skewed, and 3 / |k| deviations at most, where the formula turns. With
    fewer than two prompts nothing is known: nan.
    """
    keys = range(len(values)) if prompts is None else prompts
    sums = totals((key, (value, 1.0)) for key, value in zip(keys, values, strict=True))
    if len(sums) < 2:
        return nan, nan
    middle = sum(values) / len(values)
    deviation, t = sqrt(_variance(sums, middle)), student(len(sums) - 1)
    skew = _skewness(sums, middle) / sqrt(len(sums)) if len(sums) >= SKEWED else 0.0
    return middle - deviation * _untransformed(t, skew), middle - deviation * _untransformed(-t, skew)


def _untransformed(t: float, skew: float) -> float:
    """Where a skewed mean, in its deviations, is when one without skew is at t."""
    return t if abs(skew) < 1e-9 else 3 / skew * (cbrt(max(0.0, 1 + skew * (t - skew / 6))) - 1)


def added(*parts: tuple[float, Interval]) -> Interval:
    """The interval of a sum of independent estimates from their own values and intervals.

    The distances from value to limit add up in squares (Zou and Donner 2008, "MOVER").
    """
    middle = sum(value for value, _ in parts)
    below = sqrt(sum((value - low) ** 2 for value, (low, _) in parts))
    above = sqrt(sum((high - value) ** 2 for value, (_, high) in parts))
    return middle - below, middle + above


def totals(rows: Iterable[tuple[object, Sequence[float]]]) -> list[list[float]]:
    """The sums of the rows' vectors by key, in the order in which the keys first occur."""
    found: dict[object, list[float]] = {}
    for key, vector in rows:
        sums = found.setdefault(key, [0.0] * len(vector))
        for at, value in enumerate(vector):
            sums[at] += value
    return list(found.values())


def student(freedom: int, z: float = Z95) -> float:
    """The quantile of Student's t where the normal one is `z`.

    Exact for 1 and 2 degrees of freedom; from 3 on a series (Abramowitz and Stegun 26.7.5), for the default z
    within 1 % of the truth.
    """
    if freedom <= 2:
        inside = erf(z / sqrt(2))
        return tan(pi * inside / 2) if freedom == 1 else inside * sqrt(2 / (1 - inside**2))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    found: float = z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
    return found


def _variance(sums: Sequence[Sequence[float]], ratio: float) -> float:
    """The variance of (sum of the firsts) / (sum of the seconds) over clusters."""
    count, whole = len(sums), sum(second for _, second in sums)
    squares = sum((first - ratio * second) ** 2 for first, second in sums)
    return squares * count / (count - 1) / whole**2


def _skewness(sums: Sequence[Sequence[float]], ratio: float) -> float:
    """The skewness of what clusters contribute to (sum of the firsts) / (sum of the seconds)."""
    parts = [first - ratio * second for first, second in sums]
    square, cube = (sum(part**power for part in parts) / len(parts) for power in (2, 3))
    return cube / square**1.5 if square > 0 else 0.0
