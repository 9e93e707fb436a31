"""Two answers rated apart, as a preference: shared by the judges that never show them side by side."""

from cai.logistic import sigmoid


def by_difference(first: float, second: float, temperature: float = 1.0) -> float:
    """P(first is better) = sigmoid((first - second) / temperature), after Bradley and Terry (1952).

    `temperature` is the difference of ratings that stands for odds of e to 1.
    """
    return sigmoid((first - second) / temperature)
