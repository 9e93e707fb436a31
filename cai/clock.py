"""How long an output took, where several are made at once."""

import time


class Clock:
    """Wall time that the outputs of a chain share, each by the tokens its items took.

    A chain has one engine at work for all its stages, so only together do they have a time. What a stage
    asked of the engine (prompt tokens that were not cached, and generated ones) is its share; while nothing
    was asked, all have equal shares. So the seconds of a chain's outputs add up to the time it took.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._stopped: float | None = None
        self._outputs = 0
        self._tokens = 0

    def join(self) -> None:
        """One more output shares this clock."""
        self._outputs += 1

    def count(self, tokens: int) -> None:
        """An output asked the engine for so much."""
        self._tokens += tokens

    def stop(self) -> None:
        """Nothing more is made. Stopping again changes nothing."""
        if self._stopped is None:
            self._stopped = time.monotonic()

    def share(self, tokens: int) -> float:
        """The seconds of an output that counted so many of all the tokens."""
        passed = (self._stopped or time.monotonic()) - self._started
        return passed * tokens / self._tokens if self._tokens else passed / self._outputs
