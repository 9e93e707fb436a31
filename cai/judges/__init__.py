"""A judge says which of two answers a principle prefers. It asks like a stage does: by `yield`ing requests.

Every judge shows both orders, so that liking a position cannot pass for liking an answer, and puts the
answers inside fences that text within them cannot close. A reply that holds no verdict is `Unreadable`,
never a coin flip.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from cai.appoint import appoint
from cai.config import identity
from cai.constitution import Principle
from cai.records import Messages
from cai.stages import Asking


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`orders` is P(first answer is better) as read with the first answer shown first, then shown second.

    `p_first` is what the judge makes of both (their mean, unless it clamps), `note` its reasoning in both
    orders.
    """

    p_first: float
    orders: tuple[float, float]
    note: str = ""
    model: str = ""
    weights: str = ""

    @property
    def agree(self) -> bool:
        """Whether both orders name the same winner."""
        return (self.orders[0] - 0.5) * (self.orders[1] - 0.5) > 0


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """No verdict could be read: why, and what the model wrote."""

    reason: str
    raw: str = ""


class Judge(Protocol):
    """A frozen keyword-only dataclass; its fields are its TOML keys. `seed` is for its sampling, if any."""

    def judge(
        self, prompt: Messages, first: str, second: str, principle: Principle, seed: int
    ) -> Asking[Verdict | Unreadable]: ...


@dataclass(frozen=True, kw_only=True)
class Appointed:
    """The judge that a stage or an eval was given, and the name it goes by in annotations."""

    name: str
    judge: Judge

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Appointed":
        """From a judge's name, or from a table with its name as `type` and its own keys beside it."""
        name, judge = appoint("judges", value, where)
        return cls(name=name, judge=judge)

    def identity(self) -> dict[str, Any]:
        return {"type": self.name, **identity(self.judge)}
