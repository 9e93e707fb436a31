"""Model against model by a judge: who wins how often, and what that says of all of them together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

from cai.annotations import combined
from cai.config import key
from cai.errors import CaiError, RowError
from cai.evals import Number, VerdictRow
from cai.evals._standings import ELO, WIN_RATE, standings
from cai.records import Annotation, Record, Turn, digest
from cai.stages import Asking, together
from cai.stages._asking import reject
from cai.stages._judging import Judging

Answers = dict[tuple[str, str], tuple[Record, Turn]]


@dataclass(frozen=True, kw_only=True)
class Winrate(Judging):
    """The answers of every two models to a request meet, each sample the other's of the same number.

    A tie is half a win for both: an exact half, identical answers, and what `ties` and `disagreements` would
    reject. What the judge could not read counts for nobody.

    Win rates are over prompts. Elo is a Bradley-Terry fit with half a win added to both sides of every pair,
    shown so that the first model has 1000 and 400 points are odds of ten; its intervals are bootstrapped over
    prompts.
    """

    disagreements: Literal["keep", "reject"] = key(
        "reject", "Orders that name different winners: reject makes a tie of them."
    )

    takes: ClassVar[type] = Record
    groups: ClassVar[bool] = True
    headline: ClassVar[Sequence[str]] = (WIN_RATE, ELO)

    def work(self, records: Sequence[Record]) -> Asking[list[Any]]:
        meetings = [
            self._meeting(one, other)
            for answers in _by_request(records)
            for one, other in combinations(answers.values(), 2)
        ]
        if not meetings:
            return [reject(records[0], "winrate", "no rival", "one model alone answered this request")]
        rows = yield from together(meetings)
        return rows

    def _meeting(self, one: tuple[Record, Turn], other: tuple[Record, Turn]) -> Asking[VerdictRow]:
        (record, first), (_, second) = one, other
        row: VerdictRow = {
            "record": record.id,
            "prompt": record.prompt_id,
            "request": record.prompt[-1]["content"],
            "one": first.model,
            "other": second.model,
            "weights_one": first.weights,
            "weights_other": second.weights,
            "answer_one": first.text,
            "answer_other": second.text,
            "length_one": len(first.text),
            "length_other": len(second.text),
            "judge": self.judge.annotator,
            "principle": "",
        }
        if first.text.strip() == second.text.strip():
            return {**row, "outcome": "identical", "won": 0.5}
        id = digest("meeting", record.id, [(turn.model, turn.weights) for turn in (first, second)])
        found = yield from self.opinions(record.prompt, id, first.text, second.text)
        if found.refusal:
            _, why, raw = found.refusal
            return {**row, "outcome": "unreadable", "why": why, "raw": raw}
        return {**row, **self._judged(found.annotations)}

    def _judged(self, annotations: Sequence[Annotation]) -> VerdictRow:
        """Who won, by all annotations together."""
        probabilities = combined(annotations, average=self.average)
        p_one = probabilities[0]
        tie = p_one == 0.5 or self.unsettled(probabilities, annotations) is not None
        row: VerdictRow = {
            "outcome": "judged",
            "principle": " ".join(dict.fromkeys(one.principle for one in annotations)),
            "p_one": p_one,
            "won": 0.5 if tie else float(p_one > 0.5),
        }
        orders = self._orders(annotations)
        if len(orders) == 2:
            row |= {"p_one_first": orders[0], "p_one_second": orders[1]}
        return row

    def numbers(self, verdicts: Iterable[VerdictRow]) -> list[Number]:
        rows = list(verdicts)
        if not rows:
            alone = "no request was answered by two models"
            raise CaiError(alone, next="give two models or more, or the answers of each to the same requests")
        return standings(rows)


def _by_request(records: Sequence[Record]) -> Iterable[Answers]:
    """The answers to each sample of each request, by who wrote them, in the order of the files."""
    found: dict[str, Answers] = {}
    for record in records:
        answer = record.answer
        if answer is None:
            raise RowError("there is no answer", next="give what generate wrote")
        writer = (answer.model, answer.weights)
        answers = found.setdefault(record.id, {})
        if writer in answers:
            raise RowError(
                f"'{answer.model}' answers this request twice", next="give each model's answers once"
            )
        answers[writer] = (record, answer)
    return found.values()
