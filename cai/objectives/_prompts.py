"""The rows of an objective that makes its own answers: prompts, and demonstrations for its SFT term."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cai.chat import Example, encode_prompt
from cai.errors import CaiError
from cai.objectives.sft import SftRow
from cai.records import Messages, Record, Scalar, assistant, digest
from cai.training.data import Conversation, Prepared, Unusable, answered, prepare, shorten


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """A tokenised prompt; `weight` is how much each token of its answers counts."""

    name: str
    prompt: Example
    messages: Messages
    weight: float
    meta: Mapping[str, Scalar]

    @property
    def sequences(self) -> tuple[Example, ...]:
        return (self.prompt,)

    def shortened(self, count: int, keep: int) -> "PromptRow":
        return replace(self, prompt=shorten(self.prompt, count, keep))


@dataclass(frozen=True, kw_only=True)
class Prompts(Prepared[PromptRow]):
    """Prompts, and what `setup` adds: where rollouts are kept, and what answers and scores them.

    `demonstrations` are rows of the SFT term. `reference` is a copy of the policy as
    training starts; `session` is None for rollouts by the live model itself.
    """

    demonstrations: tuple[SftRow, ...]
    tokenizer: Any
    folder: Path | None = None
    reference: Any = None
    scorer: Any = None
    session: Any = None


def sources_of(
    rows: Iterable[Record], weight: float, *, demonstrate: bool
) -> tuple[list[Conversation], Mapping[str, int]]:
    """Every row's prompt; to `demonstrate`, with the row's newest answer, if it has a whole one."""
    found: list[Conversation] = []
    left_out: Counter[str] = Counter()
    for record in rows:
        answer = record.answer if demonstrate else None
        if answer is not None and answer.finish == "length":
            left_out["truncated answer"] += 1
            continue
        messages = record.prompt if answer is None else (*record.prompt, assistant(answer.text))
        found.append(Conversation(id=record.id, messages=messages, weight=weight, meta=record.meta))
    return found, left_out


def tokenised(
    sources: Sequence[Conversation],
    tokenizer: Any,
    limit: int,
    *,
    room: int,
    too_long: Literal["error", "skip"],
    sft: float,
) -> Prompts:
    """Prompts that leave `room` tokens for an answer, each once, and with `sft` above 0 demonstrations.

    Raises `CaiError` for a prompt that leaves less, unless such are skipped, and where either is missing.
    """
    prompts = [source for source in sources if source.messages[-1]["role"] != "assistant"]
    shown = [source for source in sources if source.messages[-1]["role"] == "assistant"]
    if sft and not (prompts and shown):
        lacking = "row without an answer, to be a prompt" if shown else "row with an answer to learn"
        raise CaiError(
            f"sft = {sft:g} and there is no {lacking}", next="add a file that has such, or leave sft out"
        )
    seen: set[tuple[int, ...]] = set()

    def prompt(source: Conversation) -> PromptRow:
        ids = tuple(encode_prompt(tokenizer, source.messages))
        if ids in seen:
            raise Unusable("same prompt")
        seen.add(ids)
        if len(ids) + room > limit:
            raise _no_room(source.id, len(ids), room, limit) if too_long == "error" else Unusable("too long")
        example = Example(ids=ids, mask=(False,) * len(ids))
        return PromptRow(
            name=source.id,
            prompt=example,
            messages=tuple(source.messages),
            weight=source.weight,
            meta=source.meta,
        )

    def demonstration(source: Conversation) -> SftRow:
        return SftRow(name=source.id, example=answered(tokenizer, source.messages), weight=source.weight)

    rows = prepare(prompts, prompt, tokenizer=tokenizer, limit=limit, too_long=too_long)
    if not sft:
        return Prompts(**vars(rows), demonstrations=(), tokenizer=tokenizer)
    learned = prepare(shown, demonstration, tokenizer=tokenizer, limit=limit, too_long=too_long)
    return Prompts(
        rows=rows.rows,
        dropped=dict(Counter(rows.dropped) + Counter(learned.dropped)),
        fingerprint=digest(rows.fingerprint, learned.fingerprint),
        demonstrations=learned.rows,
        tokenizer=tokenizer,
    )


def _no_room(name: str, length: int, room: int, limit: int) -> CaiError:
    over = f"{length} tokens and max_tokens = {room} are more than the model's context of {limit}"
    return CaiError(over, where=f"row {name}", next='shorten it, lower max_tokens, or set too_long = "skip"')
