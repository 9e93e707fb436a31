"""An engine without a model: replies are a function of the request. For tests and --dry-run."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush
from math import fsum, log
from typing import Any

from cai.config import execution, key
from cai.engines import Options, Reply, Request, Sampling, Worth
from cai.engines._requests import cut_at_stop
from cai.errors import CaiError

Answer = Callable[[Request], Reply]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What to reply when the last message holds `contains`, or when the pattern `matches` is found in it.

    `text` answers what asks for text, unless it is empty. `prefers` is the option that gets the probability
    `share`; the other options have the rest in equal parts.
    """

    contains: str = ""
    matches: str = ""
    text: str = ""
    prefers: str = ""
    share: float = 0.9

    def __post_init__(self) -> None:
        if bool(self.contains) == bool(self.matches):
            raise ValueError("a rule needs 'contains' or 'matches', and not both")
        if not 0 < self.share < 1:
            raise ValueError(f"share = {self.share}, it must be above 0 and below 1")
        try:
            re.compile(self.matches)
        except re.error as error:
            raise ValueError(f"matches = '{self.matches}' is no regular expression ({error})") from error

    def fits(self, message: str) -> bool:
        """Whether this rule is for a conversation that ends with `message`."""
        if self.contains:
            return self.contains in message
        return re.search(self.matches, message) is not None


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """Replies by the first rule that fits; else `text`, where {draw} is eight digits drawn from the request.

    Options that no rule prefers, and completions, get log-probabilities drawn from the request; what a
    completion is worth is drawn from -1 to 1.
    """

    rules: tuple[Rule, ...] = ()
    text: str = key("This is scripted answer {draw}.", help="the reply where no rule fits")
    model: str = key("scripted", help="the label of its replies")
    capacity: int = execution(64, help="requests in flight at once")

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity = {self.capacity}, it must be at least 1")

    def open(self) -> "ScriptedSession":
        """A session; there is nothing to load."""
        return ScriptedSession(self.answer, capacity=self.capacity)

    def share(self) -> float:
        """It needs no device."""
        return 0.0

    def identity(self) -> dict[str, Any]:
        """The rules are the model."""
        rules = [vars(rule) for rule in self.rules]
        return {"engine": "scripted", "model": self.model, "rules": rules, "text": self.text}

    def answer(self, request: Request) -> Reply:
        """The one reply to a request."""
        want = request.want
        rule = next((rule for rule in self.rules if rule.fits(request.messages[-1]["content"])), None)
        drawn = _draw(request)
        size = sum(len(message["content"]) for message in request.messages) + len(request.prefix)
        prompt_tokens = -(-size // 4)
        if isinstance(want, Options):
            logps = _preferred(want.options, rule) or _drawn_logps(want.options, drawn)
            return Reply(logps=logps, model=self.model, prompt_tokens=prompt_tokens)
        if isinstance(want, Worth):
            return Reply(score=drawn / 2**31 - 1, model=self.model, prompt_tokens=prompt_tokens)
        if not isinstance(want, Sampling):
            logp = -0.25 * (1 + len(want.completion)) * (1 + drawn / 2**32)
            # One token a word, and the end.
            tokens = tuple(range(len(want.completion.split()) + 1))
            return Reply(logps=(logp,), tokens=tokens, model=self.model, prompt_tokens=prompt_tokens)
        template = rule.text if rule and rule.text else self.text
        text = template.replace("{draw}", f"{drawn:08x}")
        cut = cut_at_stop(text, want.stop)
        words = (text if cut is None else cut).split(" ")
        return Reply(
            text=" ".join(words[: want.max_tokens]),
            finish="stop" if len(words) <= want.max_tokens else "length",
            model=self.model,
            prompt_tokens=prompt_tokens,
            new_tokens=min(len(words), want.max_tokens),
        )


class ScriptedSession:
    """Any function from requests to replies as a session.

    Half of what is in flight finishes in each poll, in an order unlike that of submission.
    """

    def __init__(self, answer: Answer, *, capacity: int = 64) -> None:
        self._answer, self._capacity = answer, capacity
        self._flight: list[tuple[int, int, Request]] = []
        self._closed = False

    @property
    def capacity(self) -> int:
        """How many requests it takes at once."""
        return self._capacity

    def submit(self, ticket: int, request: Request) -> None:
        """Take a request. Raises `CaiError` when closed."""
        if self._closed:
            raise CaiError("this engine is closed", next="open it again")
        heappush(self._flight, (ticket * 0x9E3779B1 & 0xFFFFFFFF, ticket, request))

    def poll(self) -> Sequence[tuple[int, Reply]]:
        """The replies to half of the requests in flight; nothing when there are none."""
        finished = [heappop(self._flight) for _ in range((len(self._flight) + 1) // 2)]
        return [(ticket, self._answer(request)) for _, ticket, request in finished]

    def close(self) -> None:
        """Forget what is in flight."""
        self._flight.clear()
        self._closed = True


def _draw(request: Request) -> int:
    """32 bits that stand for the request: its messages, prefix, seed and what it wants."""
    parts = [message["content"] for message in request.messages]
    if isinstance(request.want, Worth):
        parts.append(request.want.completion)
    text = "\0".join((*parts, request.prefix, str(request.seed), type(request.want).__name__))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest())


def _preferred(options: tuple[str, ...], rule: Rule | None) -> tuple[float, ...]:
    """log P of each option under a rule that prefers one of them; empty if it does not."""
    if rule is None or rule.prefers not in options:
        return ()
    rest = (1 - rule.share) / max(1, len(options) - 1)
    return tuple(log(rule.share if option == rule.prefers else rest) for option in options)


def _drawn_logps(options: tuple[str, ...], drawn: int) -> tuple[float, ...]:
    """log P of each option, nine tenths in all."""
    weights = [1 + (drawn ^ 0x9E3779B1 * (at + 1)) % 1000 for at in range(len(options))]
    whole = fsum(weights)
    return tuple(log(0.9 * weight / whole) for weight in weights)
