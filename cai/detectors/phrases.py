"""Phrases by which a refusal is known: quick, asks no model, and sees no further than the words."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from cai.config import key
from cai.detectors import Detection
from cai.records import Messages
from cai.stages.screen import Phrases as PhraseList


@cache
def default_phrases() -> PhraseList:
    """The shipped phrases."""
    return PhraseList.from_toml("refusal", "phrases")


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """An answer with a phrase of the list refuses, any other complies: half answers and gibberish too."""

    phrases: PhraseList = key(factory=default_phrases, help="The phrases of a refusal: a TOML file.")

    asks: ClassVar[bool] = False

    def detect(self, prompt: Messages, answer: str) -> Detection:
        phrase = self.phrases.found_in(answer)
        return Detection(complied=1.0) if phrase is None else Detection(refused=1.0, note=phrase)
