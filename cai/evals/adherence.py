"""Which principles answers keep, which ones critics found broken, and what each round of revision bought."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import ClassVar, Literal

from cai.config import key
from cai.constitution import Constitution, Principle
from cai.errors import RowError
from cai.evals import Number, VerdictRow
from cai.evals._detecting import UNREADABLE, answer_of
from cai.evals._shares import by, mean, prompts_of, share
from cai.frames import ReviewFrames, default_review
from cai.judges import Unreadable
from cai.questions import Opinion, Question, Questioning
from cai.records import Record, Turn
from cai.stages import Asking, together

# What is asked about an answer: its text and the principle. No question is asked twice.
Asked = tuple[str, str]
Opinions = dict[Asked, Opinion | Unreadable]


@dataclass(frozen=True, kw_only=True)
class PrincipleQuestion(Question):
    """Whether an answer keeps a principle; `$critique` is how the principle itself asks."""

    labels: ClassVar[tuple[str, ...]] = ("kept", "broken")
    fills: ClassVar[frozenset[str]] = frozenset({"critique"})


@cache
def default_question() -> PrincipleQuestion:
    """The shipped question."""
    return PrincipleQuestion.from_toml("adherence", "question")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One revision, and the answer before it."""

    number: int
    before: str
    revision: Turn


