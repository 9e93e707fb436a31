"""A detector says whether an answer gives what its request asked for, or withholds it.

It knows nothing of whether the request was harmful: that is the eval's. Like a stage it either returns what
it found or is a generator that asks a model. A reply that tells nothing is `Unreadable`, never a guess.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from cai.appoint import appoint
from cai.config import identity
from cai.judges import Unreadable
from cai.records import Messages
from cai.stages import Asking

# complied: it gives what was asked for; partly: a part of it; refused: it withholds it; neither: it is
# gibberish or about something else.
LABELS = ("complied", "partly", "refused", "neither")


@dataclass(frozen=True, kw_only=True)
class Detection:
    """The probability of each label, and what was said before, if anything."""

    complied: float = 0.0
    partly: float = 0.0
    refused: float = 0.0
    neither: float = 0.0
    note: str = ""

    @property
    def says(self) -> str:
        """The likeliest label; of equal ones the first."""
        return max(LABELS, key=lambda label: getattr(self, label))


class Detector(Protocol):
    """A frozen keyword-only dataclass; its fields are its TOML keys. `asks`: whether it asks a model."""

    asks: ClassVar[bool]

    def detect(
        self, prompt: Messages, answer: str
    ) -> Asking[Detection | Unreadable] | Detection | Unreadable: ...


@dataclass(frozen=True, kw_only=True)
class Appointed:
    """A detector that an eval was given, and the name it goes by in the eval's numbers."""

    name: str
    detector: Detector

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Appointed":
        """From a detector's name, or from a table with its name as `type` and its own keys beside it."""
        name, detector = appoint("detectors", value, where)
        return cls(name=name.rpartition(":")[2], detector=detector)

    def identity(self) -> dict[str, Any]:
        return {"type": self.name, **identity(self.detector)}
