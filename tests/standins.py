"""Stages and a session for tests of the runner: replies are a function of the request, their order is not."""

import random
from dataclasses import dataclass
from typing import Any, ClassVar

from cai.engines import Reply, Request, Sampling
from cai.records import Candidate, Comparison, Record, Reject, Turn, digest, sibling


def reply_to(request: Request) -> Reply:
    """Some text; for one request in six an error."""
    mark = digest(request.messages, request.prefix, request.seed)
    if int(mark[:2], 16) % 6 == 0:
        return Reply(error="no answer to this")
    text = f"{mark[:6]} é\u2028\t\ud800 {request.seed}"
    return Reply(text=text, model="m", prompt_tokens=5, cached_tokens=2, new_tokens=3)


class Shuffled:
    """A session that answers a few of its requests at a time, in an order drawn from `seed`."""

    def __init__(self, seed: int = 0, capacity: int = 4) -> None:
        self.capacity = capacity
        self.asked: list[Request] = []
        self.most = 0
        self._random = random.Random(seed)
        self._waiting: list[tuple[int, Request]] = []

    def submit(self, ticket: int, request: Request) -> None:
        self.asked.append(request)
        self._waiting.append((ticket, request))
        self.most = max(self.most, len(self._waiting))

    def poll(self) -> list[tuple[int, Reply]]:
        count = self._random.randint(1, self.capacity)
        done = []
        for _ in range(min(count, len(self._waiting))):
            ticket, request = self._waiting.pop(self._random.randrange(len(self._waiting)))
            done.append((ticket, reply_to(request)))
        return done

    def close(self) -> None:
        self._waiting.clear()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Two answers to each prompt, a Reject for each that fails."""

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def work(self, record: Record) -> Any:
        ones = [sibling(record, sample) for sample in range(2)]
        replies = yield [Request(messages=record.prompt, want=Sampling(), seed=one.sample) for one in ones]
        return [turned(one, "response", reply) for one, reply in zip(ones, replies, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Review:
    """Asks twice, the second time for what the first reply says; each fifth record is kept unasked."""

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def work(self, record: Record) -> Any:
        if int(record.id[:4], 16) % 5 == 0:
            return [record]
        return self._ask(record)

    def _ask(self, record: Record) -> Any:
        [first] = yield [Request(messages=record.conversation(), want=Sampling(), seed=len(record.turns))]
        if first.error:
            return [turned(record, "critique", first)]
        [second] = yield [Request(messages=record.conversation(), want=Sampling(), prefix=first.text)]
        return [turned(record, "critique", second)]


@dataclass(frozen=True, kw_only=True)
class Weigh:
    """One comparison of all answers to a prompt, without a model."""

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = True

    def work(self, records: list[Record]) -> Any:
        texts = [record.turns[0].text for record in records]
        first = records[0]
        if len(records) < 2:
            return [
                Reject(id="none", item=first.id, prompt_id=first.prompt_id, stage="weigh", reason="alone")
            ]
        return [
            Comparison(
                id=digest(texts),
                prompt_id=first.prompt_id,
                prompt=first.prompt,
                candidates=tuple(Candidate(text=text) for text in texts),
                annotations=(),
                probabilities=tuple(1 / len(texts) for _ in texts),
            )
        ]


def turned(record: Record, kind: Any, reply: Reply) -> Record | Reject:
    if reply.error:
        id = digest("reject", record.id, kind)
        return Reject(id=id, item=record.id, prompt_id=record.prompt_id, stage=kind, reason=reply.error)
    return record.then(Turn(kind=kind, text=reply.text, model=reply.model))
