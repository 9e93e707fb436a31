"""What an objective reads, made of records and comparisons, and tokenised. No torch.

Whatever is left out is counted under its reason; nothing is cut short.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, Literal, Protocol, TypeVar

from cai.chat import Example, TrainOn, control_token, encode_example
from cai.errors import CaiError
from cai.records import Comparison, Messages, Record, assistant, digest

LearnFrom = Literal["last", "all"]
TooLong = Literal["error", "skip"]


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A dialogue that ends with the assistant; `weight` is how much each of its tokens counts."""

    id: str
    messages: Messages
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Two answers to one prompt; `p_a` is the probability that the first is the better one."""

    id: str
    prompt: Messages
    a: str
    b: str
    p_a: float
    weight: float = 1.0


class TokenRow(Protocol):
    """One row of an objective, tokenised: its id and the sequences it takes in a batch."""

    @property
    def name(self) -> str: ...
    @property
    def sequences(self) -> tuple[Example, ...]: ...


RowT = TypeVar("RowT", bound=TokenRow)
Source = TypeVar("Source", Conversation, Preference)


@dataclass(frozen=True, kw_only=True)
class Prepared(Generic[RowT]):
    """Tokenised rows, what was left out by reason, and a digest of the rows."""

    rows: tuple[RowT, ...]
    dropped: Mapping[str, int]
    fingerprint: str


class Unusable(Exception):
    """A row that cannot be learned from; its text is the reason it is counted under."""


def conversations(
    records: Iterable[Record], learn_from: LearnFrom = "last", weight: float = 1.0
) -> tuple[list[Conversation], Counter[str]]:
    """What SFT learns from records, and how many answers were left out by reason.

    "last" takes the newest answer of each record, "all" every distinct revision (the response of a record
    that has none). An answer that was cut off at the length limit is left out: it would teach to stop in
    mid-sentence.
    """
    rows: list[Conversation] = []
    left_out: Counter[str] = Counter()
    for record in records:
        answers = _answers(record, learn_from)
        if not answers:
            left_out["no answer"] += 1
        for at, (text, finish) in enumerate(answers.items()):
            if finish == "length":
                left_out["truncated answer"] += 1
                continue
            name = record.id if learn_from == "last" else digest("row", record.id, at)
            rows.append(Conversation(id=name, messages=(*record.prompt, assistant(text)), weight=weight))
    return rows, left_out


def _answers(record: Record, learn_from: LearnFrom) -> dict[str, str]:
    """Answer text -> why it ended, in order."""
    if record.answer is None:
        return {}
    revisions = {turn.text: turn.finish for turn in record.turns if turn.kind == "revision"}
    return revisions if learn_from == "all" and revisions else {record.answer.text: record.answer.finish}


def preferences(
    comparisons: Iterable[Comparison], weight: float = 1.0
) -> tuple[list[Preference], Counter[str]]:
    """What DPO learns from comparisons: the best candidate as `a`, the worst as `b`, and how sure it is.

    `p_a` is the probability of `a` among the two. Comparisons whose two sides are the same text are left out.
    """
    rows: list[Preference] = []
    left_out: Counter[str] = Counter()
    for comparison in comparisons:
        best, worst = comparison.ranking[0], comparison.ranking[-1]
        a, b = comparison.candidates[best].text, comparison.candidates[worst].text
        if a == b:
            left_out["equal sides"] += 1
            continue
        p_best, p_worst = comparison.probabilities[best], comparison.probabilities[worst]
        p_a = p_best / (p_best + p_worst)
        rows.append(Preference(id=comparison.id, prompt=comparison.prompt, a=a, b=b, p_a=p_a, weight=weight))
    return rows, left_out


def prepare(
    sources: Iterable[Source],
    encode: Callable[[Source], RowT],
    *,
    tokenizer: Any,
    limit: int,
    too_long: TooLong,
) -> Prepared[RowT]:
    """Tokenise every source with `encode`; leave out, and count, what cannot be learned from.

    Raises `CaiError` for a row longer than `limit` tokens when `too_long` is "error", and when no row is
    left.
    """
    rows: list[RowT] = []
    dropped: Counter[str] = Counter()
    sums = blake2b(digest_size=16)
    for source in sources:
        try:
            row = _encode(source, encode, tokenizer)
            _check_length(row, limit, too_long)
        except Unusable as reason:
            dropped[str(reason)] += 1
            continue
        rows.append(row)
        sums.update(repr(row).encode("utf-8", "surrogatepass"))
    if not rows:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the input is empty"
        raise CaiError(f"there is nothing to train on ({counts})", next="give a file with usable rows")
    return Prepared(rows=tuple(rows), dropped=dict(dropped), fingerprint=sums.hexdigest())


def answered(tokenizer: Any, messages: Messages, train_on: TrainOn = "last") -> Example:
    """The example of a conversation. Raises `Unusable` when its last answer is empty."""
    if messages and not messages[-1]["content"].strip():
        raise Unusable("empty answer")
    return encode_example(tokenizer, messages, train_on)


def _encode(source: Source, encode: Callable[[Source], RowT], tokenizer: Any) -> RowT:
    if control_token(tokenizer, _texts(source)) is not None:
        raise Unusable("control token in the text")
    if source.weight <= 0:
        raise CaiError(f"weight {source.weight}", where=f"row {source.id}", next="give a weight above 0")
    try:
        return encode(source)
    except CaiError as error:
        raise CaiError(error.what, where=error.where or f"row {source.id}", next=error.next) from error


def _texts(source: Conversation | Preference) -> Messages:
    if isinstance(source, Conversation):
        return source.messages
    return (*source.prompt, assistant(source.a), assistant(source.b))


def _check_length(row: TokenRow, limit: int, too_long: TooLong) -> None:
    length = max(len(example.ids) for example in row.sequences)
    if length <= limit:
        return
    if too_long == "skip":
        raise Unusable("too long")
    over = f"{length} tokens are more than the model's context of {limit}"
    raise CaiError(
        over, where=f"row {row.name}", next='shorten it, or set too_long = "skip" to leave such rows out'
    )
