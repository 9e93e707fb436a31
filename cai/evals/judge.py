"""How far a judge's comparisons can be trusted, whatever judged them: against a truth, and without one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cai.config import key
from cai.errors import CaiError
from cai.evals import Number, VerdictRow
from cai.evals._judging import (
    BIAS_BEFORE,
    BOTH_ORDERS,
    DISAGREE,
    ERROR,
    against_gold,
    favours,
    order_effects,
)
from cai.evals._pairs import UNKNOWN, judged
from cai.evals._shares import by
from cai.evals._unread import unread_pairs
from cai.gold import Gold, Utilities
from cai.records import Comparison


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Every annotator by itself, and what several come to together ("combined").

    With `gold`: accuracy, calibration (ECE, Brier, a reliability table), and whether length or the judge's
    own hand wins at equal truth. Without: what the order of the answers does, and what wins how often. Of
    whole files that a judge made, also how many pairs it gave no readable verdict on: they are among their
    rejects.
    """

    gold: Gold | None = key(None, "The truth: meta:KEY, annotator:NAME or file.py:function.")

    takes: ClassVar[type] = Comparison
    headline: ClassVar[Sequence[str]] = (BOTH_ORDERS, ERROR, DISAGREE, BIAS_BEFORE)

    def work(self, comparison: Comparison) -> list[VerdictRow]:
        # Where the truth is one of those who annotated, it is not measured against itself.
        judges = [one for one in comparison.annotations if self.gold is None or not self.gold.is_by(one)]
        truths = [self._truth(comparison, one.principle) for one in judges]
        return [row for *_, row in judged(comparison, judges, truths)]

    def _truth(self, comparison: Comparison, principle: str) -> Utilities:
        return None if self.gold is None else self.gold.utilities(comparison, principle)

    def numbers(self, verdicts: Iterable[VerdictRow]) -> list[Number]:
        rows = list(verdicts)
        if self.gold is not None and rows and all(row["better"] == UNKNOWN for row in rows):
            raise CaiError(
                f"'{self.gold.source}' knows the truth of none of the comparisons",
                where="gold",
                next="name another source, or leave 'gold' out",
            )
        return [number for of, some in by("of", rows).items() for number in self._numbers(of, some)]

    def beside(self, files: Sequence[Path]) -> list[Number]:
        return unread_pairs(files)

    def _numbers(self, of: str, rows: list[VerdictRow]) -> Iterator[Number]:
        if self.gold is not None:
            yield from against_gold(of, rows)
        yield from order_effects(of, rows)
        yield from favours(of, rows)
