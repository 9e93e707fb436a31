"""A vLLM session of cai's that is watched, and a bare loop over what it was asked: for bench/flow.py."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.engines import Reply, Request
from cai.engines.vllm import Vllm


@dataclass(kw_only=True)
class Asked:
    """A request as vLLM had it: its token ids, its parameters, and the request whose answer it waited for."""

    ids: list[int]
    params: Any
    after: int | None
    new: int = 0


class Answered(list[tuple[int, Reply]]):
    """Replies that say which of them is being looked at."""

    def __init__(self, replies: Iterable[tuple[int, Reply]], look: Callable[[int | None], None]) -> None:
        super().__init__(replies)
        self._look = look

    def __iter__(self) -> Iterator[tuple[int, Reply]]:
        for pair in super().__iter__():
            self._look(pair[0])
            yield pair
        self._look(None)


class Watched:
    """A session that counts the engine's steps and seconds and, when asked to, notes its requests."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.engine = session.vllm
        self.steps = 0
        self.seconds = 0.0
        self.asked: list[Asked] | None = None
        self._now: int | None = None
        self._names: dict[str, int] = {}
        self._first: dict[int, int] = {}
        self._step, self._add = self.engine.step, self.engine.add_request
        self.engine.step, self.engine.add_request = self.step, self.add

    @property
    def capacity(self) -> int:
        return int(self.session.capacity)

    def step(self) -> Any:
        self.steps += 1
        began = time.perf_counter()
        outputs = self._step()
        self.seconds += time.perf_counter() - began
        if self.asked is not None:
            for output in outputs:
                if output.finished:
                    self.asked[self._names[output.request_id]].new = len(output.outputs[0].token_ids)
        return outputs

    def add(self, name: str, prompt: Any, params: Any, **others: Any) -> Any:
        if self.asked is not None:
            self._names[name] = len(self.asked)
            after = None if self._now is None else self._first[self._now]
            self._first.setdefault(int(name.partition("-")[0]), len(self.asked))
            self.asked.append(Asked(ids=list(prompt["prompt_token_ids"]), params=params.clone(), after=after))
        began = time.perf_counter()
        try:
            return self._add(name, prompt, params, **others)
        finally:
            self.seconds += time.perf_counter() - began

    def record(self) -> list[Asked]:
        """Note what is asked from now on, in the list that is returned."""
        self.asked, self._names, self._first = [], {}, {}
        return self.asked

    def submit(self, ticket: int, request: Request) -> None:
        self.session.submit(ticket, request)

    def poll(self) -> Sequence[tuple[int, Reply]]:
        def look(ticket: int | None) -> None:
            self._now = ticket

        return Answered(self.session.poll(), look)

    def fresh(self) -> None:
        """Forget cached prefixes and what was counted."""
        assert self.engine.reset_prefix_cache()
        self.steps, self.seconds = 0, 0.0


def bare(watched: Watched, asked: list[Asked], *, chained: bool) -> None:
    """Nothing but add_request and step, over the requests of a recorded run."""
    from vllm import TokensPrompt

    next_of: dict[int | None, list[int]] = defaultdict(list)
    for at, one in enumerate(asked):
        next_of[one.after if chained else None].append(at)

    def add(numbers: Iterable[int]) -> None:
        for at in numbers:
            one = asked[at]
            watched.engine.add_request(
                f"{at}-bare", TokensPrompt(prompt_token_ids=one.ids), exactly(one.params, one.new)
            )

    add(next_of[None])
    while watched.engine.has_unfinished_requests():
        for output in watched.engine.step():
            if output.finished:
                add(next_of[int(output.request_id.partition("-")[0])] if chained else ())


def exactly(params: Any, new: int) -> Any:
    """The same parameters, made to write just `new` tokens."""
    params = params.clone()
    params.max_tokens, params.ignore_eos = new, True
    params.stop, params.stop_token_ids, params.detokenize = [], [], False
    # vLLM has no public way to take these out again.
    params._all_stop_token_ids = set()
    return params


def uncached(engine: Vllm, folder: Path) -> Any:
    """A session of the engine that keeps no prefixes."""
    from cai.engines._vllm import VllmSession

    return VllmSession(
        engine, folder, {**engine.arguments(folder, on_cpu=True, rank=0), "enable_prefix_caching": False}
    )


def replies(session: Any, requests: list[Request]) -> list[Reply]:
    """What a session answers to requests, in their order."""
    for ticket, request in enumerate(requests):
        session.submit(ticket, request)
    found: dict[int, Reply] = {}
    while finished := session.poll():
        found.update(finished)
    return [found[ticket] for ticket in range(len(requests))]
