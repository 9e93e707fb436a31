"""The endpoints of a session: who gets the next request, who is out, and when to give up."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cai.engines._server_load import Load
from cai.engines._server_plan import Call, Malformed
from cai.engines._server_wire import Broken, Denied, Overloaded, Refused, Wire
from cai.errors import CaiError, suggest
from cai.records import draw

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0  # seconds
CANARY = 30.0  # seconds that a working endpoint may take for one token

log = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class Endpoint:
    """One endpoint: the way there, how much of it is in use, and how it has been.

    `answers` counts, `fault` is the last thing that went wrong, `trouble` when the first did since the last
    answer, `models` are those it says it serves.
    """

    wire: Wire
    load: Load
    up: bool = False
    answers: int = 0
    fault: str = "no answer yet"
    trouble: float | None = None
    models: dict[str, int | None] = field(default_factory=dict)
    examination: "asyncio.Task[bool] | None" = None

    @property
    def url(self) -> str:
        return self.wire.url


class Pool:
    """Hands out places at endpoints, first come, first served, at the one with the least to do.

    Whether a failure is the endpoint's or the request's is found out by a canary: the smallest request there
    is. An endpoint that fails it is out, and gets nothing but canaries until one lives. When something is
    wanted and all endpoints have been in trouble for `patience` seconds, `failure` gets the `CaiError`.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, model: str, key_env: str, patience: float) -> None:
        self.endpoints = tuple(endpoints)
        self.canary: Call | None = None
        self._model, self._key_env, self._patience = model, key_env, patience
        self._waiting: deque[tuple[asyncio.Future[Endpoint], Endpoint | None]] = deque()
        self._wanted, self._wanted_since = 0, 0.0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Wait for the first endpoint that answers; the others join in as they do.

        Raises `CaiError`: none does, or one turns the key away.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for endpoint in self.endpoints:
            self._spawn(self._greet(endpoint, first))
        self._spawn(self._watch())
        with self.wanting():
            await asyncio.wait({first, self.failure}, return_when=asyncio.FIRST_COMPLETED)
        if self.failure.done():
            self.failure.result()

    @contextmanager
    def wanting(self) -> Iterator[None]:
        """Inside, somebody waits for an answer."""
        if not self._wanted:
            self._wanted_since = time.monotonic()
        self._wanted += 1
        try:
            yield
        finally:
            self._wanted -= 1

    async def take(self, avoid: Endpoint | None = None) -> Endpoint:
        """A place at an endpoint, another than `avoid` if there is one free."""
        future: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, avoid))
        self._hand_out()
        return await future

    def give(self, endpoint: Endpoint) -> None:
        """The place back."""
        endpoint.load.outstanding -= 1
        self._hand_out()

    def answered(self, endpoint: Endpoint) -> None:
        endpoint.answers += 1
        endpoint.load.answered()
        endpoint.trouble = None

    def overloaded(self, endpoint: Endpoint, sent: float, error: Overloaded) -> None:
        self._blame(endpoint, str(error))
        wait = error.wait or 0.0
        endpoint.load.overloaded(sent, time.monotonic(), wait)
        if wait:
            asyncio.get_running_loop().call_later(wait, self._hand_out)

    async def is_to_blame(self, endpoint: Endpoint, fault: str) -> bool:
        """Whether a failure at an endpoint was its own: whether it is out by now."""
        self._blame(endpoint, fault)
        if endpoint.up:
            if endpoint.examination is None:
                endpoint.examination = self._spawn(self._examine(endpoint))
            await endpoint.examination
        return not endpoint.up

    def denied(self, endpoint: Endpoint, error: Denied) -> CaiError:
        """What to do about a wrong key, model or address."""
        if error.status in (404, 405):
            served = f"model = '{self._model}'; {suggest(self._model, endpoint.models)}"
            next_step = served if endpoint.models else "check model, and the address (most end with /v1)"
        elif self._key_env:
            next_step = (
                f"check the key in the environment variable '{self._key_env}', and what it is good for"
            )
        else:
            next_step = "name the environment variable that holds its key: api_key_env"
        return CaiError(str(error), where=endpoint.url, next=next_step)

    async def close(self) -> None:
        self.failure.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in self.endpoints:
            await endpoint.wire.close()

    def _blame(self, endpoint: Endpoint, fault: str) -> None:
        endpoint.fault = fault
        if endpoint.trouble is None:
            endpoint.trouble = time.monotonic()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)

    def _hand_out(self) -> None:
        while self._waiting:
            future, avoid = self._waiting[0]
            if not future.done():
                endpoint = self._freest(avoid)
                if endpoint is None:
                    return
                endpoint.load.outstanding += 1
                future.set_result(endpoint)
            self._waiting.popleft()

    def _freest(self, avoid: Endpoint | None) -> Endpoint | None:
        now = time.monotonic()
        free = [one for one in self.endpoints if one.up and one.load.has_room(now)]
        return min(free, key=lambda one: (one is avoid, one.load.outstanding), default=None)

    async def _greet(self, endpoint: Endpoint, first: "asyncio.Future[None]") -> None:
        """Ask what it serves until it answers at all. Not all endpoints have such a list."""
        attempt = 0
        while True:
            try:
                endpoint.models = await endpoint.wire.models()
            except (Overloaded, Broken) as error:
                self._blame(endpoint, str(error))
            except Denied as error:
                # A key may be good for answers and not for the list.
                if error.status == 401:
                    raise self.denied(endpoint, error) from None
                break
            except Refused:
                break
            else:
                break
            attempt += 1
            if attempt == 1:
                log.warning("%s is not there yet (%s)", endpoint.url, endpoint.fault)
            await asyncio.sleep(backoff(endpoint.url, attempt))
        endpoint.up, endpoint.trouble = True, None
        self._hand_out()
        if not first.done():
            first.set_result(None)

    async def _examine(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint in doubt works; it is out if not."""
        before = endpoint.answers
        works = await self._sings(endpoint) or endpoint.answers > before
        endpoint.examination = None
        if not works:
            endpoint.up = False
            log.warning("%s is out (%s)", endpoint.url, endpoint.fault)
            self._spawn(self._revive(endpoint))
        return works

    async def _revive(self, endpoint: Endpoint) -> None:
        attempt = 0
        while not await self._sings(endpoint):
            attempt += 1
            await asyncio.sleep(backoff(endpoint.url, attempt))
        log.warning("%s is back", endpoint.url)
        endpoint.up = True
        endpoint.load.restart()
        self._hand_out()

    async def _sings(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint answers the canary; that it is busy is an answer."""
        assert self.canary is not None
        name = f"cai-canary-{time.monotonic_ns():x}"
        try:
            body = await endpoint.wire.post(self.canary.path, self.canary.body, name, CANARY)
            self.canary.read(body)
        except (Broken, Malformed) as error:
            self._blame(endpoint, str(error))
            return False
        except Overloaded:
            return True
        except Denied as error:
            raise self.denied(endpoint, error) from None
        except Refused:
            log.debug("%s refuses the canary", endpoint.url, exc_info=True)
        endpoint.trouble = None
        return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._patience / 4))
            if self._wanted and all(map(self._is_hopeless, self.endpoints)):
                raise self._unreachable()

    def _is_hopeless(self, endpoint: Endpoint) -> bool:
        if endpoint.trouble is None:
            return False
        return time.monotonic() - max(endpoint.trouble, self._wanted_since) > self._patience

    def _unreachable(self) -> CaiError:
        faults = ", ".join(f"{endpoint.url} ({endpoint.fault})" for endpoint in self.endpoints)
        return CaiError(
            f"no endpoint has answered for {self._patience:g} s: {faults}",
            next="start one and give the same command again: what is done is kept",
        )


def backoff(name: str, attempt: int) -> float:
    """Seconds before another try, twice as many each time; half to one and a half of it, drawn by name."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16)) * (0.5 + draw(0, name, attempt))
