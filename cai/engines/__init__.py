"""An engine answers requests. It knows no records, stages or judges.

The contract is a step loop: `submit` puts a request in under a ticket, `poll` hands back whatever has
finished, in any order. So the runner can keep the engine full and pass each reply on at once. A request
carries everything that decides its answer, its seed included: what else is in the batch changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cai.records import Messages


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Ask for text. `temperature` 0 is greedy; `top_p` 1 and `top_k` 0 leave the distribution whole."""

    max_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Options:
    """Ask for log P of each given continuation (one token or more), straight after the messages and the
    prefix.

    No temperature, no renormalisation over the options: what the options leave over is the reader's to see.
    """

    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Ask for log P of a whole given answer, its end-of-turn token included."""

    completion: str


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Ask a reward model for its score of the conversation that ends with a whole given answer."""

    completion: str


Want = Sampling | Options | Score | Worth


@dataclass(frozen=True, kw_only=True)
class Request:
    """`messages` in chat form; the model goes on from `prefix`, the beginning of the assistant's turn."""

    messages: Messages
    want: Want
    prefix: str = ""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`text` and `finish` ("stop" or "length") answer a `Sampling`; `logps` a `Options` (one each) or `Score`
    (one); `score` a `Worth`.

    `error` is the engine's word that it cannot answer this request (a prompt longer than the model's window);
    then nothing else is set, and what asked makes a Reject of it. Token counts are for the manifest. `tokens`
    are the ids of the text as they were sampled, or of the answer of a `Score`, its end token included, where
    the engine knows them. `sampled_logps` are the log-probabilities of the sampled ones in what they were
    sampled from (temperature, `top_k` and `top_p` counted in), where the engine knows those.
    """

    text: str = ""
    finish: str = "stop"
    logps: tuple[float, ...] = ()
    score: float = 0.0
    tokens: tuple[int, ...] = ()
    sampled_logps: tuple[float, ...] = ()
    error: str = ""
    model: str = ""
    weights: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    new_tokens: int = 0


class Session(Protocol):
    """A model on a device, taking requests. `capacity`: how many requests keep it busy.

    One that only waits in `poll`, its work being done elsewhere, has a property `ready`: whether something
    has finished. Where several engines are at work, those that are not ready wait for those that are.
    """

    @property
    def capacity(self) -> int: ...

    def submit(self, ticket: int, request: Request) -> None: ...

    def poll(self) -> Sequence[tuple[int, Reply]]:
        """Work until something has finished; an empty sequence only when nothing was submitted."""
        ...

    def close(self) -> None:
        """Free the device. What is still in flight is forgotten."""
        ...


class Engine(Protocol):
    """What opens a session: a frozen dataclass whose fields are its TOML keys. Cheap until opened.

    It may have a method `share() -> float`, the share of the device it takes (without it, all), and its
    sessions one `become(engine) -> bool`: go on as another engine in place, if that is possible.
    """

    def open(self) -> Session: ...

    def identity(self) -> dict[str, Any]:
        """What changes the answers: kind, model, weights digest, precision; not batch sizes or devices."""
        ...


def fit_together(engines: Sequence[Engine]) -> bool:
    """Whether the device can hold these engines at once, equal ones being one."""
    distinct: list[Engine] = []
    for engine in engines:
        if engine not in distinct:
            distinct.append(engine)
    shares = [engine.share() if hasattr(engine, "share") else 1.0 for engine in distinct]
    return len(distinct) < 2 or sum(shares) <= 1 + 1e-9
