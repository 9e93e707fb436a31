"""One datum: what a JSON line of a run holds, its id, and its randomness.

A row is whole in itself: the conversation so far, the ids it came from, the principle, model, wording and
finish reason of each turn. Ids are digests of content and position, and `draw` is a function of the seed and
a key, so order, batch size, sharding and crashes cannot change either.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal, TypedDict

from cai.encoding import canonical
from cai.errors import CaiError

Scalar = str | int | float | bool
_SCALARS = (str, int, float, bool)
TurnKind = Literal["response", "critique", "revision"]


class Message(TypedDict):
    """One chat message; role is "system", "user" or "assistant"."""

    role: str
    content: str


Messages = tuple[Message, ...]


def digest(*parts: Any) -> str:
    """128 bits of BLAKE2b over the canonical JSON of `parts`, as 32 hexadecimal digits."""
    return blake2b(canonical(parts), digest_size=16).hexdigest()


def draw(seed: int, *key: Any) -> float:
    """A uniform number in [0, 1) that depends on nothing but the seed and the key."""
    return _uniform(digest("draw", seed, *key))


def draws(seed: int, *key: Any, last: Iterable[str]) -> Iterator[float]:
    """`draw(seed, *key, one)` for each `one` of `last`; what they share is digested once."""
    shared = canonical(("draw", seed, *key)).removesuffix(b"]")
    begun = blake2b(shared + b",", digest_size=16)
    for one in last:
        hashed = begun.copy()
        hashed.update(_closing(one))
        yield _uniform(hashed.hexdigest())


@lru_cache(maxsize=1024)
def _closing(one: str) -> bytes:
    """The end of a key's canonical JSON; keys end with the same few ids again and again."""
    return canonical(one) + b"]"


def _uniform(mark: str) -> float:
    return int(mark[:13], 16) / 16**13


