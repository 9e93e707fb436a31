"""Comparisons without a judge: each record's last revision preferred to its first response."""

from dataclasses import dataclass
from typing import ClassVar

from cai.config import key
from cai.records import Annotation, Comparison, Record, Row
from cai.stages._asking import reject
from cai.stages._pairing import candidate, in_drawn_order, pair_id


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A revision that says what the response said is rejected."""

    confidence: float = key(1.0, "The probability with which the revision is preferred.")
    seed: int = key(0, "Seed of all draws.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence <= 1:
            raise ValueError(f"'confidence' is {self.confidence:g}; write a number above 0.5 and at most 1")

    def work(self, record: Record) -> list[Row]:
        response, revision = record.turns[0] if record.turns else None, record.answer
        if response is None or revision is None or revision.kind != "revision":
            return [reject(record, "pairs", "no revision", "pairs takes what revise wrote")]
        if response.text.strip() == revision.text.strip():
            return [
                reject(
                    record, "pairs", "identical", f"the response stands ({revision.finish})", revision.text
                )
            ]
        pair = ((record, response), (record, revision))
        shown = in_drawn_order(pair, self.seed)
        probabilities = tuple(
            self.confidence if turn is revision else 1 - self.confidence for _, turn in shown
        )
        annotation = Annotation(
            annotator="revision",
            principle=revision.principle,
            protocol="the last revision over the response",
            probabilities=probabilities,
            wording=revision.wording,
            model=revision.model,
            weights=revision.weights,
        )
        return [
            Comparison(
                id=pair_id(pair),
                prompt_id=record.prompt_id,
                prompt=record.prompt,
                meta=record.meta,
                candidates=tuple(map(candidate, shown)),
                annotations=(annotation,),
                probabilities=probabilities,
            )
        ]
