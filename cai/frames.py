"""Frames: the chat around a principle's words and a model's texts, read from prompts/frames/*.toml.

What a model wrote goes into a frame byte for byte, with two exceptions, both in `JudgeFrame`: text that
would open or close one of the frame's tags gets a backslash after its "<", and a line of the conversation
that begins like a speaker's ("User:") gets "> " before it. Ordinary "<" and ":" are left alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from string import Template
from typing import Any

from cai import shipped
from cai.config import build, read_toml
from cai.errors import CaiError, suggest
from cai.records import Messages, digest

SPEAKERS: Mapping[str, str] = {"system": "System", "user": "User", "assistant": "Assistant"}

# What shows as nothing and must not hide a tag or a speaker: white space, soft hyphens, zero-width and
# direction marks. Possessive, so that no text can make the search slow.
HIDDEN = r"\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
UNSEEN = rf"[\s{HIDDEN}]*+"
UNSEEN_IN_LINE = rf"[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000{HIDDEN}]*+"
NEW_LINE = r"(?<=[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])"
SPEAKER_NAMES = "|".join(UNSEEN_IN_LINE.join(name) for name in SPEAKERS.values())
SPEAKER_LINE = re.compile(
    rf"{NEW_LINE}(?={UNSEEN_IN_LINE}(?:{SPEAKER_NAMES}){UNSEEN_IN_LINE}[:：])", re.IGNORECASE
)

# What the judge is shown between tags.
JUDGED = ("conversation", "a", "b")


@dataclass(frozen=True, kw_only=True)
class CritiqueFrame:
    """`request` asks for a critique; one that ends with the sentence `clear` found nothing to change."""

    request: str
    clear: str

    def __post_init__(self) -> None:
        check_names("request", self.request, {"critique"})
        if not _bare(self.clear):
            raise ValueError("'clear' holds no word; write the sentence that a clear critique ends with")

    def ask(self, critique: str) -> str:
        """The user turn that asks for a critique in a principle's `critique` wording."""
        return Template(self.request).substitute(critique=critique)

    def is_clear(self, critique: str) -> bool:
        """Whether the critique's last sentence is `clear`, whatever its case and the marks around it."""
        text, clear = _bare(critique), _bare(self.clear)
        before = text.removesuffix(clear).rstrip(" \t*_#>-\"'“‘")
        return text.endswith(clear) and (not before or before[-1] in ".!?:;…。！？)\n\r")


@dataclass(frozen=True, kw_only=True)
class RevisionFrame:
    """`request` asks for the new answer."""

    request: str

    def __post_init__(self) -> None:
        check_names("request", self.request, {"revision"})

    def ask(self, revision: str) -> str:
        """The user turn that asks for a new answer in a principle's `revision` wording."""
        return Template(self.request).substitute(revision=revision)


@dataclass(frozen=True, kw_only=True)
class ReviewFrames:
    """The frames of critique and revision."""

    critique: CritiqueFrame
    revision: RevisionFrame

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "ReviewFrames":
        """The frames that a configuration key names: a path, or the bare name of shipped ones."""
        return _load(value, where)[0]

    @cached_property
    def fingerprint(self) -> str:
        return digest("review frames", self.critique.request, self.critique.clear, self.revision.request)


@dataclass(frozen=True, kw_only=True)
class JudgeFrame:
    """The judge's question.

    `request` is filled with the conversation, the principle's `preference`, the answers `a` and `b` and the
    instruction, `reason` or `choose`. `verdict` is the beginning of the verdict that the assistant goes on
    from, and `options` are what may follow: for the answer shown as A, then for B.
    """

    request: str
    reason: str
    choose: str
    verdict: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        check_names("request", self.request, {"conversation", "preference", "a", "b", "instruction"})
        if len(self.options) != 2 or len(set(self.options)) != 2 or not all(map(str.strip, self.options)):
            raise ValueError("'options' must be two different texts, for answer A and for answer B")
        for name in ("reason", "choose", "verdict"):
            if not getattr(self, name).strip():
                raise ValueError(f"'{name}' is empty; write it out")
        tags(self.request, JUDGED)

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "JudgeFrame":
        """The frame that a configuration key names: a path, or the bare name of a shipped one."""
        return _load(value, where)[1]

    @cached_property
    def fingerprint(self) -> str:
        return digest("judge frame", self.request, self.reason, self.choose, self.verdict, self.options)

    def question(self, prompt: Messages, a: str, b: str, preference: str, instruction: str) -> str:
        """The user turn that shows a conversation and two answers, every tag inside them made harmless."""
        return Template(self.request).substitute(
            conversation=self._closed(transcript(prompt)),
            a=self._closed(a),
            b=self._closed(b),
            preference=preference,
            instruction=instruction,
        )

    def _closed(self, text: str) -> str:
        return closed(text, self.request, JUDGED)


