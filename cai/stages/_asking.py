"""What the stages that have a model write share: their sampling keys, and how a reply becomes a turn."""

from dataclasses import dataclass
from functools import cached_property

from cai.config import key
from cai.engines import Reply, Sampling
from cai.records import Message, Messages, Record, Reject, Turn, TurnKind, digest


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The keys of a stage that samples text. Each request has its own seed, drawn from `seed` and its ids."""

    max_tokens: int = key(512, "The most tokens a text may have.")
    temperature: float = key(1.0, "Sampling temperature; 0 is greedy.")
    top_p: float = key(1.0, "Sample from the likeliest tokens that hold this share of the probability.")
    top_k: int = key(0, "Sample from this many of the likeliest tokens; 0: from all.")
    stop: tuple[str, ...] = key((), "Texts that end an answer.")
    seed: int = key(0, "Seed of all draws.")

    def __post_init__(self) -> None:
        check_sampling(self.max_tokens, self.temperature)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"'top_p' is {self.top_p:g}; write a number above 0 and at most 1")
        if self.top_k < 0:
            raise ValueError(f"'top_k' is {self.top_k}; write 0 or a number above it")
        if "" in self.stop:
            raise ValueError("'stop' holds an empty text; take it out")

    @cached_property
    def sampling(self) -> Sampling:
        """What its requests want: the same for all."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=self.stop,
        )


def check_sampling(max_tokens: int, temperature: float) -> None:
    """Refuse, with a `ValueError`, what no sampler can do."""
    if max_tokens < 1:
        raise ValueError(f"'max_tokens' is {max_tokens}; write a number above 0")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"'temperature' is {temperature:g}; write 0 or a number above it")


def turn_of(kind: TurnKind, reply: Reply, *, principle: str = "", wording: str = "") -> Turn:
    """The turn a reply makes; its text is the model's, byte for byte."""
    return Turn(
        kind=kind,
        text=reply.text,
        principle=principle,
        wording=wording,
        model=reply.model,
        weights=reply.weights,
        finish=reply.finish,
    )


def no_text(reply: Reply) -> tuple[str, str] | None:
    """The reason and detail of a reply that holds no text, or None."""
    if reply.error:
        return "engine", reply.error
    return None if reply.text.strip() else ("empty", f"finish: {reply.finish}")


def reject(record: Record, stage: str, reason: str, detail: str = "", raw: str = "") -> Reject:
    """A record that a stage cannot use."""
    return Reject(
        id=digest("reject", stage, record.id, [turn.text for turn in record.turns]),
        item=record.id,
        prompt_id=record.prompt_id,
        stage=stage,
        reason=reason,
        detail=detail,
        raw=raw,
    )


def lead(shots: Messages, conversation: Messages) -> Messages:
    """Demonstrations in front of a conversation, but after its system message: templates want that first."""
    head: tuple[Message, ...] = tuple(one for one in conversation[:1] if one["role"] == "system")
    return (*head, *shots, *conversation[len(head) :])
