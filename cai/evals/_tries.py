"""What a budget of k tries comes to, from n tries of which c succeeded."""

from collections.abc import Sequence
from math import comb


def success_within(k: int, n: int, c: int) -> float:
    """P(at least one of k tries succeeds), k drawn without replacement from n tries with c successes.

    1 - C(n - c, k) / C(n, k): unbiased where the tries are independent, unlike 1 - (1 - c/n)^k (Chen et al.
    2021, arXiv 2107.03374, eq. 1). Needs 1 <= k <= n.
    """
    return 1 - comb(n - c, k) / comb(n, k)


def budgets(most: int) -> Sequence[int]:
    """1, 2, 4, ... and `most`."""
    found = [1]
    while found[-1] * 2 < most:
        found.append(found[-1] * 2)
    return found if found[-1] == most else [*found, most]
