"""Strengths out of wins and losses (Bradley and Terry 1952), for many tables of wins at once."""

from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Elo points for odds of e.
SCALE = 400 / log(10)
# What is added to the wins of both sides of every pair that met.
PRIOR = 0.5
_ROUNDS = 200
_TOLERANCE = 1e-10
# The furthest that a strength moves in one round: Newton's own step can overshoot.
_STEP = 2.0


def strengths(wins: "Floats") -> "Floats":
    """(..., M) log-strengths, the first one 0, of the (..., M, M) wins of row over column; ties are halves.

    P(i beats j) = 1 / (1 + exp(s_j - s_i)). Half a win is added to both sides of every pair that met, so that
    who never lost has a strength too (as in the Haldane-Anscombe correction of log-odds; of two models it is
    just that). The log-likelihood (Hunter 2004, eq. 2) is concave, and Newton's method finds its maximum. Of
    models that no chain of games connects the strengths are nan: there is nothing to compare them by.
    """
    import numpy as np

    met = (wins + np.swapaxes(wins, -1, -2)) > 0
    padded = wins + PRIOR * met
    games = padded + np.swapaxes(padded, -1, -2)
    count = wins.shape[-1]
    found = np.zeros(wins.shape[:-1])
    joined = _connected(met)
    # A pair that never met, in a table that is given up anyway, would leave Newton a singular matrix.
    games = np.where(joined[..., None, None], games, 1.0 - np.eye(count))
    padded = np.where(joined[..., None, None], padded, 0.5 * (1.0 - np.eye(count)))
    for _ in range(_ROUNDS if count > 1 else 0):
        chance = 1 / (1 + np.exp(found[..., None, :] - found[..., :, None]))
        slope = (padded - games * chance).sum(-1)
        weight = games * chance * (1 - chance)
        curve = np.eye(count) * weight.sum(-1)[..., None] - weight
        step = np.linalg.solve(curve[..., 1:, 1:], slope[..., 1:, None])[..., 0]
        step = np.clip(step, -_STEP, _STEP)
        found[..., 1:] += step
        if np.abs(step).max() < _TOLERANCE:
            break
    return np.where(joined[..., None], found, np.nan)


def _connected(met: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
    """(...) whether all of (..., M, M) are joined by chains of those that met."""
    import numpy as np

    count = met.shape[-1]
    reach = (met | np.eye(count, dtype=bool)).astype(np.int64)
    for _ in range(count.bit_length()):
        reach = np.minimum(reach @ reach, 1)
    return np.asarray(reach.all((-1, -2)))
