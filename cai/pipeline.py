"""The one runner: streams items through one stage, or several, against engines; each row is written at once.

Nothing waits for anything it does not need. A row that one stage makes is the next stage's item the moment
it is there, a reply goes to its item the moment it is in, and new items are let in only while an engine has
room, so that what is further along is finished first and memory does not grow with the input.
"""

import itertools
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cai.clock import Clock
from cai.engines import Reply, Request, Session
from cai.errors import CaiError, RowError
from cai.journal import Tokens
from cai.records import Reject
from cai.rows import Item, decode, items_for, key_of
from cai.runs import Output, open_output
from cai.stages import Asking

# How many times its capacity an engine has in hand, so that it can fill up again without waiting for us.
_AHEAD = 2
_PROGRESS_SECONDS = 0.5
_UNANSWERED = Reply()
# Sessions outlive a run, so tickets are never used twice in a process.
_TICKETS = itertools.count()


class Worker(Protocol):
    """A stage or an eval: what makes rows of an item."""

    def work(self, item: Any) -> Asking[list[Any]] | list[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Link:
    """A stage, where its rows go, and who answers its requests.

    `identity` is everything that decides the rows. `session` is called at the first request, never when
    there is nothing to ask; links whose calls return the same session share it. The caller closes sessions.
    """

    stage: Worker
    path: Path
    identity: Mapping[str, Any]
    session: Callable[[], Session] | None = None

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a link is: items done, rows and rejects made, tokens generated (earlier processes' included).

    Of the items `fresh` were finished by this process, at `speed` generated tokens per second.
    """

    name: str
    items: int
    rows: int
    rejects: int
    tokens: int
    fresh: int
    speed: float


OnProgress = Callable[[Sequence[Progress]], None]


def run(links: Sequence[Link], source: Iterable[Item], *, on_progress: OnProgress | None = None) -> None:
    """Feed `source` to the first link, and each row it makes to the next at once, until all are complete.

    What is already done is not asked again; a link whose file is complete under the same identity costs
    nothing. Raises `CaiError` when an output was made under another identity or is being written elsewhere.
    Whatever is raised, what was finished stays in the journals and the same call goes on from there.
    """
    if any(getattr(link.stage, "groups", False) for link in links[1:]):
        raise RuntimeError("a stage that groups needs the whole file before it: give it a run of its own")
    with ExitStack() as stack:
        outputs = []
        for link in links:
            outputs.append(output := open_output(link.path, link.identity))
            if output is not None:
                stack.callback(output.close)
        for steps, items in _segments(links, outputs, source):
            _Flow(steps, on_progress).run(items)


class _Step:
    """A link at work."""

    def __init__(self, link: Link, output: Output) -> None:
        self.link = link
        self.output = output
        self.busy: _Busy | None = None
        self.fresh = self.generated = 0

    def progress(self, seconds: float) -> Progress:
        tally = self.output.tally
        return Progress(
            name=self.link.name,
            items=tally.items,
            rows=tally.rows,
            rejects=tally.rejects.total(),
            tokens=tally.tokens[2],
            fresh=self.fresh,
            speed=self.generated / seconds,
        )


def _segments(
    links: Sequence[Link], outputs: Sequence[Output | None], source: Iterable[Item]
) -> Iterator[tuple[list[_Step], Iterable[Item]]]:
    """The links that are not complete, in unbroken chains, each with the items of its first link."""
    steps: list[_Step] = []
    before: Path | None = None
    for link, output in zip(links, outputs, strict=True):
        if output is None:
            if steps:
                yield steps, source
            steps, before = [], link.path
            continue
        if not steps and before is not None:
            source = items_for(link.stage, [before]) if before.stat().st_size else ()
        steps.append(_Step(link, output))
    if steps:
        yield steps, source


@dataclass(eq=False, slots=True)
class _Task:
    """An item at work: its asking, and the replies that are in."""

    step: int
    at: tuple[int, ...]
    key: bytes
    asking: Generator[list[Request], Sequence[Reply], Any]
    replies: list[Reply] = field(default_factory=list)
    missing: int = 0
    tokens: Tokens = (0, 0, 0)

    def take(self, slot: int, reply: Reply) -> None:
        self.replies[slot] = reply
        prompt, cached, new = self.tokens
        self.tokens = (prompt + reply.prompt_tokens, cached + reply.cached_tokens, new + reply.new_tokens)
        self.missing -= 1


class _Busy:
    """A session and the requests it has in hand."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tickets: dict[int, tuple[_Task, int]] = {}

    @property
    def full(self) -> bool:
        return len(self.tickets) >= _AHEAD * self.session.capacity

    @property
    def ready(self) -> bool:
        return bool(getattr(self.session, "ready", True))

    def submit(self, task: _Task, requests: Sequence[Request]) -> None:
        task.replies = [_UNANSWERED] * len(requests)
        task.missing = len(requests)
        for slot, request in enumerate(requests):
            ticket = next(_TICKETS)
            self.tickets[ticket] = (task, slot)
            self.session.submit(ticket, request)

    def poll(self) -> Iterator[_Task]:
        """Tasks whose replies are all in."""
        answered = self.session.poll()
        if not answered:
            raise RuntimeError(f"the engine has {len(self.tickets)} requests and gives no answer")
        for ticket, reply in answered:
            task, slot = self.tickets.pop(ticket)
            task.take(slot, reply)
            if not task.missing:
                yield task


class _Flow:
    """Items on their way through the steps."""

    def __init__(self, steps: Sequence[_Step], on_progress: OnProgress | None) -> None:
        self._steps = steps
        self._sessions: dict[int, _Busy] = {}
        self._on_progress = on_progress
        self._started = self._reported = time.monotonic()
        clock = Clock()
        for step in steps:
            step.output.share(clock)

    def run(self, source: Iterable[Item]) -> None:
        for item in source:
            try:
                self._start(0, item.at, item.key, item.value)
            except RowError as error:
                raise CaiError(error.what, where=item.where, next=error.next) from error
            self._report()
            while any(busy.full for busy in self._sessions.values()):
                self._poll()
        while any(busy.tickets for busy in self._sessions.values()):
            self._poll()
        for step in self._steps:
            step.output.finish()
        self._report(last=True)

    def _start(self, at_step: int, at: tuple[int, ...], key: bytes, value: Any) -> None:
        """Take up an item: pass on what was made of it before, or set its stage to work."""
        step = self._steps[at_step]
        done = step.output.found(key, at)
        if done is not None:
            if at_step + 1 < len(self._steps):
                makes = step.link.stage.makes  # type: ignore[attr-defined]
                rows = [decode(makes, json.loads(row), str(step.link.path)) for row in done.rows]
                self._pass_on(at_step, at, rows, done.rows)
        elif isinstance(value, Reject):
            self._finish(at_step, at, key, [value], (0, 0, 0))
        else:
            work = step.link.stage.work(value)
            if isinstance(work, Generator):
                self._advance(_Task(at_step, at, key, work))
            else:
                self._finish(at_step, at, key, work, (0, 0, 0))

    def _advance(self, task: _Task) -> None:
        """Send a task the replies it asked for (none at first), until it asks for more or is done."""
        try:
            requests = task.asking.send(task.replies) if task.replies else next(task.asking)
            while not requests:
                requests = task.asking.send([])
        except StopIteration as stop:
            self._finish(task.step, task.at, task.key, stop.value, task.tokens)
        else:
            self._busy(task.step).submit(task, requests)

    def _busy(self, at_step: int) -> _Busy:
        step = self._steps[at_step]
        if step.busy is None:
            if step.link.session is None:
                raise CaiError(f"'{step.link.name}' asks a model", next="say which: --model, or engine = ...")
            session = step.link.session()
            step.busy = self._sessions.setdefault(id(session), _Busy(session))
        return step.busy

    def _poll(self) -> None:
        asked = [busy for busy in self._sessions.values() if busy.tickets]
        # An endpoint that is slow to answer must not hold up an engine that works while it is polled.
        for busy in [busy for busy in asked if busy.ready] or asked:
            for task in busy.poll():
                self._advance(task)
        self._report()

    def _finish(
        self, at_step: int, at: tuple[int, ...], key: bytes, rows: Sequence[Any], tokens: Tokens
    ) -> None:
        step = self._steps[at_step]
        if not rows:
            raise RuntimeError(
                f"{type(step.link.stage).__name__}.work returned no row; a Reject is the least"
            )
        encoded = step.output.write(key, at, rows, tokens)
        step.fresh += 1
        step.generated += tokens[2]
        self._pass_on(at_step, at, [row for row in rows if not isinstance(row, Reject)], encoded)

    def _pass_on(
        self, at_step: int, at: tuple[int, ...], rows: Sequence[Any], encoded: Sequence[bytes]
    ) -> None:
        if at_step + 1 < len(self._steps):
            for index, (row, line) in enumerate(zip(rows, encoded, strict=True)):
                self._start(at_step + 1, (*at, index), key_of(line), row)

    def _report(self, last: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is None or (now - self._reported < _PROGRESS_SECONDS and not last):
            return
        self._reported = now
        seconds = max(now - self._started, 1e-9)
        self._on_progress([step.progress(seconds) for step in self._steps])
