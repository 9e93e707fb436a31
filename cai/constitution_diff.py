"""What changed from one constitution to another: principles that came, went, or have other words."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from cai.constitution import WORDINGS, Constitution, Principle

# What stands in both, only in the old text, only in the new one.
Mark = Literal["=", "-", "+"]
Words = Sequence[tuple[Mark, str]]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of one principle; `wordings` are the texts that changed, by name."""

    id: str
    what: str
    wordings: Sequence[tuple[str, Words]] = ()


def changes(old: Constitution, new: Constitution) -> Iterator[Change]:
    """Every principle that is not the same in both: in the order of the new one, then those that went."""
    gone = {one.id: one for one in old.principles if new.get(one.id) is None}
    for principle in new.principles:
        same = (one for one in gone.values() if one.fingerprint == principle.fingerprint)
        before = old.get(principle.id) or next(same, None)
        if before is None:
            yield Change(id=principle.id, what="added", wordings=_whole("+", principle))
            continue
        gone.pop(before.id, None)
        yield from _changed(before, principle)
    for principle in gone.values():
        yield Change(id=principle.id, what="taken out", wordings=_whole("-", principle))


def _whole(mark: Mark, principle: Principle) -> list[tuple[str, Words]]:
    return [(name, [(mark, getattr(principle, name))]) for name in WORDINGS]


def _changed(before: Principle, after: Principle) -> Iterator[Change]:
    said = [] if before.id == after.id else [f"renamed, it was '{before.id}'"]
    wordings = [
        (name, word_diff(getattr(before, name), getattr(after, name)))
        for name in WORDINGS
        if getattr(before, name) != getattr(after, name)
    ]
    said += ["reworded"] if wordings else []
    if before.weight != after.weight:
        said.append(f"weight {before.weight:g} -> {after.weight:g}")
    for tags, verb in (
        (set(after.tags) - set(before.tags), "tagged"),
        (set(before.tags) - set(after.tags), "no longer tagged"),
    ):
        if tags:
            said.append(f"{verb} {', '.join(sorted(tags))}")
    if said:
        yield Change(id=after.id, what=", ".join(said), wordings=wordings)


def word_diff(old: str, new: str) -> list[tuple[Mark, str]]:
    """Two texts as runs of words: what they share, what only the old one has, what only the new one has."""
    mine, theirs = re.findall(r"\S+\s*", old), re.findall(r"\S+\s*", new)
    before, after = ([word.rstrip() for word in words] for words in (mine, theirs))
    runs: list[tuple[Mark, str]] = []
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            runs.append(("=", "".join(theirs[k:m]).rstrip()))
            continue
        runs += [("-", "".join(mine[i:j]).rstrip())] if j > i else []
        runs += [("+", "".join(theirs[k:m]).rstrip())] if m > k else []
    return runs


def marked(words: Words) -> str:
    """A diff as text: [-old-] {+new+}."""
    around = {"=": ("", ""), "-": ("[-", "-]"), "+": ("{+", "+}")}
    return " ".join(f"{around[mark][0]}{text}{around[mark][1]}" for mark, text in words)
