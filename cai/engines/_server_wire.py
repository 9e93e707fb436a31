"""One endpoint's HTTP, through the openai client: a body that can be read, or the kind of failure it was."""

import asyncio
import json
import os
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, Timeout

CONNECT = 10.0  # seconds
LANE = 32  # requests that one client has in hand: with each it looks through all of its connections
WORDS = 300  # characters of an endpoint's own words in an error
OVERLOAD = frozenset({429, 503, 529})
_STATUSES = frozenset(map(str, range(400, 600)))
DENIED = frozenset({401, 402, 403, 404, 405})


class Overloaded(Exception):
    """Too much at once; `wait` is the number of seconds that the endpoint asks for, if it does."""

    def __init__(self, reason: str, wait: float | None) -> None:
        super().__init__(reason)
        self.wait = wait


class Broken(Exception):
    """No answer, or none that can be read: of the transport, a timeout, a fault of the server's, garbage."""


class Refused(Exception):
    """The endpoint's answer to this request is no."""


class Denied(Exception):
    """The key, the model or the address is wrong, so that every request would be refused."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"HTTP {status}{words}")
        self.status = status


@dataclass(eq=False, kw_only=True)
class _Lane:
    """A client and how many requests it has in hand."""

    client: AsyncOpenAI
    busy: int = 0


class Wire:
    """The way to one base URL. `key` is sent to it and kept out of every error."""

    def __init__(self, url: str, *, key: str, timeout: float) -> None:
        self.url = url
        self._key, self._timeout = key, timeout
        self._lanes: list[_Lane] = []

    async def post(
        self, path: str, body: Mapping[str, Any], name: str, timeout: float | None = None
    ) -> dict[str, Any]:
        """The JSON object that answers `body`; `name` goes along as X-Request-Id.

        Raises `Overloaded`, `Broken`, `Refused` or `Denied`.
        """
        options: Any = {"headers": {"X-Request-Id": name}}
        with self._lane() as client:
            call = client.post(path, cast_to=str, body=dict(body), options=options)
            return await self._object(call, min(timeout or self._timeout, self._timeout))

    async def models(self) -> dict[str, int | None]:
        """The models served there, with their windows as far as they are told.

        Raises as `post` does.
        """
        with self._lane() as client:
            call = client.get("/models", cast_to=str)
            listed = await self._object(call, min(CONNECT, self._timeout))
        found: dict[str, int | None] = {}
        cards = listed.get("data")
        for card in cards if isinstance(cards, list) else ():
            if isinstance(card, dict) and isinstance(card.get("id"), str):
                window = card.get("max_model_len")
                found[card["id"]] = window if isinstance(window, int) and window > 0 else None
        return found

    async def close(self) -> None:
        for lane in self._lanes:
            await lane.client.close()

    @contextmanager
    def _lane(self) -> Iterator[AsyncOpenAI]:
        """A client with few enough connections in use."""
        lane = next((lane for lane in self._lanes if lane.busy < LANE), None)
        if lane is None:
            lane = _Lane(client=self._client())
            self._lanes.append(lane)
        lane.busy += 1
        try:
            yield lane.client
        finally:
            lane.busy -= 1

    def _client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self.url,
            api_key=self._key or "none",
            max_retries=0,
            timeout=Timeout(self._timeout, connect=min(self._timeout, CONNECT)),
        )

    async def _object(self, call: Awaitable[str], timeout: float) -> dict[str, Any]:
        # The client's own timeout begins anew with every byte.
        try:
            async with asyncio.timeout(timeout):
                text = await call
        except (TimeoutError, APITimeoutError):
            raise Broken(f"no answer in {timeout:g} s") from None
        except APIConnectionError as error:
            raise Broken(self._plain(_cause(error))) from None
        except APIStatusError as error:
            wait = _wait(error.response.headers)
            raise self._failure(error.status_code, error.body or error.response.text, wait) from None
        except UnicodeEncodeError:
            raise Refused("half of a surrogate pair is in its text, which cannot be sent") from None
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise Broken(f"its answer is no JSON{self._words(text)}") from None
        if not isinstance(body, dict):
            raise Broken(f"its answer is no JSON object{self._words(text)}")
        if body.get("error"):
            raise self._failure(_code(body["error"]), body, None)
        return body

    def _failure(self, status: int, body: Any, wait: float | None) -> Exception:
        """What a status means, wherever it stood."""
        words = self._words(body)
        if status in OVERLOAD:
            return Overloaded(f"HTTP {status}{words}", wait)
        if status in DENIED:
            return Denied(status, words)
        if 400 <= status < 500 and status != 408:
            return Refused(f"HTTP {status}{words}")
        return Broken(f"HTTP {status}{words}")

    def _words(self, body: Any) -> str:
        """What an endpoint says went wrong, as ": ..."; nothing if it says nothing."""
        while isinstance(body, dict):
            body = next((body[key] for key in ("error", "message", "detail") if body.get(key)), "")
        text = self._plain(body if isinstance(body, str) else json.dumps(body))
        return f": {text}" if text else ""

    def _plain(self, text: str) -> str:
        """`text` on one line, cut, without the key."""
        line = " ".join(text.split())
        printable = "".join(character for character in line if character.isprintable())
        if self._key:
            printable = printable.replace(self._key, "[key]")
        return printable if len(printable) <= WORDS else f"{printable[:WORDS]}..."


def _code(error: Any) -> int:
    """The status in an error object that came with status 200; 500 when it tells none."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return int(code) if code in _STATUSES else 500


def _cause(error: BaseException) -> str:
    """The first cause of a broken connection, in words."""
    said = ""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno:
            return os.strerror(at.errno).lower()
        said = str(at) or said
        at = at.__cause__ or at.__context__
    return said


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds in a Retry-After header, a number or a date (RFC 9110, section 10.2.3)."""
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
