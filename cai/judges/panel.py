"""Several judges for one comparison: the mean of their verdicts by weight, each kept.

The judges of a panel ask one engine, each with its own frame, demonstrations or reasoning. Judges of several
models are a chain: `cai compare` with the first, `cai annotate` with each other.
"""

from dataclasses import dataclass
from typing import Any

from cai.annotations import Average, mean_first
from cai.config import key
from cai.constitution import Principle
from cai.errors import CaiError
from cai.judges import Appointed, Member, Unreadable, Verdict
from cai.judges._quorum import check_quorum, short_of
from cai.records import Messages, draw_seed
from cai.stages import Asking, together


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A judge on the panel and its weight: a judge's table with a `weight` in it."""

    appointed: Appointed
    weight: float = 1.0

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Seat":
        table = dict(value) if isinstance(value, dict) else value
        weight = table.pop("weight", 1.0) if isinstance(table, dict) else 1.0
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise CaiError(f"'weight' is {weight!r}", where=where, next="write a number above 0")
        return cls(appointed=Appointed.from_toml(table, where), weight=float(weight))

    def identity(self) -> dict[str, Any]:
        return {"judge": self.appointed.identity(), "weight": self.weight}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Two judges or more under one principle; with fewer readable ones than `quorum` there is no verdict."""

    judges: tuple[Seat, ...] = key(help="The judges: names, or tables with a type, a weight and their keys.")
    quorum: int | None = key(None, "How many of the judges must be readable [all].")
    average: Average = key("probability", "What is averaged over the judges, and over several verdicts.")

    def __post_init__(self) -> None:
        if len(self.judges) < 2:
            raise ValueError("a panel has two judges or more; name a single one as the judge itself")
        names = [seat.appointed.annotator for seat in self.judges]
        for seat in self.judges:
            name = seat.appointed.annotator
            if names.count(name) > 1:
                raise ValueError(f"two judges are called '{name}'; give one a name of its own: name = ...")
            if isinstance(seat.appointed.judge, Panel):
                raise ValueError("a panel sits in the panel; list its judges themselves")
            if not seat.appointed.principled:
                raise ValueError(f"'{name}' judges by a model of its own; add it with 'annotate'")
        check_quorum(self.quorum, len(self.judges), "judges")

    @property
    def both_orders(self) -> bool:
        return any(seat.appointed.in_both_orders for seat in self.judges)

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle, seed: int
    ) -> Asking[Verdict | Unreadable]:
        outcomes = yield from together(
            [
                seat.appointed.judge.judge(
                    prompt, first, second, principle, draw_seed(seed, "seat", seat.appointed.annotator)
                )
                for seat in self.judges
            ]
        )
        members = tuple(
            Member(appointed=seat.appointed, weight=seat.weight, outcome=outcome)
            for seat, outcome in zip(self.judges, outcomes, strict=True)
        )
        named = [(f"'{one.appointed.annotator}'", one.outcome) for one in members]
        return short_of(named, self.quorum, "judges") or _pooled(members, self.average)


def _pooled(members: tuple[Member, ...], average: Average) -> Verdict:
    """The verdict of the readable members, one at least."""
    read = [(one.weight, one.outcome) for one in members if isinstance(one.outcome, Verdict)]
    shown = [(weight, one) for weight, one in read if one.orders]
    heavy = [weight for weight, _ in shown]
    # A member that looked in one order has no word on the second.
    orders = zip(*(one.orders for _, one in shown), strict=False)
    return Verdict(
        p_first=mean_first([one.p_first for _, one in read], [weight for weight, _ in read], average),
        orders=tuple(mean_first(each, heavy, average) for each in orders),
        members=members,
        model=read[0][1].model,
        weights=read[0][1].weights,
    )