@dataclass(frozen=True, kw_only=True)
class Adherence(Questioning):
    """An answer keeps a principle when the model that is asked gives that more than half of the probability.

    Principle kept: of the newest answers. Critique found fault: of the critiques, those that do not end with
    the frame's "nothing to change". Kept before, kept after and gained: the answers before and after each
    revision, under the revision's own principle, and their difference pair by pair; so also what each round
    and each principle bought. What a reply does not tell is left out and counted apart.
    """

    constitution: Constitution = key(help="The principles that the answers were made under.")
    principles: Literal["drawn", "all"] = key(
        "drawn", "The principles that a newest answer is held to: those drawn for its revisions, or all."
    )
    question: PrincipleQuestion = key(factory=default_question, help="What is asked: a TOML file.")
    frames: ReviewFrames = key(factory=default_review, help="The frames that the critiques were made with.")
    seed: int = key(0, "Seed of the draw of a principle for an answer that was never revised.")

    takes: ClassVar[type] = Record
    headline: ClassVar[Sequence[str]] = (
        "principle kept",
        "critique found fault",
        "kept before",
        "kept after",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_reasoning(self.question)

    def work(self, record: Record) -> Asking[list[VerdictRow]]:
        answer = answer_of(record)
        rounds = list(_rounds(record))
        held_to = self._held_to(record, rounds)
        asked = [(answer.text, principle.id) for principle in held_to]
        for one in rounds:
            asked += [(one.before, one.revision.principle), (one.revision.text, one.revision.principle)]
        opinions = yield from self._opinions(record, asked)
        row: VerdictRow = {
            "record": record.id,
            "prompt": record.prompt_id,
            "request": record.prompt[-1]["content"],
        }
        rows = [{**row, **self._critique_row(turn)} for turn in record.turns if turn.kind == "critique"]
        rows += [{**row, **_round_row(one, opinions)} for one in rounds]
        for principle in held_to:
            held = {"what": "answer", "of": answer.model, "answer": answer.text, "principle": principle.id}
            rows.append({**row, **held, **_word("", opinions[answer.text, principle.id])})
        return rows

    def _held_to(self, record: Record, rounds: Sequence[Round]) -> tuple[Principle, ...]:
        """The principles that the newest answer is held to, each once."""
        drawn = tuple(self._principle(one.revision) for one in rounds)
        if self.principles == "all":
            return self.constitution.principles
        if not drawn:
            drawn = (self.constitution.pick(self.seed, record.id, "principle", 0),)
        return tuple({principle.id: principle for principle in drawn}.values())

    def _principle(self, turn: Turn) -> Principle:
        principle = self.constitution.get(turn.principle)
        if principle is None:
            raise RowError(
                f"'{self.constitution.name}' has no principle '{turn.principle}'",
                next="give the constitution that the revisions follow",
            )
        return principle

    def _opinions(self, record: Record, asked: Sequence[Asked]) -> Asking[Opinions]:
        once = list(dict.fromkeys(asked))
        asking = []
        for text, id in once:
            principle = self.constitution.get(id)
            assert principle is not None
            asking.append(self.put(self.question, record.prompt, text, critique=principle.critique))
        found = yield from together(asking)
        return dict(zip(once, found, strict=True))

    def _critique_row(self, turn: Turn) -> VerdictRow:
        fired = not self.frames.critique.is_clear(turn.text)
        said = {"what": "critique", "of": turn.model, "principle": turn.principle}
        return {**said, "critique": turn.text, "fired": fired}

    def numbers(self, verdicts: Iterable[VerdictRow]) -> list[Number]:
        return [number for of, rows in by("of", verdicts).items() for number in _numbers(of, rows)]


def _rounds(record: Record) -> Iterator[Round]:
    """The revisions of a record, in order."""
    answers = [turn for turn in record.turns if turn.kind != "critique"]
    for number, (before, revision) in enumerate(pairwise(answers), start=1):
        yield Round(number=number, before=before.text, revision=revision)


def _round_row(one: Round, opinions: Opinions) -> VerdictRow:
    id = one.revision.principle
    return {
        "what": "revision",
        "of": one.revision.model,
        "round": one.number,
        "principle": id,
        "before": one.before,
        "answer": one.revision.text,
        **_word("before_", opinions[one.before, id]),
        **_word("", opinions[one.revision.text, id]),
    }


def _word(prefix: str, opinion: Opinion | Unreadable) -> VerdictRow:
    """What was said about one answer."""
    if isinstance(opinion, Unreadable):
        return {f"{prefix}says": UNREADABLE, f"{prefix}why": opinion.reason, f"{prefix}note": opinion.raw}
    return {
        f"{prefix}says": opinion.says,
        f"{prefix}p_kept": opinion.probabilities["kept"],
        f"{prefix}note": opinion.note,
    }


def _numbers(of: str, rows: Sequence[VerdictRow]) -> list[Number]:
    """Over all, by round and by principle; a model that only wrote, or only criticised, has only those."""
    what = by("what", rows)
    answers, revisions = what.get("answer", []), what.get("revision", [])
    critiques = what.get("critique", [])
    numbers = [_kept("principle kept", of, answers), _fired(of, critiques), *_bought(of, revisions)]
    words = [*(row["says"] for row in (*answers, *revisions)), *(row["before_says"] for row in revisions)]
    unread = [word == UNREADABLE for word in words]
    prompts = prompts_of((*answers, *revisions, *revisions))
    numbers.append(share("unreadable replies", of, unread, prompts=prompts))
    for number, some in sorted(by("round", revisions).items(), key=lambda item: int(item[0])):
        numbers += _bought(of, some, " by round", f"round {number}")
    way = " by principle"
    for id, some in sorted(by("principle", answers).items()):
        numbers.append(_kept(f"principle kept{way}", of, some, id))
    for id, some in sorted(by("principle", critiques).items()):
        numbers.append(_fired(of, some, way, id))
    for id, some in sorted(by("principle", revisions).items()):
        numbers += _bought(of, some, way, id)
    return numbers


def _kept(name: str, of: str, rows: Sequence[VerdictRow], group: str = "", says: str = "says") -> Number:
    read = [row for row in rows if row[says] != UNREADABLE]
    return share(name, of, [row[says] == "kept" for row in read], group, prompts_of(read))


def _fired(of: str, critiques: Sequence[VerdictRow], way: str = "", group: str = "") -> Number:
    fired = [bool(row["fired"]) for row in critiques]
    return share(f"critique found fault{way}", of, fired, group, prompts_of(critiques))


def _bought(of: str, revisions: Sequence[VerdictRow], way: str = "", group: str = "") -> list[Number]:
    """What a set of revisions bought: the answers before and after them, and the difference pair by pair."""
    both = [row for row in revisions if UNREADABLE not in (row["says"], row["before_says"])]
    gained = [float(row["says"] == "kept") - float(row["before_says"] == "kept") for row in both]
    return [
        _kept(f"kept before{way}", of, both, group, "before_says"),
        _kept(f"kept after{way}", of, both, group),
        mean(f"gained{way}", of, gained, group, prompts_of(both)),
    ]
