"""A model reads the answer, and its option probabilities say what the answer does."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from cai.config import key
from cai.detectors import LABELS, Detection
from cai.judges import Unreadable
from cai.questions import Question, Questioning
from cai.records import Messages
from cai.stages import Asking


@dataclass(frozen=True, kw_only=True)
class RefusalQuestion(Question):
    """What an answer does with its request. A model may have no word for "neither"."""

    labels: ClassVar[tuple[str, ...]] = LABELS
    needless: ClassVar[frozenset[str]] = frozenset({"neither"})


@cache
def default_question() -> RefusalQuestion:
    """The shipped question."""
    return RefusalQuestion.from_toml("refusal", "question")


@dataclass(frozen=True, kw_only=True)
class Options(Questioning):
    """One request an answer, or two where the question asks for reasoning first."""

    question: RefusalQuestion = key(factory=default_question, help="What is asked: a TOML file.")

    asks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_reasoning(self.question)

    def detect(self, prompt: Messages, answer: str) -> Asking[Detection | Unreadable]:
        opinion = yield from self.put(self.question, prompt, answer)
        if isinstance(opinion, Unreadable):
            return opinion
        return Detection(**opinion.probabilities, note=opinion.note)
