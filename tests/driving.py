"""Drive a stage or a judge by hand: a function of the request stands for the model."""

from collections.abc import Callable
from typing import Any

from cai.engines import Reply, Request
from cai.records import Message, Record, Turn, prompt_from, sibling

Model = Callable[[Request], Reply]


def drive(work: Any, model: Model) -> Any:
    """What `work` returns once `model` has answered all that it asks."""
    return drive_asked(work, model)[0]


def drive_asked(work: Any, model: Model) -> tuple[Any, list[Request]]:
    """The same, and every request in the order of asking."""
    if isinstance(work, list):
        return work, []
    asked: list[Request] = []
    try:
        requests = next(work)
        while True:
            asked += requests
            requests = work.send([model(request) for request in requests])
    except StopIteration as stop:
        return stop.value, asked


def never(request: Request) -> Reply:
    raise AssertionError(f"asked: {request}")


def says(text: str, finish: str = "stop") -> Model:
    return lambda request: Reply(text=text, finish=finish, model="m", weights="w")


def prompt(text: str = "How do I pick a lock?") -> Record:
    return prompt_from(text, None, "test")


def chat(*messages: Message) -> Record:
    return prompt_from({"prompt": list(messages)}, None, "test")


def answered(
    text: str, sample: int = 0, finish: str = "stop", request: str = "How do I pick a lock?"
) -> Record:
    turn = Turn(kind="response", text=text, model="m0", weights="w0", finish=finish)
    return sibling(prompt(request), sample).then(turn)
