"""What an objective reads, made of records and comparisons, and tokenised. No torch.

Whatever is left out is counted under its reason, and so is what is cut short.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isclose
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from cai.chat import Example, TrainOn, control_token, encode_example
from cai.errors import CaiError
from cai.records import Comparison, Messages, Record, Scalar, assistant, digest

LearnFrom = Literal["last", "all"]
Label = Literal["soft", "hard"]
TooLong = Literal["error", "skip", "truncate-left"]
TOO_LONG = "rows beyond the model's context: error, skip or truncate-left (the prompt)"


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A dialogue that ends with the assistant; `weight` is how much each of its tokens counts.

    `meta` is what its line held besides; nothing is learned from it.
    """

    id: str
    messages: Messages
    weight: float = 1.0
    meta: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def texts(self) -> Messages:
        return self.messages


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Two answers to one prompt; `p_a` is the probability that the first is the better one."""

    id: str
    prompt: Messages
    a: str
    b: str
    p_a: float
    weight: float = 1.0

    @property
    def texts(self) -> Messages:
        return (*self.prompt, assistant(self.a), assistant(self.b))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """K answers to one prompt, best first, and the probability of each to be the best of them."""

    id: str
    prompt: Messages
    answers: tuple[str, ...]
    probabilities: tuple[float, ...]
    weight: float = 1.0

    @property
    def texts(self) -> Messages:
        return (*self.prompt, *map(assistant, self.answers))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One answer, and the probability that it is one to learn from (as against one to unlearn)."""

    id: str
    prompt: Messages
    answer: str
    p: float
    weight: float = 1.0

    @property
    def texts(self) -> Messages:
        return (*self.prompt, assistant(self.answer))


class TokenRow(Protocol):
    """One row of an objective, tokenised: its id and the sequences it takes in a batch."""

    @property
    def name(self) -> str: ...
    @property
    def sequences(self) -> tuple[Example, ...]: ...
    def shortened(self, count: int, keep: int) -> Self:
        """Every sequence without `count` tokens after its first `keep`."""
        ...


RowT = TypeVar("RowT", bound=TokenRow)
Source = TypeVar("Source", Conversation, Preference, Choice, Judged)


@dataclass(frozen=True, kw_only=True)
class Prepared(Generic[RowT]):
    """Tokenised rows, what was left out by reason, how many prompts were cut, and a digest of the rows."""

    rows: tuple[RowT, ...]
    dropped: Mapping[str, int]
    fingerprint: str
    truncated: int = 0


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


def choices(comparisons: Iterable[Comparison], weight: float = 1.0) -> tuple[list[Choice], Counter[str]]:
    """What is learned from all K candidates of comparisons, best first, with the probabilities as they are.

    Comparisons whose candidates are all the same text are left out.
    """
    rows: list[Choice] = []
    left_out: Counter[str] = Counter()
    for comparison in comparisons:
        answers = tuple(comparison.candidates[at].text for at in comparison.ranking)
        if len(set(answers)) == 1:
            left_out["equal sides"] += 1
            continue
        probabilities = tuple(comparison.probabilities[at] for at in comparison.ranking)
        rows.append(
            Choice(
                id=comparison.id,
                prompt=comparison.prompt,
                answers=answers,
                probabilities=probabilities,
                weight=weight,
            )
        )
    return rows, left_out


def judged(comparisons: Iterable[Comparison], weight: float = 1.0) -> tuple[list[Judged], Counter[str]]:
    """What is learned from single answers: the two sides of `preferences`, each with its probability."""
    pairs, left_out = preferences(comparisons, weight)
    rows = [
        Judged(id=f"{pair.id}.{side}", prompt=pair.prompt, answer=answer, p=p, weight=weight)
        for pair in pairs
        for side, answer, p in (("a", pair.a, pair.p_a), ("b", pair.b, 1 - pair.p_a))
    ]
    return rows, left_out


