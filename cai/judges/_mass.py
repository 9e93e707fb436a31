"""Whether given options hold enough of the probability to be a verdict."""

import math
from collections.abc import Sequence


def check_min_mass(min_mass: float) -> None:
    """Refuse, with a `ValueError`, what is no probability."""
    if not 0 <= min_mass <= 1:
        raise ValueError(f"'min_mass' is {min_mass:g}; write a number from 0 to 1")


def no_verdict(logps: Sequence[float], min_mass: float) -> str | None:
    """Why options with these log-probabilities are no verdict; None when they are one."""
    mass = math.fsum(math.exp(logp) for logp in logps)
    if mass < min_mass or mass == 0:
        return f"no verdict: the options have {mass:.3f} of the probability"
    return None
