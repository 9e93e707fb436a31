"""Which numbers differ between two runs, and by how much."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cai.evals import Number
from cai.evals._intervals import Interval, added
from cai.report.side_by_side import SideBySide, side_by_side
from cai.report.summary import Table


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A number of two runs; `difference` is the second less the first, `interval` its 95 % interval.

    The two are taken as independent (Zou and Donner 2008), which is on the safe side where both runs answered
    the same prompts.
    """

    table: str
    headline: bool
    one: Number
    other: Number

    @property
    def difference(self) -> float:
        return self.other.value - self.one.value

    @property
    def interval(self) -> Interval:
        minus = (-self.one.value, (-self.one.high, -self.one.low))
        return added(minus, (self.other.value, (self.other.low, self.other.high)))

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        low, high = self.interval
        return low > 0 or high < 0


def effects(one: Path, other: Path) -> tuple[list[Effect], SideBySide]:
    """Every number that both runs measured, of models of one name, and what else there is to compare."""
    both = side_by_side([one, other])
    first, second = both.summaries
    found = []
    for shared in both.shared:
        if first in shared.tables and second in shared.tables:
            found += list(_of_table(shared.tables[first], shared.tables[second]))
    return found, both


def _of_table(one: Table, other: Table) -> Iterator[Effect]:
    theirs = {_key(number): number for number in other.numbers}
    for number in one.numbers:
        match = theirs.get(_key(number))
        if match is not None and number.n and match.n:
            headline = number.name in one.headline and not number.group
            yield Effect(table=one.name, headline=headline, one=number, other=match)


def _key(number: Number) -> tuple[str, str, str]:
    return Path(number.of).name or number.of, number.name, number.group
