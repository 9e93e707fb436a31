"""How many requests an endpoint gets at once. What it can take is found out by asking, as TCP does it."""

import math
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Load:
    """Slow start, additive increase, multiplicative decrease (RFC 5681, section 3.1), in requests.

    `most` is never passed. Times are seconds of one clock that only goes forward.
    """

    most: int
    outstanding: int = 0
    limit: float = field(init=False)
    _threshold: float = field(init=False)
    _cut: float = -math.inf
    _paused_until: float = -math.inf

    def __post_init__(self) -> None:
        self.limit = self._threshold = float(self.most)

    def has_room(self, now: float) -> bool:
        return self.outstanding < int(self.limit) and now >= self._paused_until

    def answered(self) -> None:
        """One more at once: with every answer up to the threshold, with every full round past it."""
        self.limit = min(self.most, self.limit + (1 if self.limit < self._threshold else 1 / self.limit))

    def overloaded(self, sent: float, now: float, wait: float) -> None:
        """Half as many from now on, and none for `wait` seconds.

        What was sent before the last cut met the load of before it, and cuts no further.
        """
        self._paused_until = max(self._paused_until, now + wait)
        if sent > self._cut:
            self.limit = self._threshold = max(1.0, self.limit / 2)
            self._cut = now

    def restart(self) -> None:
        """Begin with one: the endpoint has come back from the dead."""
        self.limit = 1.0
