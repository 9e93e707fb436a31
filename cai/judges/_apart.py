"""Two answers rated apart, as a preference: shared by the judges that never show them side by side."""

import math


def by_difference(first: float, second: float, temperature: float = 1.0) -> float:
    """P(first is better) = sigmoid((first - second) / temperature), after Bradley and Terry (1952).

    `temperature` is the difference of ratings that stands for odds of e to 1.
    """
    odds = (first - second) / temperature
    # exp overflows past 709; the probability is 0 or 1 long before.
    return 1 / (1 + math.exp(min(max(-odds, -700.0), 700.0)))
