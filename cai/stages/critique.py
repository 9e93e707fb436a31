"""Criticise the newest answer under a principle drawn for it."""

from dataclasses import dataclass
from typing import ClassVar

from cai.records import Record, Row
from cai.stages import Asking
from cai.stages._asking import reject
from cai.stages._review import Reviewing


@dataclass(frozen=True, kw_only=True)
class Critique(Reviewing):
    """A critique cut off at its token limit is kept as it is, and `revise` refuses it."""

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def work(self, record: Record) -> Asking[list[Row]]:
        if record.answer is None:
            return [reject(record, "critique", "no answer", "critique takes what generate or revise wrote")]
        if record.pending:
            return [reject(record, "critique", "already critiqued", "revise it first")]
        return [(yield from self.write_critique("critique", record, self.draw_principle(record)))]
