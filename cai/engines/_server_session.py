"""Endpoints at work: an event loop in a thread of its own, submit and poll in the caller's."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from cai.engines import Reply, Request
from cai.engines._requests import Unanswerable
from cai.engines._server_chat import lacks_logprobs
from cai.engines._server_load import Load
from cai.engines._server_plan import Call, Lacking, Malformed, Plan, Way
from cai.engines._server_pool import Endpoint, Pool, backoff
from cai.engines._server_wire import Broken, Denied, Overloaded, Refused, Wire
from cai.errors import CaiError
from cai.records import digest

Outcome = tuple[int, Reply] | Exception

log = logging.getLogger(__name__)


class ServerSession:
    """Endpoints that answer requests for one model, and the tries that it takes.

    `way_for` makes the way of asking from the smallest window that an endpoint tells of (None: none does).
    """

    def __init__(
        self,
        urls: Sequence[str],
        way_for: Callable[[int | None], Way],
        *,
        model: str,
        key: str,
        key_env: str,
        concurrency: int,
        timeout: float,
        retries: int,
        patience: float,
    ) -> None:
        self._model, self._retries = model, retries
        self._capacity = concurrency * len(urls)
        self._finished: SimpleQueue[Outcome] = SimpleQueue()
        self._in_flight = 0
        self._closed = False
        self._mark = uuid4().hex[:8]  # two sessions may have the same request in hand
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()

        async def connect() -> Pool:
            endpoints = [
                Endpoint(wire=Wire(url, key=key, timeout=timeout), load=Load(most=concurrency))
                for url in urls
            ]
            return Pool(endpoints, model=model, key_env=key_env, patience=patience)

        self._pool = self._run(connect())
        try:
            self._run(self._pool.start())
            self._way = way_for(_window(self._pool.endpoints, model))
            self._pool.canary = self._way.canary()
        except BaseException:
            self.close()
            raise
        self._loop.call_soon_threadsafe(self._pool.failure.add_done_callback, self._failed)

    @property
    def capacity(self) -> int:
        """As many as the endpoints may have in hand together."""
        return self._capacity

    @property
    def ready(self) -> bool:
        """Whether `poll` would hand something back at once."""
        return not self._finished.empty()

    def submit(self, ticket: int, request: Request) -> None:
        """Send a request on its way; what cannot be answered is replied to with its error.

        Raises `CaiError` when closed, and for what this way of asking cannot give.
        """
        if self._closed:
            raise CaiError("this engine is closed", next="open it again")
        try:
            plan = self._way.plan(request)
        except Unanswerable as refusal:
            self._in_flight += 1
            self._finished.put((ticket, self._refusal(str(refusal))))
            return
        self._in_flight += 1
        name = digest(asdict(request), type(request.want).__name__)[:16]
        self._loop.call_soon_threadsafe(self._begin, ticket, plan, name)

    def poll(self) -> Sequence[tuple[int, Reply]]:
        """Wait until something has finished; hand back all that has. Raises what stops the session, after
        everything that had finished before.
        """
        replies: list[tuple[int, Reply]] = []
        while self._in_flight and (not replies or not self._finished.empty()):
            outcome = self._finished.get()
            if isinstance(outcome, Exception):
                self._finished.put(outcome)  # for the next poll, which nothing else would wake
                if replies:
                    break
                raise outcome
            replies.append(outcome)
            self._in_flight -= 1
        return replies

    def close(self) -> None:
        """Break off what is in flight, and stop the thread."""
        if self._closed:
            return
        self._closed = True
        self._in_flight = 0
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _end(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _failed(self, failure: "asyncio.Future[None]") -> None:
        if not failure.cancelled() and isinstance(error := failure.exception(), Exception):
            self._finished.put(error)

    def _begin(self, ticket: int, plan: Plan, name: str) -> None:
        task = self._loop.create_task(self._answer(ticket, plan, name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, ticket: int, plan: Plan, name: str) -> None:
        try:
            with self._pool.wanting():
                parts = [
                    await self._ask(call, f"cai-{name}-{self._mark}-{ticket}-{at}")
                    for at, call in enumerate(plan.calls)
                ]
            self._finished.put((ticket, plan.join(parts)))
        except Refused as refusal:
            self._finished.put((ticket, self._refusal(str(refusal))))
        except Exception as error:
            self._finished.put(error)

    async def _ask(self, call: Call, name: str) -> Any:
        """The part that a call gives, after as many tries as it takes.

        Failures of an endpoint that is out by then do not count, nor does being busy: the pool's patience
        ends those. Raises `Refused` and `CaiError`.
        """
        counted = tries = 0
        last: Endpoint | None = None
        while True:
            tries += 1
            endpoint = await self._pool.take(avoid=last)
            last = endpoint
            try:
                return await self._try(call, endpoint, f"{name}-{tries}")
            except Overloaded:
                pass
            except (Broken, Malformed) as error:
                if await self._pool.is_to_blame(endpoint, str(error)):
                    continue
                counted += 1
                if counted > self._retries:
                    times = "1 try" if counted == 1 else f"{counted} tries"
                    raise Refused(f"no usable answer in {times}; the last: {error}") from None
            await asyncio.sleep(backoff(name, tries))

    async def _try(self, call: Call, endpoint: Endpoint, name: str) -> Any:
        sent = time.monotonic()
        try:
            part = call.read(await endpoint.wire.post(call.path, call.body, name))
        except Overloaded as error:
            self._pool.overloaded(endpoint, sent, error)
            raise
        except (Refused, Denied) as error:
            if call.wants_logprobs and "logprob" in str(error).lower():
                raise self._lacks(endpoint, lacks_logprobs(f" ({error})")) from None
            if isinstance(error, Denied):
                raise self._pool.denied(endpoint, error) from None
            self._pool.answered(endpoint)
            raise
        except Lacking as error:
            raise self._lacks(endpoint, error) from None
        finally:
            self._pool.give(endpoint)
        self._pool.answered(endpoint)
        return part

    def _lacks(self, endpoint: Endpoint, error: Lacking) -> CaiError:
        return CaiError(f"this endpoint gives {error.what}", where=endpoint.url, next=error.next)

    def _refusal(self, error: str) -> Reply:
        return Reply(error=error, model=self._model)


def _window(endpoints: Sequence[Endpoint], model: str) -> int | None:
    """The smallest window that an endpoint tells of for the model."""
    told = [endpoint.models.get(model) for endpoint in endpoints]
    return min((window for window in told if window is not None), default=None)
