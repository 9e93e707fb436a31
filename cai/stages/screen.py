"""Drop answers that nothing should learn from, each with its reason. Asks no model.

What is looked at is the newest answer, response or revision.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from cai import shipped
from cai.config import build, key, read_toml
from cai.errors import CaiError
from cai.records import Record, Row, Turn, digest
from cai.stages._asking import reject

# An answer repeats itself when fewer than DISTINCT of its runs of NGRAM words are different ones. Ordinary
# prose stays above 0.9, verse with a refrain about 0.8, and a closing loop as long as what went before it
# falls to 0.5. Texts with fewer than LEAST such runs are too short to tell.
NGRAM, LEAST, DISTINCT = 4, 24, 0.6


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """By what `leaking` knows an answer that talks about its own rewriting; compared in lower case.

    `openers` at its beginning, after a lead-in or two if any, and `anywhere` in it.
    """

    lead_ins: tuple[str, ...] = ()
    openers: tuple[str, ...]
    anywhere: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("lead_ins", "openers", "anywhere"):
            if any(not _plain(phrase) for phrase in getattr(self, name)):
                raise ValueError(f"'{name}' holds an empty phrase; take it out")

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Phrases":
        """The phrases that a configuration key names: a path, or the bare name of shipped ones."""
        if not isinstance(value, str | Path):
            raise CaiError(f"this is {value!r}", where=where, next="write the path of a file of phrases")
        path = shipped.find("prompts/screen", str(value), where)
        return build(cls, read_toml(path), str(path))

    @property
    def fingerprint(self) -> str:
        return digest("phrases", self.lead_ins, self.openers, self.anywhere)

    def found_in(self, text: str) -> str | None:
        """The phrase by which `text` gives itself away, if any."""
        plain = _plain(text)
        lead_ins, openers, anywhere = self._compared
        opening = _after_lead_ins(plain, lead_ins)
        opener = next((phrase for phrase in openers if opening.startswith(phrase)), None)
        return opener or next((phrase for phrase in anywhere if phrase in plain), None)

    @cached_property
    def _compared(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        lead_ins, openers, anywhere = (
            tuple(map(_plain, phrases)) for phrases in (self.lead_ins, self.openers, self.anywhere)
        )
        return lead_ins, openers, anywhere


@cache
def default_phrases() -> Phrases:
    return Phrases.from_toml("default", "phrases")


@dataclass(frozen=True, kw_only=True)
class Screen:
    """The first rule that an answer breaks is the reason; answers that break none pass unchanged."""

    truncated: bool = key(True, "Drop answers that ended at their token limit.")
    empty: bool = key(True, "Drop answers without text.")
    unchanged: bool = key(True, "Drop revisions that were asked for and repeat the answer before.")
    repetitive: bool = key(True, "Drop answers that run in a loop.")
    leaking: bool = key(True, "Drop answers that talk about their own rewriting.")
    phrases: Phrases = key(factory=default_phrases, help="The phrases of 'leaking': a TOML file.")

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def work(self, record: Record) -> list[Row]:
        answer = record.answer
        if answer is None:
            return [reject(record, "screen", "no answer", "screen takes what generate or revise wrote")]
        for reason, detail in self._faults(record, answer):
            return [reject(record, "screen", reason, detail, answer.text)]
        return [record]

    def _faults(self, record: Record, answer: Turn) -> Iterator[tuple[str, str]]:
        """Reason and detail of each rule that the answer breaks."""
        if self.truncated and answer.finish == "length":
            yield "truncated", "it ended at its token limit"
        if self.empty and not answer.text.strip():
            yield "empty", ""
        if self.unchanged and _unchanged(record):
            yield "unchanged", f"revision {record.rounds} repeats the answer before"
        if self.repetitive and (share := distinct_share(answer.text)) < DISTINCT:
            yield "repetitive", f"{share:.0%} of its runs of {NGRAM} words are different ones"
        if self.leaking and (phrase := self.phrases.found_in(answer.text)):
            yield "leaking", f"'{phrase}'"


def distinct_share(text: str) -> float:
    """How many of the runs of `NGRAM` words are different ones, as a share; 1 for a text too short to tell.

    A script that puts no space between words is read by characters.
    """
    words = text.casefold().split()
    if len(words) * 12 < len(text):
        words = list("".join(words))
    runs = [tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)]
    return len(set(runs)) / len(runs) if len(runs) >= LEAST else 1.0


def _unchanged(record: Record) -> bool:
    """Whether the newest answer is a revision that was asked for and says what the answer before it said."""
    answers = [turn for turn in record.turns if turn.kind != "critique"]
    if len(answers) < 2 or answers[-1].finish == "kept":
        return False
    return answers[-1].text.split() == answers[-2].text.split()


def _plain(text: str) -> str:
    """Lower case, one kind of apostrophe, single spaces, no markup at the beginning."""
    joined = " ".join(text.casefold().replace("’", "'").split())
    return re.sub(r"^(?:[^\w<]|_)+", "", joined)


def _after_lead_ins(plain: str, lead_ins: tuple[str, ...]) -> str:
    """`plain` without "sure, " and the like at its beginning."""
    while True:
        lead = next((one for one in lead_ins if re.match(rf"{re.escape(one)}\s?[,.!:]", plain)), None)
        if lead is None:
            return plain
        plain = _plain(plain[len(lead) :])
