"""A judge says which of two answers a principle prefers. It asks like a stage does: by `yield`ing requests.

A judge that sees both answers shows them in both orders, so that liking a position cannot pass for liking an
answer, and puts them inside fences that text within them cannot close. A reply that holds no verdict is
`Unreadable`, never a coin flip.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from cai.appoint import appoint
from cai.config import identity
from cai.constitution import Principle
from cai.errors import CaiError
from cai.records import Messages
from cai.stages import Asking


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`p_first` is P(first answer is better), what the judge makes of all that it read.

    `orders` is that probability as read with the first answer shown first, then shown second; it is shorter
    for a judge that looks in one order, and empty for one that rates each answer apart, whose ratings are in
    `scores`. `samples` holds the orders of each reading where there were several, `members` what the judges
    of a panel said, and `note` the reasoning.
    """

    p_first: float
    orders: tuple[float, ...]
    samples: tuple[tuple[float, ...], ...] = ()
    scores: tuple[float, ...] = ()
    members: tuple["Member", ...] = ()
    note: str = ""
    model: str = ""
    weights: str = ""

    @property
    def agree(self) -> bool:
        """Whether all orders name the same winner."""
        leanings = [p_first - 0.5 for p_first in self.orders or (self.p_first,)]
        return all(one * leanings[0] > 0 for one in leanings)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """No verdict could be read: why, and what the model wrote."""

    reason: str
    raw: str = ""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A judge of a panel, how much it counts, and what it said."""

    appointed: "Appointed"
    weight: float
    outcome: Verdict | Unreadable


class Judge(Protocol):
    """A frozen keyword-only dataclass; its fields are its TOML keys. `seed` is for its sampling, if any.

    One that does not read the principle says so with an attribute `principled = False`, one that does not
    show both orders with `both_orders = False`. One that averages several readings says how with an
    attribute `average`, and what is made of several of its verdicts is averaged in the same way.
    """

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle, seed: int
    ) -> Asking[Verdict | Unreadable]: ...


@dataclass(frozen=True, kw_only=True)
class Appointed:
    """The judge that a stage or an eval was given, the type of judge it is, and the name it goes by.

    Two judges of a type are told apart by a name of their own.
    """

    name: str
    judge: Judge
    called: str = ""

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Appointed":
        """From a judge's type, or from a table with the type, its own keys beside it, and maybe a `name`."""
        table = dict(value) if isinstance(value, dict) else value
        called = table.pop("name", "") if isinstance(table, dict) else ""
        if not isinstance(called, str):
            raise CaiError(f"'name' is {called!r}", where=where, next="write a string")
        if called.startswith("human:"):
            raise CaiError(f"'name' is '{called}'", where=where, next="leave that name to humans")
        name, judge = appoint("judges", table, where)
        return cls(name=name, judge=judge, called=called)

    @property
    def annotator(self) -> str:
        """What its annotations are signed with."""
        return self.called or self.name

    @property
    def principled(self) -> bool:
        """Whether it judges by a principle."""
        return bool(getattr(self.judge, "principled", True))

    @property
    def in_both_orders(self) -> bool:
        """Whether its verdicts have two orders that may disagree."""
        return bool(getattr(self.judge, "both_orders", True))

    def identity(self) -> dict[str, Any]:
        named = {"name": self.called} if self.called else {}
        return {"type": self.name, **named, **identity(self.judge)}