def labelled(probabilities: Sequence[float], label: Label) -> tuple[float, ...]:
    """What is learned of the probabilities of K candidates: "soft" themselves, "hard" 1 for the best.

    Raises `Unusable` when they are none, and for "hard" when no one is the best.
    """
    if not all(0 <= p <= 1 for p in probabilities) or not isclose(sum(probabilities), 1, abs_tol=1e-6):
        raise Unusable("label is no probability")
    if label == "soft":
        return tuple(probabilities)
    best = max(probabilities)
    if list(probabilities).count(best) > 1:
        raise Unusable("tie")
    return tuple(float(p == best) for p in probabilities)


def prepare(
    sources: Iterable[Source],
    encode: Callable[[Source], RowT],
    *,
    tokenizer: Any,
    limit: int,
    too_long: TooLong,
) -> Prepared[RowT]:
    """Tokenise every source with `encode`; leave out, and count, what cannot be learned from.

    A row longer than `limit` tokens is an error, is left out ("skip"), or loses the oldest tokens of its
    prompt but for a BOS at its head ("truncate-left"), all its answers whole and after the same prompt.
    Raises `CaiError` for such a row, for one whose prompt cannot give enough, and when no row is left.
    """
    rows: list[RowT] = []
    dropped: Counter[str] = Counter()
    truncated = 0
    sums = blake2b(digest_size=16)
    for source in sources:
        try:
            row = _encode(source, encode, tokenizer)
            fitting = _fitting(row, limit, too_long, tokenizer)
        except Unusable as reason:
            dropped[str(reason)] += 1
            continue
        truncated += fitting is not row
        rows.append(fitting)
        sums.update(repr(fitting).encode("utf-8", "surrogatepass"))
    if not rows:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the input is empty"
        raise CaiError(f"there is nothing to train on ({counts})", next="give a file with usable rows")
    return Prepared(
        rows=tuple(rows), dropped=dict(dropped), fingerprint=sums.hexdigest(), truncated=truncated
    )


def answered(tokenizer: Any, messages: Messages, train_on: TrainOn = "last") -> Example:
    """The example of a conversation. Raises `Unusable` when its last answer is empty."""
    if messages and not messages[-1]["content"].strip():
        raise Unusable("empty answer")
    return encode_example(tokenizer, messages, train_on)


def shorten(example: Example, count: int, keep: int) -> Example:
    """The example without `count` tokens after its first `keep`."""
    left = slice(keep, keep + count)
    ids, mask = list(example.ids), list(example.mask)
    del ids[left], mask[left]
    return Example(ids=tuple(ids), mask=tuple(mask))


def _encode(source: Source, encode: Callable[[Source], RowT], tokenizer: Any) -> RowT:
    if control_token(tokenizer, source.texts) is not None:
        raise Unusable("control token in the text")
    if source.weight <= 0:
        raise CaiError(f"weight {source.weight}", where=f"row {source.id}", next="give a weight above 0")
    try:
        return encode(source)
    except CaiError as error:
        raise CaiError(error.what, where=error.where or f"row {source.id}", next=error.next) from error


def _fitting(row: RowT, limit: int, too_long: TooLong, tokenizer: Any) -> RowT:
    """The row itself, or one cut to `limit` tokens where that is wanted."""
    length = max(len(example.ids) for example in row.sequences)
    if length <= limit:
        return row
    if too_long == "skip":
        raise Unusable("too long")
    over = f"{length} tokens are more than the model's context of {limit}"
    where = f"row {row.name}"
    if too_long == "error":
        ways = 'shorten it, or set too_long = "skip" to leave such rows out or "truncate-left" to cut prompts'
        raise CaiError(over, where=where, next=ways)
    keep = int(row.sequences[0].ids[0] == tokenizer.bos_token_id)
    # A token of the prompt has to stay: the answer's first token is predicted from it.
    room = min(_prompt_length(example) for example in row.sequences) - max(keep, 1)
    if length - limit > room:
        short = f"{over}, and no more than {room} of its prompt can be cut"
        raise CaiError(short, where=where, next='shorten its answer, or set too_long = "skip"')
    return row.shortened(length - limit, keep)


def _prompt_length(example: Example) -> int:
    """Tokens before the last answer: before the last run of tokens to learn."""
    start = len(example.mask)
    while start and example.mask[start - 1]:
        start -= 1
    return start
