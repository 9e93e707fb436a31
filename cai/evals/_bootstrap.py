"""Bootstrap over prompts (Efron and Tibshirani 1993), for what no formula gives an interval of.

Whatever is bootstrapped is a function of sums over prompts, so a resample is a vector of sums and no row is
looked at twice. The draws are a function of the seed alone.
"""

from collections.abc import Callable, Sequence
from math import nan, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from cai.evals._intervals import Interval, student

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TIMES = 2000
# Above so many prompts the sums are drawn from the normal distribution that they have come to by then.
MANY = 5000
# Prompts drawn at a time, so that a resample of many takes little memory.
_BLOCK = 1 << 20


def resampled(sums: Sequence[Sequence[float]], times: int = TIMES, seed: int = 0) -> "Floats":
    """(times, k) sums over resampled prompts; `sums` is (prompts, k), one vector of sums a prompt."""
    import numpy as np

    rows = np.asarray(sums, dtype=np.float64)
    count, width = rows.shape
    random = np.random.Generator(np.random.PCG64(seed))
    if count > MANY:
        spread = np.atleast_2d(np.cov(rows, rowvar=False)) * count
        return random.multivariate_normal(rows.sum(0), spread, times, method="eigh")
    found = np.empty((times, width))
    step = max(1, _BLOCK // count)
    for start in range(0, times, step):
        drawn = random.integers(count, size=(min(step, times - start), count))
        offsets = np.arange(len(drawn))[:, None] * count
        often = np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * count)
        found[start : start + len(drawn)] = often.reshape(len(drawn), count) @ rows
    return found


def percentiles(values: "Floats", prompts: int) -> Interval:
    """The middle 95 % of bootstrap values over so many prompts (two at least), nan ones left out.

    With few prompts it is a little more than 95 %: plain percentiles lack Student's t and the n / (n - 1)
    (Hesterberg 2015, "expanded percentiles").
    """
    import numpy as np

    tail = NormalDist().cdf(-student(prompts - 1) * sqrt(prompts / (prompts - 1)))
    low, high = np.nanquantile(values, (tail, 1 - tail))
    return float(low), float(high)


def bootstrap(
    sums: Sequence[Sequence[float]], statistic: "Callable[[Floats], Any]", seed: int = 0
) -> tuple[float, Interval]:
    """A statistic with its percentile interval over prompts.

    `statistic` takes sums (..., k) and returns (...); it is called with the sums of all prompts, (1, k), and
    with those of the resamples. The interval of fewer than two prompts is nan.
    """
    import numpy as np

    whole = np.asarray(sums, dtype=np.float64).sum(0, keepdims=True)
    value = float(np.asarray(statistic(whole))[0])
    if len(sums) < 2:
        return value, (nan, nan)
    return value, percentiles(np.asarray(statistic(resampled(sums, seed=seed))), len(sums))
