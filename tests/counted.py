"""An engine outside the package that counts what it is asked: `type = "counted:Counted"`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cai.engines import Options, Reply, Request
from cai.records import digest


class Session:
    capacity = 4

    def __init__(self, engine: "Counted") -> None:
        self.engine = engine
        self.waiting: list[tuple[int, Request]] = []

    def submit(self, ticket: int, request: Request) -> None:
        if len(Counted.asked) == Counted.stop_after:
            raise KeyboardInterrupt
        Counted.asked.append(request)
        self.waiting.append((ticket, request))

    def poll(self) -> list[tuple[int, Reply]]:
        answered = [(ticket, self.reply(request)) for ticket, request in reversed(self.waiting)]
        self.waiting = []
        return answered

    def reply(self, request: Request) -> Reply:
        mark = digest(request.messages, request.seed, self.engine.model)
        if isinstance(request.want, Options):
            likes = int(mark[:4], 16) % 2
            return Reply(logps=(-0.2 - likes, -1.2 + likes), model=self.engine.model, prompt_tokens=2)
        return Reply(text=f"text {mark[:6]}", model=self.engine.model, prompt_tokens=2, new_tokens=3)

    def close(self) -> None:
        Counted.open_now.remove(self.engine.model)


@dataclass(frozen=True, kw_only=True)
class Counted:
    model: str = "counted"

    asked: ClassVar[list[Request]] = []
    opened: ClassVar[list[str]] = []
    open_now: ClassVar[list[str]] = []
    stop_after: ClassVar[int | None] = None

    def open(self) -> Session:
        assert self.model not in self.open_now
        self.opened.append(self.model)
        self.open_now.append(self.model)
        return Session(self)

    def identity(self) -> dict[str, Any]:
        return {"engine": "counted", "model": self.model}


def reset(stop_after: int | None = None) -> None:
    for seen in (Counted.asked, Counted.opened, Counted.open_now):
        seen.clear()
    Counted.stop_after = stop_after
