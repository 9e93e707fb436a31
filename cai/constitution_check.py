"""What is wrong with a constitution, and what may weaken it.

An error is a fault of the file (a key that nothing reads, a wording that is missing, an id that is taken) or
a wording that would break the chat it is put into. All else is a warning.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cai.constitution import WORDINGS, Constitution, Principle, examine
from cai.coverage import Counts, unused
from cai.errors import CaiError

Level = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a constitution's author should look at: in the wordings of `principle`."""

    level: Level
    principle: str
    what: str


# The frame is cai's, and a principle that brings its own would be asked twice, or as an answer. Tokens that
# steer a chat are refused by every engine; a speaker at the start of a line would end the principle's turn.
_CONTROL = re.compile(
    r"<\|[^<>|\n]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>", re.IGNORECASE
)
_SPEAKER = re.compile(r"^[ \t]*(?:user|human|assistant|system)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_WORDS_OF_FRAMES = ("critique request", "revision request", "options:", "(a)", "(b)", "<answer")
LEAST_WORDS = 4
ALIKE = 0.8


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What there is to say of a file of so many sound principles, each line with the place it is about."""

    principles: int
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def check_file(path: Path, run: Path | None = None, counts: Mapping[str, Counts] | None = None) -> Checked:
    """Check a file whatever its faults, and with the `counts` of a run, what its principles did there."""
    loaded: Constitution | None = None
    try:
        loaded, faults = examine(path)
    except CaiError as fault:
        faults = [fault]
    findings = [] if loaded is None else check(loaded)
    if counts is not None and loaded is not None:
        idle = unused(counts, [principle.id for principle in loaded.principles])
        findings += [Finding(level="warning", principle=id, what=f"{what} in {run}") for id, what in idle]
    lines = {
        level: tuple(
            f"{path} [principle '{finding.principle}']: {finding.what}"
            for finding in findings
            if finding.level == level
        )
        for level in get_args(Level)
    }
    return Checked(
        principles=len(loaded.principles) if loaded else 0,
        errors=(*map(str, faults), *lines["error"]),
        warnings=lines["warning"],
    )


def check(constitution: Constitution) -> list[Finding]:
    """Wordings that bring a chat frame, are very short, or say what another principle's says.

    Two wordings are alike when the sets of their words overlap by at least `ALIKE` (Jaccard: the words of
    both over the words of either).
    """
    findings = []
    for at, principle in enumerate(constitution.principles):
        earlier = constitution.principles[:at]
        twin = next((other for other in earlier if _wordings(other) == _wordings(principle)), None)
        if twin is not None:
            doubled = f"is '{twin.id}' over again, and so drawn twice as often"
            findings.append(Finding(level="error", principle=principle.id, what=doubled))
            continue
        for name, text in _wordings(principle).items():
            said = [*_frame(text), *_weak(text), *_alike(name, text, earlier)]
            findings += [
                Finding(level=level, principle=principle.id, what=f"'{name}' {what}") for level, what in said
            ]
    return findings


def _wordings(principle: Principle) -> Mapping[str, str]:
    return {name: str(getattr(principle, name)).strip() for name in WORDINGS}


def _frame(text: str) -> Iterator[tuple[Level, str]]:
    for pattern in (_CONTROL, _SPEAKER):
        for found in dict.fromkeys(one.strip() for one in pattern.findall(text)):
            yield "error", f"holds '{found}', which belongs to the chat frame"
    for phrase in _WORDS_OF_FRAMES:
        if phrase in text.lower():
            yield "warning", f"holds '{phrase}', which belongs to the chat frame"


def _weak(text: str) -> Iterator[tuple[Level, str]]:
    if len(text.split()) < LEAST_WORDS:
        yield "warning", f"has fewer than {LEAST_WORDS} words"


def _alike(name: str, text: str, earlier: tuple[Principle, ...]) -> Iterator[tuple[Level, str]]:
    words = _words(text)
    for other in earlier:
        theirs = _words(getattr(other, name))
        overlap = len(words & theirs) / max(1, len(words | theirs))
        if overlap >= ALIKE:
            yield "warning", f"says almost what '{other.id}' says ({overlap:.0%} of their words are the same)"


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))
