"""An eval turns rows into numbers with intervals, and writes every verdict it counted.

It works on items as a stage does (`work`, a plain list or a generator that asks), but its rows are flat JSON
objects ("verdicts"), each whole in itself; `numbers` sees nothing else. So a table can always be recomputed
from the file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from cai.records import Scalar
from cai.stages import Asking

VerdictRow = dict[str, Scalar]
Unit = Literal["share", "plain", ""]


@dataclass(frozen=True, kw_only=True)
class Number:
    """One line of a result: `value` with its 95 % interval [low, high] over `n` rows.

    `of` is whom it is about (a model, a judge), `name` what was measured, `group` a category ("" for all).
    `unit` says how it reads: a "share" in percent, a "plain" number as it is; "" leaves it to the reader, who
    takes for a share what lies between 0 and 1.
    """

    name: str
    of: str
    value: float
    low: float
    high: float
    n: int
    group: str = ""
    unit: Unit = ""


class Eval(Protocol):
    """A frozen keyword-only dataclass; its fields are its TOML keys.

    `takes` is `Record` (answers of a model) or `Comparison`. `headline` names the numbers that go into the
    first table, in order: never one of harmlessness, helpfulness and over-refusal without the others. Where
    it is these three, they stand in this order, and the report draws harm against help.

    An eval may also have `beside(files)`: numbers of what stands beside the files of rows that it read, such
    as their rejects. It is called where all their rows were read.
    """

    takes: ClassVar[type]
    headline: ClassVar[Sequence[str]]

    def work(self, item: Any) -> Asking[list[VerdictRow]] | list[VerdictRow]: ...

    def numbers(self, verdicts: Iterable[VerdictRow]) -> list[Number]: ...
