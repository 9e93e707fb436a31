"""One model at work on a changing set of requests: prompts in, a token a row a step, finished rows out.

Rows come and go without touching each other (cai/engines/_attention.py says how), and a row's random numbers
are its own, so an answer does not depend on what it was computed beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from cai.engines._attention import CELL, KeyValues, up_to
from cai.engines._packing import Job, Pack, pack, prompt_inputs, token_inputs
from cai.engines._requests import Writing, cut_at_stop, text_of
from cai.engines._sampling import choose


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job's outcome: token ids, their log-probabilities when they were sampled and why they ended, or the
    log-probabilities that were asked for.
    """

    job: Job
    written: tuple[int, ...] = ()
    sampled_logps: tuple[float, ...] = ()
    finish: str = "stop"
    logps: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Where texts end: at the model's end tokens, at a stop string."""

    tokenizer: Any
    ends: frozenset[int]

    def finish(self, written: list[int], task: Writing) -> str | None:
        """Why a text is finished by its newest token: "stop", "length", or None if it is not."""
        if written[-1] in self.ends or self._stopped(written, task.sampling.stop):
            return "stop"
        return "length" if len(written) >= task.limit else None

    def _stopped(self, written: list[int], stop: tuple[str, ...]) -> bool:
        if not stop:
            return False
        # A character takes up to four byte-level tokens, and a stop string is met as soon as it is whole.
        tail = tuple(written[-4 * (max(map(len, stop)) + 1) :])
        return cut_at_stop(text_of(self.tokenizer, tail), stop) is not None


class Row:
    """A text in the making; its place in the lane's list is its slot in the cache."""

    def __init__(self, job: Job) -> None:
        assert isinstance(job.task, Writing)
        self.job, self.task = job, job.task
        self.written: list[int] = []
        self.logps: list[float] = []
        # Token t uses the t-th number of the row's own sequence.
        self.uniform = Random(job.task.seed).random

    @property
    def length(self) -> int:
        """How many of its tokens the cache holds: all but the newest."""
        return len(self.task.prompt) + len(self.written) - 1

    def grow(self, token: int, logp: float, speaker: Speaker) -> Done | None:
        """Take a token on, sampled with that log-probability; the outcome, if it ends the text."""
        self.written.append(token)
        self.logps.append(logp)
        finish = speaker.finish(self.written, self.task)
        if finish is None:
            return None
        return Done(job=self.job, written=tuple(self.written), sampled_logps=tuple(self.logps), finish=finish)


class Lane:
    """Up to `slots` texts in the making, on one device. One thread's own."""

    def __init__(self, model: Any, speaker: Speaker, *, slots: int) -> None:
        self.slots = slots
        self._model, self._speaker = model, speaker
        self._rows: list[Row] = []
        self._cache = KeyValues(up_to(slots, CELL))

    @property
    def free(self) -> int:
        """How many more texts can be begun."""
        return self.slots - len(self._rows)

    @property
    def jobs(self) -> list[Job]:
        """The jobs of the texts in the making."""
        return [row.job for row in self._rows]

    def start(self, jobs: Sequence[Job]) -> list[Done]:
        """Read new jobs' prompts in one pass; what that finishes: the readings, and texts of one token."""
        begun = len(self._rows)
        packed = pack(jobs, begun)
        rows = [Row(job) for job, _ in packed.texts]
        self._cache.reserve(max((len(row.task.prompt) + row.task.limit for row in rows), default=0))
        logits = self._model(**prompt_inputs(packed, self._cache, self._model.device)).logits[0]
        done = read(packed, logits)
        self._rows += rows
        if rows:
            done += self._advance(begun, logits[[output for _, output in packed.texts]])
        return done

    def step(self) -> list[Done]:
        """One more token for each text in the making; those that it finishes."""
        if not self._rows:
            return []
        lengths = [row.length for row in self._rows]
        newest = [row.written[-1] for row in self._rows]
        asked = token_inputs(newest, lengths, self._cache, self._model.device)
        return self._advance(0, self._model(**asked).logits[0, : len(newest)])

    def halve(self, error: torch.OutOfMemoryError) -> None:
        """Give up the texts in the making and make fewer at once. Raises `error` when that cannot be."""
        if self.slots == 1:
            raise error
        self.slots //= 2
        self._rows.clear()
        self._cache = KeyValues(up_to(self.slots, CELL))

    def _advance(self, first: int, logits: Tensor) -> list[Done]:
        """Give the rows from `first` on their next token; take out those that it finishes."""
        rows = self._rows[first:]
        chosen = choose(logits, [row.task.sampling for row in rows], [row.uniform() for row in rows])
        done, left = [], []
        for slot, (row, (token, logp)) in enumerate(zip(rows, chosen, strict=True), start=first):
            if outcome := row.grow(token, logp, self._speaker):
                done.append(outcome)
                left.append(slot)
        for slot in reversed(left):
            self._vacate(slot)
        return done

    def _vacate(self, slot: int) -> None:
        """Take a row out and put the last one in its place, so that rows always fill the first slots."""
        row = self._rows.pop()
        if slot < len(self._rows):
            self._cache.move(len(self._rows), slot, row.length)
            self._rows[slot] = row


def read(packed: Pack, logits: Tensor) -> list[Done]:
    """The log-probabilities that a pass's readings asked for: each answer's tokens summed, in float64."""
    places = [place for _, answers in packed.readings for answer in answers for place in answer]
    if not places:
        return []
    outputs, tokens = torch.tensor(places, device=logits.device).unbind(-1)
    scores = logits.float()
    chosen = (scores[outputs, tokens] - scores.logsumexp(-1)[outputs]).tolist()
    found = iter(chosen)
    return [
        Done(job=job, logps=tuple(sum(next(found) for _ in answer) for answer in answers))
        for job, answers in packed.readings
    ]
