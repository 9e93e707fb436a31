"""Few-shot demonstrations for critique, revision and judging, read from JSON lines.

They go before the real conversation, in the same chat form as what is asked; the first answer to a prompt is
never shown any. A line for critique and revision, and a line for a judge:

    {"prompt": "...", "response": "...", "principle": {"critique": "...", "revision": "..."},
     "critique": "...", "revision": "..."}
    {"prompt": "...", "a": "...", "b": "...", "preference": "...", "reasoning": "...", "answer": "A"}
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from cai import shipped
from cai.config import build
from cai.errors import CaiError
from cai.frames import JudgeFrame, ReviewFrames
from cai.records import Message, Messages, assistant, digest, user

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A principle's two wordings that a demonstration was asked under."""

    critique: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class ReviewShot:
    """One answer, criticised and revised; where nothing was wrong, the revision repeats the response."""

    prompt: str
    response: str
    principle: Asked
    critique: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class JudgeShot:
    """One question to a judge, its reasoning, and which answer won."""

    prompt: str
    a: str
    b: str
    preference: str
    reasoning: str
    answer: Literal["A", "B"]


@dataclass(frozen=True, kw_only=True)
class ReviewShots:
    """Demonstrations of critique and revision."""

    shots: tuple[ReviewShot, ...]

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "ReviewShots":
        """The demonstrations that a configuration key names: a path, or the bare name of shipped ones."""
        return cls(shots=tuple(lines(value, ReviewShot, where)))

    @cached_property
    def fingerprint(self) -> str:
        return digest("review shots", [asdict(shot) for shot in self.shots])

    def messages(self, frames: ReviewFrames, critique: bool) -> Messages:
        """The demonstrations as one dialogue: whole traces, so that critique and revision share their prefix.

        Without `critique` they show a revision straight after the answer.
        """
        return _reviews(self.shots, frames, critique)


@dataclass(frozen=True, kw_only=True)
class JudgeShots:
    """Demonstrations of judging."""

    shots: tuple[JudgeShot, ...]

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "JudgeShots":
        """The demonstrations that a configuration key names: a path, or the bare name of shipped ones."""
        return cls(shots=tuple(lines(value, JudgeShot, where)))

    @cached_property
    def fingerprint(self) -> str:
        return digest("judge shots", [asdict(shot) for shot in self.shots])

    def messages(self, frame: JudgeFrame, reasoned: bool) -> Messages:
        """The demonstrations as one dialogue; the verdict follows the reasoning, or stands alone."""
        return _verdicts(self.shots, frame, reasoned)


# Rendered once, not for each request that they go before.
@cache
def _reviews(shots: tuple[ReviewShot, ...], frames: ReviewFrames, critique: bool) -> Messages:
    return tuple(message for shot in shots for message in _review(shot, frames, critique))


@cache
def _verdicts(shots: tuple[JudgeShot, ...], frame: JudgeFrame, reasoned: bool) -> Messages:
    return tuple(message for shot in shots for message in _judged(shot, frame, reasoned))


def _review(shot: ReviewShot, frames: ReviewFrames, critique: bool) -> Iterator[Message]:
    yield user(shot.prompt)
    yield assistant(shot.response)
    if critique:
        yield user(frames.critique.ask(shot.principle.critique))
        yield assistant(shot.critique)
    yield user(frames.revision.ask(shot.principle.revision))
    yield assistant(shot.revision)


def _judged(shot: JudgeShot, frame: JudgeFrame, reasoned: bool) -> Iterator[Message]:
    instruction = frame.reason if reasoned else frame.choose
    yield user(frame.question((user(shot.prompt),), shot.a, shot.b, shot.preference, instruction))
    verdict = frame.verdict + frame.options["AB".index(shot.answer)]
    yield assistant(f"{shot.reasoning}\n{verdict}" if reasoned else verdict)


def lines(value: Any, kind: type[T], where: str) -> Iterator[T]:
    """The demonstrations of a file, or a shipped one; `CaiError` names the file and the line at fault."""
    if not isinstance(value, str | Path):
        raise CaiError(f"this is {value!r}", where=where, next="write the path of a file of demonstrations")
    path = shipped.find("prompts/few-shots", str(value), where)
    try:
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise CaiError("this is no text in UTF-8", where=str(path), next="save it as UTF-8") from error
    if lines == [""]:
        raise CaiError("there is no demonstration in it", where=str(path), next="leave few_shots out instead")
    for number, line in enumerate(lines, start=1):
        yield _shot(line, kind, f"{path}:{number}")


def _shot(line: str, kind: type[T], where: str) -> T:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CaiError(
            f"this is no JSON: {error.msg}", where=where, next="write one object a line"
        ) from error
    if not isinstance(row, dict):
        raise CaiError("this is no JSON object", where=where, next="write one object a line")
    return build(kind, row, where)
