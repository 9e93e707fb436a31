"""Choose which comparisons to learn from: by margin, by length, the best against the worst. Asks no model."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from cai.config import key
from cai.records import Comparison, Reject, Row, draw
from cai.stages._best_worst import NoExtremes, best_worst
from cai.stages._pairing import luce, unwanted, without_repeats


@dataclass(frozen=True, kw_only=True)
class Select:
    """The rules go in the order of the keys, after repeated comparisons; the first one broken is the reason.

    The two sides of a comparison are its best and its worst candidate, as in training. Its margin is the
    difference of their probabilities (among the two): 0 for a tie, 1 for certainty.
    """

    take: Literal["all", "best-worst"] = key(
        "all", "Every comparison, or one a prompt: of its best answer with its worst."
    )
    min_margin: float = key(0.0, "The least margin.")
    max_margin: float = key(1.0, "The largest margin.")
    max_length_ratio: float | None = key(
        None, "How many times as long as the shorter side the longer one may be, in characters."
    )
    per_prompt: int = key(0, "The most comparisons of one prompt, drawn; 0: all.")
    balance_length: bool = key(
        False, "Draw comparisons out until the longer side is preferred in half of them."
    )
    seed: int = key(0, "Seed of all draws.")

    takes: ClassVar[type] = Comparison
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.min_margin <= self.max_margin <= 1:
            margins = f"'min_margin' is {self.min_margin:g} and 'max_margin' {self.max_margin:g}"
            raise ValueError(f"{margins}; write 0 <= min_margin <= max_margin <= 1")
        if self.max_length_ratio is not None and not self.max_length_ratio >= 1:
            raise ValueError(f"'max_length_ratio' is {self.max_length_ratio:g}; write 1 or a number above it")
        if self.per_prompt < 0:
            raise ValueError(f"'per_prompt' is {self.per_prompt}; write 0 or a number above it")

    def work(self, rows: Sequence[Comparison]) -> list[Row]:
        kept = self._taken(without_repeats(rows, "select"))
        kept = [self._within(row) if isinstance(row, Comparison) else row for row in kept]
        return self._few(kept)

    @property
    def surveys(self) -> bool:
        return self.balance_length

    def survey(self, groups: Iterable[Sequence[Comparison]]) -> "Balanced":
        """This stage, knowing of all its items how often the longer side is preferred."""
        places = {True: array("d"), False: array("d")}
        for rows in groups:
            for row in self.work(rows):
                if isinstance(row, Comparison) and (longer := prefers_longer(row)) is not None:
                    places[longer].append(_place(self.seed, row))
        counts = {longer: len(found) for longer, found in places.items()}
        common = counts[True] >= counts[False]
        kept = sorted(places[common])[: counts[not common]]
        return Balanced(
            select=self,
            common=common,
            share=counts[common] / max(1, sum(counts.values())),
            bound=kept[-1] if kept else -1.0,
        )

    def _taken(self, rows: list[Row]) -> list[Row]:
        """With take = best-worst one comparison, and a `Reject` for each other."""
        compared = [row for row in rows if isinstance(row, Comparison)]
        if self.take == "all" or not compared:
            return rows
        found = best_worst(compared)
        rejects: list[Row] = [row for row in rows if not isinstance(row, Comparison)]
        if isinstance(found, NoExtremes):
            return [*(unwanted(row, "select", found.reason, found.detail) for row in compared), *rejects]
        kept, source = found
        met = f"the best answer meets the worst in {source.id}"
        others = [unwanted(row, "select", "other answers", met) for row in compared if row is not source]
        return [kept, *others, *rejects]

    def _within(self, row: Comparison) -> Row:
        """The row itself if its margin and lengths are as wanted."""
        p_best, p_worst = luce(row.probabilities, row.ranking[0], row.ranking[-1])
        margin = p_best - p_worst
        if margin < self.min_margin:
            return unwanted(row, "select", "margin too small", f"{margin:.3f}")
        if margin > self.max_margin:
            return unwanted(row, "select", "margin too large", f"{margin:.3f}")
        lengths = sorted(_lengths(row))
        if self.max_length_ratio is not None and lengths[1] > self.max_length_ratio * lengths[0]:
            detail = f"{lengths[0]} and {lengths[1]} characters"
            return unwanted(row, "select", "lengths too unlike", detail)
        return row

    def _few(self, rows: list[Row]) -> list[Row]:
        compared = [row for row in rows if isinstance(row, Comparison)]
        if not self.per_prompt or len(compared) <= self.per_prompt:
            return rows
        drawn = sorted(compared, key=lambda row: draw(self.seed, row.id, "taken"))[self.per_prompt :]
        out = {row.id for row in drawn}
        detail = f"{len(compared)} of one prompt"
        return [
            unwanted(row, "select", "over per_prompt", detail)
            if isinstance(row, Comparison) and row.id in out
            else row
            for row in rows
        ]


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """`Select` with `balance_length`, once all rows are known.

    Of the comparisons that prefer the `common` kind (True: the longer side) only those whose draw is at most
    `bound` are kept: as many as there are of the other kind. `share` is how many they were before.
    """

    select: Select
    common: bool
    share: float
    bound: float

    takes: ClassVar[type] = Comparison
    makes: ClassVar[type] = Comparison
    groups: ClassVar[bool] = True

    def work(self, rows: Sequence[Comparison]) -> list[Row]:
        return [self._kept(row) if isinstance(row, Comparison) else row for row in self.select.work(rows)]

    def _kept(self, row: Comparison) -> Comparison | Reject:
        if prefers_longer(row) is not self.common or _place(self.select.seed, row) <= self.bound:
            return row
        side = "longer" if self.common else "shorter"
        detail = f"the {side} side is preferred in {self.share:.1%}; this one was drawn out"
        return unwanted(row, "select", "length balance", detail)


def prefers_longer(row: Comparison) -> bool | None:
    """Whether the preferred side is the longer one; None for a tie, or sides of one length."""
    best, worst = _lengths(row)
    if best == worst or row.probabilities[row.ranking[0]] == row.probabilities[row.ranking[-1]]:
        return None
    return best > worst


def _lengths(row: Comparison) -> tuple[int, int]:
    """The characters of the best and of the worst candidate."""
    best, worst = (row.candidates[row.ranking[at]].text.strip() for at in (0, -1))
    return len(best), len(worst)


def _place(seed: int, row: Comparison) -> float:
    return draw(seed, row.id, "balance")
