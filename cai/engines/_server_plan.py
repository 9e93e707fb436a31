"""What a request becomes: HTTP calls to make, and how the reply is read from their answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cai.engines import Reply, Request

Body = Mapping[str, Any]


class Malformed(Exception):
    """The answer is not what the protocol says; another try may bring one that is."""


class Lacking(Exception):
    """The endpoint can never give what is asked for: `what` that is, `next` the way out."""

    def __init__(self, what: str, next: str) -> None:
        super().__init__(what)
        self.what, self.next = what, next


@dataclass(frozen=True, kw_only=True)
class Call:
    """One POST. `read` makes a part of the reply of its answer; it raises `Malformed` or `Lacking`."""

    path: str
    body: Body
    read: Callable[[Body], Any]
    wants_logprobs: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The calls that answer a request, and the reply that their parts make."""

    calls: tuple[Call, ...]
    join: Callable[[Sequence[Any]], Reply]


class Way(Protocol):
    """A way to ask an endpoint."""

    def plan(self, request: Request) -> Plan:
        """Raises `Unanswerable` for this request, `CaiError` for all of its kind."""
        ...

    def canary(self) -> Call:
        """The least that a working endpoint can be asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens that a call took, as the endpoint counts them; 0 where it does not."""

    prompt: int
    cached: int
    new: int


def only(parts: Sequence[Reply]) -> Reply:
    """The reply of a plan with one call."""
    [reply] = parts
    return reply


def choice_of(body: Body) -> Mapping[str, Any]:
    """The one choice in an answer."""
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Malformed("its answer has not one choice")
    choice: dict[str, Any] = choices[0]
    return choice


def usage_of(body: Body) -> Usage:
    usage = _table(body.get("usage"))
    details = _table(usage.get("prompt_tokens_details"))
    return Usage(
        prompt=_count(usage.get("prompt_tokens")),
        cached=_count(details.get("cached_tokens")),
        new=_count(usage.get("completion_tokens")),
    )


def finish_of(choice: Mapping[str, Any]) -> tuple[str, str]:
    """The finish reason of a text as ours, and what is wrong with it, if anything."""
    finish = choice.get("finish_reason")
    if finish in ("stop", "length"):
        return finish, ""
    if not isinstance(finish, str) or finish == "abort":
        raise Malformed(f"its answer breaks off (finish_reason {finish!r})")
    return "stop", f"the endpoint ended the answer with '{finish}'"


def number_of(value: Any) -> float:
    """A log-prob."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value <= 1e-3:
        raise Malformed(f"its answer has {value!r} for a log-prob")
    return float(value)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
