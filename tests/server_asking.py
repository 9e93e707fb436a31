"""Asking endpoints through the server engine, and the scripted answers that are to come of it."""

from typing import Any

from http_stub import ANSWERS, MODEL, Stub

from cai.engines import Reply, Request, Sampling
from cai.engines.server import Server


def ask(text: str, want: Any = None, **others: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), want=want or Sampling(), **others)


def engine(*stubs: Stub, **keys: Any) -> Server:
    keys = {"patience": 20.0, "timeout": 5.0, **keys}
    return Server(model=MODEL, endpoints=tuple(stub.url for stub in stubs), **keys)


def answers(server: Server, requests: list[Request]) -> list[Reply]:
    """The replies in the order of the requests, each exactly once."""
    session = server.open()
    try:
        for ticket, request in enumerate(requests):
            session.submit(ticket, request)
        replies: dict[int, Reply] = {}
        while finished := session.poll():
            for ticket, reply in finished:
                assert ticket not in replies
                replies[ticket] = reply
    finally:
        session.close()
    return [replies[ticket] for ticket in range(len(requests))]


def expected(requests: list[Request]) -> list[str]:
    return [ANSWERS.answer(request).text for request in requests]


def many(count: int) -> list[Request]:
    return [ask(f"question {at}", seed=at) for at in range(count)]
