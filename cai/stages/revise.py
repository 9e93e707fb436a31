"""Rewrite the newest answer, as often as asked, each round under a principle drawn anew."""

from dataclasses import dataclass
from typing import ClassVar

from cai.config import key
from cai.constitution import Principle
from cai.errors import CaiError
from cai.records import Record, Reject, Row, Turn
from cai.stages import Asking
from cai.stages._asking import reject
from cai.stages._review import Reviewing


@dataclass(frozen=True, kw_only=True)
class Revise(Reviewing):
    """A critique that is there already is the first round's; the others are asked for here.

    A record that fails in any round is rejected whole.
    """

    rounds: int = key(1, "How often to revise; 0: the answers pass as they are.")
    critique: bool = key(True, "Revise under a critique; false: straight after the answer.")
    skip_clear: bool = key(True, "Keep an answer whose critique found nothing to change.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 0:
            raise ValueError(f"'rounds' is {self.rounds}; write 0 or a number above it")

    def work(self, record: Record) -> Asking[list[Row]]:
        if record.answer is None:
            return [reject(record, "revise", "no answer", "revise takes what generate or critique wrote")]
        if record.pending and not self.critique:
            return [
                reject(record, "revise", "already critiqued", "with critique = false, revise takes answers")
            ]
        for _ in range(self.rounds):
            grown = yield from self._round(record)
            if isinstance(grown, Reject):
                return [grown]
            record = grown
        return [record]

    def _round(self, record: Record) -> Asking[Record | Reject]:
        principle = self._principle(record)
        if self.critique and record.pending is None:
            criticised = yield from self.write_critique("revise", record, principle)
            if isinstance(criticised, Reject):
                return criticised
            record = criticised
        critique = record.pending
        if critique and critique.finish == "length":
            detail = f"critique {record.rounds + 1} ended at its token limit"
            return reject(record, "revise", "truncated critique", detail, critique.text)
        if critique and self.skip_clear and self.frames.critique.is_clear(critique.text):
            return record.then(_kept(record, critique))
        return (yield from self.write_revision("revise", record, principle))

    def _principle(self, record: Record) -> Principle:
        """The pending critique's own principle, else one drawn for this round."""
        if record.pending is None:
            return self.draw_principle(record)
        principle = self.constitution.get(record.pending.principle)
        if principle is None:
            missing = f"'{self.constitution.name}' has no principle '{record.pending.principle}'"
            raise CaiError(
                f"{missing}, which the critique of {record.id} was written under",
                where="revise",
                next="revise with the constitution that the critiques were made with",
            )
        return principle


def _kept(record: Record, critique: Turn) -> Turn:
    """The answer itself as this round's revision: nobody was asked."""
    answer = record.answer
    assert answer is not None
    return Turn(
        kind="revision",
        text=answer.text,
        principle=critique.principle,
        model=answer.model,
        weights=answer.weights,
        finish="kept",
    )
