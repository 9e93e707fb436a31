"""AI feedback: which of two answers to one prompt a principle prefers, by a judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import ClassVar, Literal

from cai.annotations import combined
from cai.config import key
from cai.records import Comparison, Record, Row, draw
from cai.stages import Asking, together
from cai.stages._asking import reject
from cai.stages._judging import Judging, rejected, unread_members
from cai.stages._pairing import Answer, candidate, in_drawn_order, pair_id


@dataclass(frozen=True, kw_only=True)
class Compare(Judging):
    """All answers to a prompt, from one file or several, meet in pairs; a principle is drawn for each pair.

    The judge sees both orders, and the probabilities kept are their average. Several principles, or the
    judges of a panel, are an annotation each, and the probabilities kept the mean of them all.
    """

    pairing: Literal["all", "adjacent"] = key(
        "all", "Which answers meet: all pairs, or neighbours in the file."
    )
    per_prompt: int = key(0, "The most comparisons of one prompt, drawn; 0: all.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_prompt < 0:
            raise ValueError(f"'per_prompt' is {self.per_prompt}; write 0 or a number above it")

    def work(self, records: Sequence[Record]) -> Asking[list[Row]]:
        answers, rows = _distinct(records)
        if len(answers) == 1 and sum(record.answer is not None for record in records) == 1:
            [(record, _)] = answers
            return [
                *rows,
                reject(record, "compare", "no rival", "compare takes two answers to a prompt or more"),
            ]
        judged = yield from together([self._compare(pair) for pair in self._pairs(answers)])
        return [*(row for made in judged for row in made), *rows]

    def _pairs(self, answers: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
        pairs = list(combinations(answers, 2) if self.pairing == "all" else pairwise(answers))
        if self.per_prompt:
            pairs = sorted(pairs, key=lambda pair: draw(self.seed, pair_id(pair), "taken"))[: self.per_prompt]
        return [in_drawn_order(pair, self.seed) for pair in pairs]

    def _compare(self, pair: tuple[Answer, Answer]) -> Asking[list[Row]]:
        id, (record, first), (_, second) = pair_id(pair), *pair
        found = yield from self.opinions(record.prompt, id, first.text, second.text)
        if found.refusal:
            return [rejected("compare", id, record.prompt_id, found.refusal)]
        probabilities = combined(found.annotations, average=self.average)
        if unsettled := self.unsettled(probabilities, found.annotations):
            return [rejected("compare", id, record.prompt_id, unsettled)]
        comparison = Comparison(
            id=id,
            prompt_id=record.prompt_id,
            prompt=record.prompt,
            meta=record.meta,
            candidates=tuple(map(candidate, pair)),
            annotations=found.annotations,
            probabilities=probabilities,
        )
        return [comparison, *unread_members("compare", id, record.prompt_id, found)]


def _distinct(records: Sequence[Record]) -> tuple[list[Answer], list[Row]]:
    """The answers that differ, and a `Reject` for each that repeats one or is none."""
    answers: dict[str, Answer] = {}
    rejects: list[Row] = []
    for record in records:
        turn = record.answer
        if turn is None:
            rejects.append(
                reject(record, "compare", "no answer", "compare takes what generate or revise wrote")
            )
        elif record.prompt != records[0].prompt:
            other = f"it answers other words than {records[0].id}"
            rejects.append(reject(record, "compare", "another prompt", other, turn.text))
        elif (text := turn.text.strip()) in answers:
            same = answers[text][0].id
            rejects.append(reject(record, "compare", "identical", f"the same text as {same}", turn.text))
        else:
            answers[text] = (record, turn)
    return list(answers.values()), rejects
