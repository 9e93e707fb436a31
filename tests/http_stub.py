"""An OpenAI-compatible endpoint for tests: in a thread, or as a process to be killed.

Its answers are the scripted engine's. It misbehaves on order: `faults` are used up one a request, canaries
not counted; `canary` is what befalls each of those.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cai.engines import Options, Request, Sampling
from cai.engines.scripted import Scripted

MODEL = "served"
ANSWERS = Scripted()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What comes in place of an answer. `part` cuts the body off, `silence` never sends a byte."""

    status: int = 200
    body: bytes | Callable[[dict[str, Any]], Any] = b""
    headers: tuple[tuple[str, str], ...] = ()
    part: float = 1.0
    close: bool = False
    silence: bool = False


def status(code: int, message: str = "", **headers: str) -> Fault:
    body = json.dumps({"error": {"message": message or f"status {code}", "code": code}}).encode()
    return Fault(
        status=code,
        body=body,
        headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()),
    )


def instead(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """The answer, changed."""
    return Fault(body=change)


def choices(*found: Any) -> Fault:
    """The answer with other choices."""
    return instead(lambda answer: {**answer, "choices": list(found)})


CLOSED = Fault(close=True)
SILENT = Fault(silence=True)
EMPTY = Fault(body=b"")
GARBAGE = Fault(body=b"<html>\x00\xff what? \x1b[31m</html>")
HALF = replace(instead(lambda answer: answer), part=0.5)


@dataclass(kw_only=True)
class Stub:
    """What it does, and what it was asked."""

    faults: deque[Fault | None] = field(default_factory=deque)
    canary: Fault | None = None
    always: Fault | None = None
    models: Fault | None = None
    answer: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None
    delay: float = 0.0
    most: int = 10**9
    url: str = ""
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    busy: int = 0
    peak: int = 0
    served: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection lives on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        size = int(headers.get("content-length", 0))
        raw = await reader.readexactly(size)
        if path.endswith("/models"):
            listed = {"object": "list", "data": [{"id": MODEL, "max_model_len": 4096}]}
            return await self._send(writer, self.models, listed)
        body = json.loads(raw)
        if headers.get("x-request-id", "").startswith("cai-canary"):
            return await self._send(writer, self.canary, self._answer(path, body))
        self.asked.append((path, headers, body))
        fault = self.faults.popleft() if self.faults else self.always
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            if self.busy > self.most:
                fault = status(429, "slow down")
            elif self.delay:
                await asyncio.sleep(self.delay)
            done = await self._send(writer, fault, self._answer(path, body))
            self.served += fault is None
            return done
        finally:
            self.busy -= 1

    def _answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.answer(path, body) if self.answer else chat_answer(body)

    async def _send(self, writer: asyncio.StreamWriter, fault: Fault | None, answer: dict[str, Any]) -> bool:
        fault = fault or instead(lambda whole: whole)
        if fault.silence:
            await asyncio.sleep(3600)
        if fault.close:
            return False
        body = fault.body if isinstance(fault.body, bytes) else json.dumps(fault.body(answer)).encode()
        head = [
            f"HTTP/1.1 {fault.status} OK",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
        ]
        head += [f"{name}: {value}" for name, value in fault.headers]
        writer.write("\r\n".join([*head, "", ""]).encode() + body[: int(len(body) * fault.part)])
        await writer.drain()
        return fault.part == 1.0


def request_of(body: dict[str, Any]) -> Request:
    """The request that a chat body puts into HTTP."""
    messages, prefix = tuple(body["messages"]), ""
    if body.get("continue_final_message"):
        messages, prefix = messages[:-1], messages[-1]["content"]
    want: Any = Options(options=(" A", " B")) if body.get("logprobs") else Sampling()
    return Request(messages=messages, want=want, prefix=prefix, seed=body.get("seed", 0))


def chat_answer(body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer to a chat body, as vllm serve gives it."""
    request = request_of(body)
    reply = ANSWERS.answer(request)
    choice: dict[str, Any] = {"index": 0, "finish_reason": reply.finish, "logprobs": None}
    choice["message"] = {"role": "assistant", "content": reply.text}
    if isinstance(request.want, Options):
        top = [
            {"token": token, "logprob": logp, "bytes": None}
            for token, logp in zip(request.want.options, reply.logps, strict=True)
        ]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        choice["message"]["content"] = " A"
    usage = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": max(1, reply.new_tokens),
        "prompt_tokens_details": {"cached_tokens": reply.prompt_tokens // 2},
    }
    return {"id": "x", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}


@contextmanager
def serving(stub: Stub | None = None, port: int = 0) -> Iterator[Stub]:
    """A stub at work in a thread, its `url` set."""
    stub = stub or Stub()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(stub.serve, "127.0.0.1", port)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield stub
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def forever(port: int, delay: float) -> None:
    server = await asyncio.start_server(Stub(delay=delay).serve, "127.0.0.1", port)
    print(os.getpid(), server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def reborn(port: int, delay: float, pause: float) -> None:
    """Serve in a child; `pause` seconds after it was killed, in another. Each says its pid and port."""
    while True:
        child = os.fork()
        if child == 0:
            asyncio.run(forever(port, delay))
        os.waitpid(child, 0)
        time.sleep(pause)


if __name__ == "__main__":
    reborn(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
