"""How much a run would ask of its models, from a few of its items: for --dry-run.

The items are drawn by digest, so that they stand for the whole file; the scripted engine answers for the
model, so that later rounds and steps have something to be asked about. Its answers are short: how long the
model's own will be is not known, only the most that they may be; nor is what a step leaves unasked because of
them (a revision where the critique found nothing).
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import groupby
from pathlib import Path
from typing import Any

from cai.engines import Engine, Reply, Request, Sampling, Score, Worth
from cai.errors import CaiError
from cai.records import Reject, assistant
from cai.steps import EvalStep, StageStep, TrainStep, items_of

# Items of a file that stand for all.
SAMPLE = 32
# What text comes to where no tokenizer is at hand.
CHARACTERS_A_TOKEN = 4

Count = Callable[[Request], int]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a step would ask, over all its items.

    `prompt` is what is known by now; answers that are not there yet can add up to `more` to it.
    """

    items: float = 0.0
    requests: float = 0.0
    prompt: float = 0.0
    more: float = 0.0
    generated: float = 0.0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A step tried on a sample: its requests in order, and what they come to. `by` says how tokens were
    counted, and `sampled` how many items were tried.
    """

    requests: Sequence[Request]
    estimate: Estimate
    sampled: int
    by: str


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Some of the values that a step works on or makes, and how many there would be of them in all."""

    values: Sequence[Any]
    total: float


@dataclass(kw_only=True)
class Rehearsals:
    """Tries the steps of a run in order, each on what those before it made."""

    _made: dict[Path, _Sample] = field(default_factory=dict)
    _bases: dict[str, Engine] = field(default_factory=dict)
    _longest: dict[str, int] = field(default_factory=dict)

    def train(self, step: TrainStep) -> None:
        """Its model answers from here on, and has the tokenizer of the one that it is made from."""
        self._bases[str(step.output)] = step.model

    def try_out(self, step: StageStep | EvalStep) -> Rehearsal:
        """The requests for a sample of a step's items, and what all of them would come to."""
        plugin = step.stage if isinstance(step, StageStep) else step.eval
        sample = self._sample(step, plugin)
        count, by = self._counter(step.engine)
        asked: list[Request] = []
        made: list[Any] = []
        for value in sample.values:
            requests, rows = self._drive(plugin.work(value))
            asked += requests
            made += rows
        scale = sample.total / max(1, len(sample.values))
        self._made[step.output] = _Sample(values=made, total=len(made) * scale)
        estimate = Estimate(
            items=sample.total,
            requests=len(asked) * scale,
            prompt=sum(map(count, asked)) * scale,
            more=sum(map(self._to_come, asked)) * scale,
            generated=sum(_most(request) for request in asked) * scale,
        )
        return Rehearsal(requests=asked, estimate=estimate, sampled=len(sample.values), by=by)

    def _sample(self, step: StageStep | EvalStep, plugin: Any) -> _Sample:
        if all(path.is_file() for path in step.inputs):
            return _drawn(step)
        known = [self._made[path] for path in step.inputs if path in self._made]
        values = [value for sample in known for value in sample.values]
        total = sum(sample.total for sample in known)
        if not getattr(plugin, "groups", False):
            return _Sample(values=values, total=total if step.limit is None else min(total, step.limit))
        groups = _groups(values)
        return _Sample(values=groups, total=len(groups) * total / max(1, len(values)))

    def _drive(
        self, work: "Generator[list[Request], Sequence[Reply], list[Any]] | list[Any]"
    ) -> tuple[list[Request], list[Any]]:
        """All that an item's work asks, and the rows that come of it, without the rejects."""
        from cai.engines.scripted import Scripted

        engine = Scripted()
        asked: list[Request] = []
        rows = work if isinstance(work, list) else []
        replies: list[Reply] | None = None
        while not isinstance(work, list):
            try:
                requests = next(work) if replies is None else work.send(replies)
            except StopIteration as stop:
                rows = stop.value
                break
            asked += requests
            replies = [engine.answer(request) for request in requests]
            for request, reply in zip(requests, replies, strict=True):
                self._longest[reply.text] = _most(request)
        return asked, [row for row in rows if not isinstance(row, Reject)]

    def _to_come(self, request: Request) -> int:
        """The most tokens of the answers in a request that only the scripted engine gave."""
        texts = [message["content"] for message in request.messages]
        return sum(self._longest.get(mark, 0) for text in texts for mark in _SCRIPTED.findall(text))

    def _counter(self, engine: Engine | None) -> tuple[Count, str]:
        """How to count a request's tokens, and the words for it."""
        while engine is not None and getattr(engine, "model", None) in self._bases:
            engine = self._bases[getattr(engine, "model", "")]
        name = getattr(engine, "tokenizer", getattr(engine, "model", None))
        try:
            return _by_tokenizer(
                name or "", getattr(engine, "chat_template", None)
            ), f"the tokenizer of {name}"
        except CaiError:
            return (
                _by_characters,
                f"{CHARACTERS_A_TOKEN} characters a token, as there is no tokenizer at hand",
            )


_SCRIPTED = re.compile(r"This is scripted answer [0-9a-f]{8}\.")


def _drawn(step: StageStep | EvalStep) -> _Sample:
    """The first item and those with the least keys; how many there are. One pass, and little memory."""
    total = 0

    def usable() -> Iterator[tuple[bool, bytes, int, Any]]:
        nonlocal total
        for item in items_of(step):
            if not isinstance(item.value, Reject):
                total += 1
                yield total > 1, item.key, total, item.value

    drawn = sorted(nsmallest(SAMPLE, usable(), key=lambda one: one[:2]), key=lambda one: one[2])
    return _Sample(values=[value for *_, value in drawn], total=total)


def _groups(rows: Iterable[Any]) -> list[list[Any]]:
    ordered = sorted(rows, key=lambda row: str(row.prompt_id))
    return [list(group) for _, group in groupby(ordered, key=lambda row: row.prompt_id)]


def _most(request: Request) -> int:
    """The most tokens that an answer to a request may have."""
    return request.want.max_tokens if isinstance(request.want, Sampling) else 0


def _by_characters(request: Request) -> int:
    texts = [*(message["content"] for message in request.messages), request.prefix]
    if isinstance(request.want, Score | Worth):
        texts.append(request.want.completion)
    return -(-sum(map(len, texts)) // CHARACTERS_A_TOKEN)


def _by_tokenizer(name: str, chat_template: Path | None) -> Count:
    """Counts as the engines tokenise. Raises `CaiError` when there is no such tokenizer."""
    from cai.chat import encode_example, encode_prompt, load_tokenizer
    from cai.model_folder import tokenizer_folder

    tokenizer = load_tokenizer(tokenizer_folder(name), chat_template)

    def count(request: Request) -> int:
        try:
            if isinstance(request.want, Score | Worth):
                answer = assistant(request.want.completion)
                return len(encode_example(tokenizer, (*request.messages, answer)).ids)
            return len(encode_prompt(tokenizer, request.messages, request.prefix))
        except CaiError:
            # A conversation that the template refuses: the engine will answer with an error.
            return 0

    return count
