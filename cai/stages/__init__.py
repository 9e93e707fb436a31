"""A stage is a pure function of one item: it asks a model and makes rows of the replies.

`work(item)` either returns its rows, or is a generator that yields lists of requests, is sent the replies in
the same order, and returns its rows:

    def work(self, record):
        [reply] = yield [Request(messages=record.prompt, want=self.sampling, seed=...)]
        return [record.then(Turn(kind="response", text=reply.text))]

So a stage knows no engine, batch or file and can be tested with strings, several rounds of asking need no
state machine, and stages and judges compose by `yield from`. At least one row comes of every item, if only a
`Reject`.

A stage is a frozen keyword-only dataclass; its fields are its TOML keys and its command-line options.
"""

import inspect
from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from cai.engines import Reply, Request
from cai.records import Row

T = TypeVar("T")

# Yields requests, is sent their replies, returns a T.
Asking = Generator[list[Request], Sequence[Reply], T]


class Stage(Protocol):
    """`takes` is the type of row that comes in, `makes` the type that goes out (besides `Reject`).

    `groups` is true for a stage whose item is the list of all rows of one prompt; else each row is an item.

    A stage that groups may also have `surveys`, true where it must know of all its items before it works on
    one: then `survey(items)` returns the stage that does the work. Where it is not called (an estimate), the
    stage itself works.
    """

    takes: ClassVar[type]
    makes: ClassVar[type]
    groups: ClassVar[bool]

    def work(self, item: Any) -> Asking[list[Row]] | list[Row]: ...


def asks(plugin: Any) -> bool:
    """Whether a stage or an eval (or the class of one) asks a model: whether its `work` is a generator.

    One whose `work` hands on a generator of another function says so with a class attribute `asks = True`.
    """
    return bool(getattr(plugin, "asks", inspect.isgeneratorfunction(plugin.work)))


def together(asking: Sequence[Asking[T]]) -> Asking[list[T]]:
    """Run several askings side by side: their requests go out in one list, each gets its own replies."""
    waiting: dict[int, list[Request]] = {}
    done: dict[int, T] = {}

    def advance(at: int, replies: Sequence[Reply] | None) -> None:
        try:
            waiting[at] = next(asking[at]) if replies is None else asking[at].send(replies)
        except StopIteration as stop:
            done[at] = stop.value
            waiting.pop(at, None)

    for at in range(len(asking)):
        advance(at, None)
    while waiting:
        asked = [(at, len(requests)) for at, requests in waiting.items()]
        replies = yield [request for requests in waiting.values() for request in requests]
        start = 0
        for at, count in asked:
            advance(at, replies[start : start + count])
            start += count
    return [done[at] for at in range(len(asking))]
