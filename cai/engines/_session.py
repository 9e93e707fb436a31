"""A loaded model and the threads that work it."""

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import torch

from cai.engines import Reply, Request
from cai.engines._fit import packs
from cai.engines._lane import Done, Lane, Speaker
from cai.engines._packing import Job
from cai.engines._plain import PlainLane
from cai.engines._requests import Unanswerable, Writing, answer_of, end_tokens, prepare, tokens_of
from cai.errors import CaiError

PACK_TOKENS = 1024  # tokens of prompts that a thread reads in one pass
PACK_LOGITS = 1 << 26  # and at most so many logits
NO_WINDOW = 1 << 30

log = logging.getLogger(__name__)


class LocalSession:
    """Takes requests for one model. Tokenising and decoding are done by the caller's thread, in submit and
    poll.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, label: str, weights: str, batch: int, threads: int
    ) -> None:
        text_config = model.config.get_text_config()
        self._label, self._weights, self._tokenizer, self._batch = label, weights, tokenizer, batch
        self._window = getattr(text_config, "max_position_embeddings", None) or NO_WINDOW
        self._pack_tokens = min(PACK_TOKENS, PACK_LOGITS // text_config.vocab_size)
        self._device = model.device
        self._waiting: deque[Job] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._finished: SimpleQueue[tuple[int, Reply] | Done | Exception] = SimpleQueue()
        self._in_flight = 0
        self._callers_threads = torch.get_num_threads()
        self._workers = self._start(model, threads)

    @property
    def capacity(self) -> int:
        """The texts in the making, and a quarter more that wait to take the places of finished ones."""
        return self._batch + (self._batch + 3) // 4

    def submit(self, ticket: int, request: Request) -> None:
        """Queue a request; what cannot be answered is replied to with its error. Raises `CaiError` when
        closed.
        """
        if self._closed:
            raise CaiError("this engine is closed", next="open it again")
        self._in_flight += 1
        try:
            job = Job(ticket=ticket, task=prepare(self._tokenizer, request, self._window))
        except Unanswerable as refusal:
            reply = Reply(error=str(refusal), model=self._label, weights=self._weights)
            self._finished.put((ticket, reply))
            return
        with self._change:
            self._waiting.append(job)
            self._change.notify()

    def poll(self) -> Sequence[tuple[int, Reply]]:
        """Wait until something has finished; hand back all that has. Raises what went wrong in a thread."""
        replies: list[tuple[int, Reply]] = []
        while self._in_flight and (not replies or not self._finished.empty()):
            outcome = self._finished.get()
            if isinstance(outcome, Exception):
                self._finished.put(outcome)  # for the next poll, which nothing else would wake
                raise outcome
            replies.append(self._reply(outcome) if isinstance(outcome, Done) else outcome)
            self._in_flight -= 1
        return replies

    def close(self) -> None:
        """Stop the threads and free the model."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for worker in self._workers:
            worker.join()
        self._workers, self._in_flight = [], 0
        self._waiting.clear()
        torch.set_num_threads(self._callers_threads)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _start(self, model: Any, threads: int) -> list[threading.Thread]:
        """On the CPU several lanes, each in a thread; on a GPU one, which alone fills it."""
        kind: type[Lane] | type[PlainLane] = Lane if packs(model) else PlainLane
        listed = model.generation_config.eos_token_id if model.generation_config else None
        speaker = Speaker(tokenizer=self._tokenizer, ends=end_tokens(self._tokenizer, listed))
        count = min(threads or _cores(), self._batch) if model.device.type == "cpu" else 1
        share, rest = divmod(self._batch, count)
        lanes = [kind(model, speaker, slots=share + (at < rest)) for at in range(count)]
        workers = [threading.Thread(target=self._work, args=(lane, count), daemon=True) for lane in lanes]
        for worker in workers:
            worker.start()
        return workers

    def _work(self, lane: Lane | PlainLane, lanes: int) -> None:
        if self._device.type == "cpu":
            torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                while (jobs := self._take(lane, lanes)) is not None:
                    self._pass(lane, jobs)
        except Exception as error:
            self._finished.put(error)

    def _take(self, lane: Lane | PlainLane, lanes: int) -> list[Job] | None:
        """The jobs that a lane begins now: a fair share of those waiting, as far as it has room; None at the
        end.
        """
        with self._change:
            while not (self._closed or self._waiting or lane.jobs):
                self._change.wait()
            if self._closed:
                return None
            share, free, tokens = -(-len(self._waiting) // lanes), lane.free, 0
            taken: list[Job] = []
            passed_over: list[Job] = []
            while self._waiting and len(taken) < share and tokens < self._pack_tokens:
                job = self._waiting.popleft()
                is_text = isinstance(job.task, Writing)
                if is_text and not free:
                    passed_over.append(job)
                    continue
                free -= is_text
                tokens += job.tokens
                taken.append(job)
            self._waiting.extendleft(reversed(passed_over))
        return taken

    def _pass(self, lane: Lane | PlainLane, jobs: list[Job]) -> None:
        try:
            for done in lane.start(jobs) if jobs else ():
                self._finished.put(done)
            jobs = []
            for done in lane.step():
                self._finished.put(done)
        except torch.OutOfMemoryError as error:
            again = [*lane.jobs, *jobs]
            lane.halve(error)
            log.warning("out of memory on %s: going on with a batch of %d", self._device, lane.slots)
            with self._change:
                self._waiting.extendleft(reversed(again))

    def _reply(self, done: Done) -> tuple[int, Reply]:
        task = done.job.task
        text = ""
        if isinstance(task, Writing):
            text = answer_of(self._tokenizer, task, done.written)
        reply = Reply(
            text=text,
            finish=done.finish,
            logps=done.logps,
            tokens=tokens_of(task, done.written),
            sampled_logps=done.sampled_logps,
            model=self._label,
            weights=self._weights,
            prompt_tokens=done.job.tokens,
            new_tokens=len(done.written),
        )
        return done.job.ticket, reply


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