def draw_seed(seed: int, *key: Any) -> int:
    """A 63-bit seed for a sampler, from the seed and the key."""
    return int(digest("seed", seed, *key)[:16], 16) >> 1


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One thing a model wrote about a prompt.

    `principle` is the id of the principle it was written under, `wording` the fingerprint of the frame,
    few-shots and principle text that asked for it, `model` and `weights` who wrote it, `finish` why it ended:
    "stop", "length", or "kept" for a revision that was not asked for because its critique found nothing to
    change.
    """

    kind: TurnKind
    text: str
    principle: str = ""
    wording: str = ""
    model: str = ""
    weights: str = ""
    finish: str = "stop"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A prompt and the turns made for it so far. It is frozen and only grows: `record.then(turn)`.

    `sample` counts the answers sampled for one prompt; `id` names the prompt, its occurrence and the sample,
    and stays the same through critique and revision. `meta` is whatever else the prompt's line held; no stage
    reads it.
    """

    id: str
    prompt_id: str
    sample: int = 0
    prompt: Messages
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()

    def then(self, turn: Turn) -> "Record":
        # `replace` takes twice as long, and this is done for every row of every stage.
        return Record(**{**vars(self), "turns": (*self.turns, turn)})

    @property
    def answer(self) -> Turn | None:
        """The newest response or revision: what a user would be shown."""
        return next((turn for turn in reversed(self.turns) if turn.kind != "critique"), None)

    @property
    def pending(self) -> Turn | None:
        """The critique that no revision has answered yet."""
        return self.turns[-1] if self.turns and self.turns[-1].kind == "critique" else None

    @property
    def rounds(self) -> int:
        """How many revisions there are."""
        return sum(turn.kind == "revision" for turn in self.turns)

    def conversation(self) -> Messages:
        """The prompt and its newest answer, as an ordinary dialogue."""
        answer = self.answer
        return self.prompt if answer is None else (*self.prompt, assistant(answer.text))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One answer that a comparison weighs: its text and the record and model it came from."""

    text: str
    record: str = ""
    model: str = ""
    weights: str = ""


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What one annotator thought of the candidates.

    `probabilities` are its preference over the candidates (they sum to 1, any order bias averaged out);
    `orders` hold the same from each order in which the candidates were shown, re-sorted to the candidates'
    own order, with the order itself in `shown` (once for each sample of a judge that is asked several times;
    empty where candidates were never shown side by side); `agree` says whether all orders named the same
    winner; `scores` are the candidates' own, where each was rated apart; `note` is its reasoning. `weight` is
    how much it counts when annotations are combined (`cai.annotations`).
    """

    annotator: str
    principle: str = ""
    protocol: str = ""
    probabilities: tuple[float, ...]
    orders: tuple[tuple[float, ...], ...] = ()
    shown: tuple[tuple[int, ...], ...] = ()
    agree: bool = True
    scores: tuple[float, ...] = ()
    weight: float = 1.0
    note: str = ""
    wording: str = ""
    model: str = ""
    weights: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One prompt, K >= 2 candidate answers, who thought what of them, and the probabilities training uses."""

    id: str
    prompt_id: str
    prompt: Messages
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    candidates: tuple[Candidate, ...]
    annotations: tuple[Annotation, ...]
    probabilities: tuple[float, ...]

    @property
    def ranking(self) -> tuple[int, ...]:
        """Candidate positions, best first; equal ones in their own order."""
        return tuple(sorted(range(len(self.candidates)), key=lambda at: -self.probabilities[at]))


@dataclass(frozen=True, kw_only=True)
class Reject:
    """What could not be used, why, and what the model wrote. `item` is the id of what was rejected."""

    id: str
    item: str
    prompt_id: str = ""
    stage: str
    reason: str
    detail: str = ""
    raw: str = ""
    line: int = 0


Row = Record | Comparison | Reject


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def to_row(row: Row) -> dict[str, Any]:
    """The JSON object of a row. The keys are the fields, the same in every line of a file."""
    return asdict(row)


def record_from(row: Mapping[str, Any], where: str) -> Record:
    """A `Record` from its JSON object; `CaiError` names what is missing."""
    try:
        return Record(
            id=row["id"],
            prompt_id=row["prompt_id"],
            sample=row["sample"],
            prompt=tuple(row["prompt"]),
            meta=row["meta"],
            turns=tuple(Turn(**turn) for turn in row["turns"]),
        )
    except (KeyError, TypeError) as error:
        raise _not_a("record", "generate, critique or revise", error, where) from error


def comparison_from(row: Mapping[str, Any], where: str) -> Comparison:
    """A `Comparison` from its JSON object; `CaiError` names what is missing."""
    try:
        return Comparison(
            id=row["id"],
            prompt_id=row["prompt_id"],
            prompt=tuple(row["prompt"]),
            meta=row["meta"],
            candidates=tuple(Candidate(**candidate) for candidate in row["candidates"]),
            annotations=tuple(_annotation(item) for item in row["annotations"]),
            probabilities=tuple(row["probabilities"]),
        )
    except (KeyError, TypeError) as error:
        raise _not_a("comparison", "compare", error, where) from error


def reject_from(row: Mapping[str, Any], where: str) -> Reject:
    """A `Reject` from its JSON object; `CaiError` names what is missing."""
    try:
        return Reject(**row)
    except (KeyError, TypeError) as error:
        raise _not_a("reject", "any stage", error, where) from error


def _annotation(row: Mapping[str, Any]) -> Annotation:
    lists = {
        "probabilities": tuple(row["probabilities"]),
        "orders": tuple(tuple(order) for order in row.get("orders", ())),
        "shown": tuple(tuple(order) for order in row.get("shown", ())),
        "scores": tuple(row.get("scores", ())),
    }
    return Annotation(**{**row, **lists})


def _not_a(noun: str, makers: str, error: Exception, where: str) -> CaiError:
    cause = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
    return CaiError(f"this line is no {noun} ({cause})", where=where, next=f"give a file that {makers} wrote")


def prompt_from(row: Any, occurrence: Callable[[str], int] | None, where: str) -> Record:
    """A fresh `Record` from a line of a request set: a string, or an object with `prompt`: a string or
    messages.

    `occurrence`, called once for a prompt that is sound, says how often its id was seen before, so that a
    repeated prompt is a record of its own. Everything else in the object must be a plain value and becomes
    `meta`.
    """
    fields = {"prompt": row} if isinstance(row, str) else row
    if not isinstance(fields, dict) or "prompt" not in fields:
        next_step = "each line needs a string or a list of messages"
        raise CaiError("'prompt' is missing", where=where, next=next_step)
    prompt = _messages(fields["prompt"], where)
    meta = {key: value for key, value in fields.items() if key != "prompt"}
    for key, value in meta.items():
        if not isinstance(value, _SCALARS):
            raise CaiError(
                f"'{key}' is no plain value", where=where, next="use a string, a number, true or false"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise CaiError(f"'{key}' is too large a number", where=where, next="write it as a string")
    prompt_id = digest("prompt", prompt)
    seen = occurrence(prompt_id) if occurrence else 0
    return Record(id=digest("record", prompt_id, seen, 0), prompt_id=prompt_id, prompt=prompt, meta=meta)


def sibling(record: Record, sample: int) -> Record:
    """The record for the `sample`-th answer to the same prompt."""
    return record if sample == 0 else replace(record, id=digest("sample", record.id, sample), sample=sample)


ROLES = ("system", "user", "assistant")


def _messages(prompt: Any, where: str) -> Messages:
    if isinstance(prompt, str):
        prompt = [user(prompt)]
    if not isinstance(prompt, list | tuple) or not prompt:
        raise CaiError(
            "'prompt' is empty or no list", where=where, next="write a string or a list of messages"
        )
    for at, message in enumerate(prompt):
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise CaiError(
                f"message {at + 1} is not {{role, content}}", where=where, next="give each both keys"
            )
        if message["role"] not in ROLES:
            raise CaiError(f"role {message['role']!r}", where=where, next=f"use one of {', '.join(ROLES)}")
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise CaiError(
                f"message {at + 1} has no text", where=where, next="write its content or take it out"
            )
    if prompt[-1]["role"] != "user":
        raise CaiError(
            "the last message is not the user's", where=where, next="end the prompt with a request"
        )
    return tuple({"role": message["role"], "content": message["content"]} for message in prompt)
