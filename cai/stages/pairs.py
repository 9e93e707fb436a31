"""Comparisons without a judge: what revise wrote preferred to a first response."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from cai.config import key
from cai.records import Annotation, Comparison, Record, Row, Turn
from cai.stages._asking import reject
from cai.stages._pairing import Answer, candidate, in_drawn_order, pair_id, without_repeats

PROTOCOLS = {"own": "the last revision over the response", "siblings": "a sibling's last revision over it"}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Only a response that its own revision changed is beaten: one that stands was found good enough.

    By a revision of its own, or by those of the prompt's other samples, which are no rewriting of it.
    """

    over: Literal["own", "siblings"] = key(
        "own", "A revision beats its own response, or those of the prompt's other samples."
    )
    confidence: float = key(1.0, "The probability with which the revision is preferred.")
    seed: int = key(0, "Seed of all draws.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence <= 1:
            raise ValueError(f"'confidence' is {self.confidence:g}; write a number above 0.5 and at most 1")

    def work(self, records: Sequence[Record]) -> list[Row]:
        rows = [row for record in records for row in self._beaten(record, records)]
        return without_repeats(rows, "pairs")

    def _beaten(self, record: Record, records: Sequence[Record]) -> Iterator[Row]:
        """The comparisons that the first response of a record loses."""
        response, revision = _ends(record)
        if response is None or revision is None:
            yield reject(record, "pairs", "no revision", "pairs takes what revise wrote")
            return
        if _same(response, revision):
            stands = f"the response stands ({revision.finish})"
            yield reject(record, "pairs", "identical", stands, revision.text)
            return
        winners = [record] if self.over == "own" else [one for one in records if one is not record]
        answers = [(one, last) for one in winners if (last := _ends(one)[1]) is not None]
        if not answers:
            yield reject(
                record, "pairs", "no sibling", "over = siblings takes two samples of a prompt or more"
            )
        for answer in answers:
            if _same(answer[1], response):
                detail = f"the revision of {answer[0].id} says the same"
                yield reject(record, "pairs", "identical", detail, response.text)
            else:
                yield self._comparison(((record, response), answer), revision)

    def _comparison(self, pair: tuple[Answer, Answer], fault: Turn) -> Comparison:
        """`fault` is the revision that says under which principle the first of the pair was found wanting."""
        record, winner = pair[0][0], pair[1][1]
        shown = in_drawn_order(pair, self.seed)
        probabilities = tuple(self.confidence if turn is winner else 1 - self.confidence for _, turn in shown)
        annotation = Annotation(
            annotator="revision",
            principle=fault.principle,
            protocol=PROTOCOLS[self.over],
            probabilities=probabilities,
            wording=fault.wording,
            model=fault.model,
            weights=fault.weights,
        )
        return Comparison(
            id=pair_id(pair),
            prompt_id=record.prompt_id,
            prompt=record.prompt,
            meta=record.meta,
            candidates=tuple(map(candidate, shown)),
            annotations=(annotation,),
            probabilities=probabilities,
        )


def _ends(record: Record) -> tuple[Turn | None, Turn | None]:
    """The first response of a record and its last revision, as far as there are any."""
    response, last = record.turns[0] if record.turns else None, record.answer
    return response, last if last is not None and last.kind == "revision" else None


def _same(one: Turn, other: Turn) -> bool:
    return one.text.strip() == other.text.strip()
