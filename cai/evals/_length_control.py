"""Win rates at equal length: a logistic regression in which the lengths have a term of their own.

After Dubois et al. 2024 (arXiv 2404.04475), without their term for how hard a request is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt, tanh
from statistics import pstdev

from cai.evals._intervals import Interval, student, totals
from cai.logistic import sigmoid

_ROUNDS = 50
_TOLERANCE = 1e-10
# Half a win and half a loss at each of the two ends of length, so that a clean sweep has a finite answer.
_PRIOR = ((1.0, 1.0, 0.5), (-1.0, 1.0, 0.5))

Game = tuple[float, float, float]  # length term, how often, share won


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """One answer against another: won (1, 0 or 0.5), and by how many characters it is longer."""

    prompt: str
    won: float
    longer: float


def at_equal_length(meetings: Sequence[Meeting]) -> tuple[float, Interval]:
    """P(win) where neither is longer: sigmoid(a) of P(win) = sigmoid(a + b tanh(difference / its deviation)).

    The interval is that of `a` with a variance over prompts (Liang and Zeger 1986). There must be a meeting.
    """
    scale = pstdev([one.longer for one in meetings], mu=0.0)
    terms = [tanh(one.longer / scale) if scale else 0.0 for one in meetings]
    games = [(term, 1.0, one.won) for term, one in zip(terms, meetings, strict=True)]
    a, b = _fit([*games, *_PRIOR])
    inverse = _inverse([*games, *_PRIOR], a, b)
    sums = totals((one.prompt, _slope((game,), a, b)) for one, game in zip(meetings, games, strict=True))
    if len(sums) < 2:
        return sigmoid(a), (0.0, 1.0)
    # The first entry of inverse * (sum of outer products) * inverse.
    spread = sum((inverse[0] * one + inverse[1] * other) ** 2 for one, other in sums)
    half = student(len(sums) - 1) * sqrt(spread * len(sums) / (len(sums) - 1))
    return sigmoid(a), (sigmoid(a - half), sigmoid(a + half))


def _fit(games: Sequence[Game]) -> tuple[float, float]:
    """Maximum likelihood by Newton's method; the prior's games keep it finite."""
    a = b = 0.0
    before = _likelihood(games, a, b)
    for _ in range(_ROUNDS):
        slope = _slope(games, a, b)
        first, mixed, last = _inverse(games, a, b)
        step = (first * slope[0] + mixed * slope[1], mixed * slope[0] + last * slope[1])
        if abs(step[0]) + abs(step[1]) < _TOLERANCE:
            break
        # Newton's own step can overshoot; near the end a likelihood only seems to fall, by rounding.
        while (now := _likelihood(games, a + step[0], b + step[1])) < before - 1e-9 * abs(before):
            step = (step[0] / 2, step[1] / 2)
        a, b, before = a + step[0], b + step[1], now
    return a, b


def _likelihood(games: Sequence[Game], a: float, b: float) -> float:
    found = 0.0
    for term, often, won in games:
        odds = a + b * term
        # log(1 + e^odds) without overflow.
        found += often * (won * odds - max(odds, 0.0) - log(1 + exp(-abs(odds))))
    return found


def _slope(games: Sequence[Game], a: float, b: float) -> tuple[float, float]:
    surprises = [(often * (won - sigmoid(a + b * term)), term) for term, often, won in games]
    return sum(one for one, _ in surprises), sum(one * term for one, term in surprises)


def _inverse(games: Sequence[Game], a: float, b: float) -> tuple[float, float, float]:
    """The inverse [[first, mixed], [mixed, last]] of the information."""
    weights = []
    for term, often, _ in games:
        chance = sigmoid(a + b * term)
        weights.append((often * chance * (1 - chance), term))
    whole = sum(one for one, _ in weights)
    mixed = sum(one * term for one, term in weights)
    last = sum(one * term * term for one, term in weights)
    ground = whole * last - mixed * mixed
    return last / ground, -mixed / ground, whole / ground
