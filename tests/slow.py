"""An engine that takes its time over every answer: `type = "slow:Slow"`, so that a run can be watched."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from cai.config import execution
from cai.engines import Reply
from cai.engines.scripted import Scripted, ScriptedSession


class Session(ScriptedSession):
    pause = 0.0

    def poll(self) -> Sequence[tuple[int, Reply]]:
        time.sleep(self.pause)
        return super().poll()


@dataclass(frozen=True, kw_only=True)
class Slow(Scripted):
    capacity: int = execution(1)
    pause: float = execution(0.05)

    def open(self) -> Session:
        session = Session(self.answer, capacity=self.capacity)
        session.pause = self.pause
        return session