def transcript(messages: Messages) -> str:
    """A conversation as "User: ..." lines; a line inside a message that poses as one gets "> " before it."""
    lines = (f"{SPEAKERS[one['role']]}: {SPEAKER_LINE.sub('> ', one['content'])}" for one in messages)
    return "\n".join(lines)


@cache
def default_review() -> ReviewFrames:
    """The shipped frames of critique and revision."""
    return ReviewFrames.from_toml("default", "frames")


@cache
def default_judge() -> JudgeFrame:
    """The shipped frame of the judge."""
    return JudgeFrame.from_toml("default", "frames")


def load(path: Path) -> tuple[ReviewFrames, JudgeFrame]:
    """Read a file of frames. `CaiError` names the file, the table and what a frame lacks."""
    table = read_toml(path)
    for name, value in table.items():
        if name not in ("critique", "revision", "judge"):
            hint = suggest(name, ["critique", "revision", "judge"])
            raise CaiError(f"unknown table '{name}'", where=str(path), next=hint)
        if not isinstance(value, dict):
            raise CaiError(f"'{name}' is {value!r}", where=str(path), next=f"write a table [{name}]")
    for name in ("critique", "revision", "judge"):
        if name not in table:
            raise CaiError(
                f"[{name}] is missing", where=str(path), next="copy it from prompts/frames/default.toml"
            )
    review = ReviewFrames(
        critique=build(CritiqueFrame, table["critique"], f"{path} [critique]"),
        revision=build(RevisionFrame, table["revision"], f"{path} [revision]"),
    )
    return review, build(JudgeFrame, table["judge"], f"{path} [judge]")


def _load(value: Any, where: str) -> tuple[ReviewFrames, JudgeFrame]:
    if not isinstance(value, str | Path):
        raise CaiError(f"this is {value!r}", where=where, next="write the path of a file of frames")
    return load(shipped.find("prompts/frames", str(value), where))


def check_names(key: str, text: str, names: set[str]) -> None:
    """Refuse a frame that lacks a placeholder or has one that nothing fills."""
    template = Template(text)
    if not template.is_valid():
        raise ValueError(f"'{key}' has a stray $; write $$ for a dollar sign")
    found = set(template.get_identifiers())
    for name in sorted(names - found):
        raise ValueError(f"'{key}' has no ${name}; put it where the text shall go")
    for name in sorted(found - names):
        raise ValueError(f"'{key}' has ${name}, which nothing fills; {suggest(name, names)}")


def _fence(request: str, name: str) -> str:
    """The tag that encloses $name in the judge's request."""
    found = re.search(rf"<([^<>/\n]+)>\s*\$(?:{name}\b|\{{{name}\}})\s*</\1>", request)
    if not found:
        raise ValueError(f"'request' leaves ${name} open; put it between tags, like <{name}> and </{name}>")
    return found[1]


def closed(text: str, request: str, names: tuple[str, ...]) -> str:
    """`text` with each "<" that would open or close a fence of `request` made harmless by a backslash."""
    return tags(request, names).sub(r"\g<0>\\", text)


@cache
def tags(request: str, names: tuple[str, ...]) -> re.Pattern[str]:
    """Matches the "<" of anything that reads as a tag which encloses one of $names in `request`.

    Raises `ValueError` when `request` encloses one of them in no tag.
    """
    fences = sorted({_fence(request, name) for name in names})
    read = "|".join(UNSEEN.join(re.escape(char) for char in tag if not char.isspace()) for tag in fences)
    return re.compile(rf"[<＜](?={UNSEEN}[/／]?{UNSEEN}(?:{read})(?![^\W_]))", re.IGNORECASE)


def _bare(text: str) -> str:
    """Lower case, without white space and marks at its end."""
    end = len(text)
    while end and not text[end - 1].isalnum():
        end -= 1
    return text[:end].casefold()
