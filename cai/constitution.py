"""A constitution: principles in words, and nothing else. The chat frame around them is `cai.frames`.

name = "harmless"
about = "what it is for"
extends = ["helpful.toml"]      # paths relative to this file

[[principle]]
id = "no-violence"
critique = "..."                # asks a critic what to look for in the newest answer
revision = "..."                # asks for a better answer
preference = "..."              # says which of two answers is better
weight = 1.0                    # how often it is drawn, beside the others
tags = ["violence"]
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cai import shipped
from cai.config import build, read_toml
from cai.errors import CaiError, suggest
from cai.records import digest, draws

WORDINGS = ("critique", "revision", "preference")


@dataclass(frozen=True, kw_only=True)
class Principle:
    """One principle in its three wordings. No stage reads its tags."""

    id: str
    critique: str
    revision: str
    preference: str
    weight: float = 1.0
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", *WORDINGS):
            if not getattr(self, name).strip():
                raise ValueError(f"'{name}' is empty; write it out or take the principle out")
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"'weight' is {self.weight:g}; write a number above 0, or take the principle out"
            )

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the three wordings."""
        return digest("principle", self.critique, self.revision, self.preference)


@dataclass(frozen=True, kw_only=True)
class Constitution:
    """Principles with ids of their own, one at least. Their order means nothing."""

    name: str
    about: str = ""
    principles: tuple[Principle, ...]

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Constitution":
        """The constitution that a configuration key names: a path, or the bare name of a shipped one."""
        if not isinstance(value, str | Path):
            raise CaiError(f"this is {value!r}", where=where, next="write the path of a constitution")
        return load(shipped.find("constitutions", str(value), where))

    @property
    def fingerprints(self) -> dict[str, str]:
        """Principle id -> digest of its wordings."""
        return {principle.id: principle.fingerprint for principle in self.principles}

    def identity(self) -> dict[str, Any]:
        """What changes the answers: wordings and weight of every principle, by id, to name a change by."""
        weights = {principle.id: principle.weight for principle in self.principles}
        return {"principles": self.fingerprints, "weights": weights}

    @property
    def fingerprint(self) -> str:
        return digest("constitution", self.identity())

    def get(self, id: str) -> Principle | None:
        return next((principle for principle in self.principles if principle.id == id), None)

    def pick(self, seed: int, *key: Any) -> Principle:
        """One principle, drawn by weight; a function of nothing but the seed, the key and the principles."""
        return self.picks(1, seed, *key)[0]

    def picks(self, count: int, seed: int, *key: Any) -> list[Principle]:
        """`count` different principles (all, if there are no more), drawn by weight one after the other.

        An exponential race: principle i finishes at -log(1 - u_i) / weight_i with a uniform u_i of its own,
        and the first to finish is drawn, with probability weight_i / sum of weights; then, among the others,
        the next (Efraimidis and Spirakis 2006). So to add or edit one principle changes no draw among the
        others, and to draw more keeps those that were drawn.
        """
        numbers = draws(seed, *key, last=[one.id for one in self.principles])
        finishes = [-math.log(1 - u) / one.weight for u, one in zip(numbers, self.principles, strict=True)]
        order = sorted(range(len(finishes)), key=finishes.__getitem__)
        return [self.principles[at] for at in order[:count]]

    def subset(self, tags: Iterable[str]) -> "Constitution":
        """Only the principles that carry one of `tags`; `CaiError` when none does."""
        wanted = set(tags)
        kept = tuple(principle for principle in self.principles if wanted & set(principle.tags))
        if not kept:
            known = {tag for principle in self.principles for tag in principle.tags}
            missing = f"no principle of '{self.name}' is tagged {', '.join(sorted(wanted))}"
            raise CaiError(missing, next=f"its tags: {', '.join(sorted(known)) or 'none'}")
        return replace(self, principles=kept)


def load(path: str | Path) -> Constitution:
    """Read a constitution and all that it extends. `CaiError` names the file and the principle at fault."""
    file = Path(path)
    table = _table(file)
    origin: dict[str, Path] = {}
    principles: list[Principle] = []
    for source in _lineage(file, (), {}):
        for principle in _principles(source):
            if principle.id in origin:
                where = f"{source} [principle '{principle.id}']"
                raise CaiError(
                    f"the id is taken, in {origin[principle.id]}", where=where, next="give it another id"
                )
            origin[principle.id] = source
            principles.append(principle)
    if not principles:
        raise CaiError("there is no principle in it", where=str(file), next="add a [[principle]] table")
    return Constitution(name=table["name"], about=table.get("about", ""), principles=tuple(principles))


def _lineage(file: Path, above: tuple[Path, ...], found: dict[Path, Path]) -> list[Path]:
    """`file` and what it extends, each file once, what is extended first."""
    if file.resolve() in [path.resolve() for path in above]:
        chain = " -> ".join(str(path) for path in (*above, file))
        raise CaiError(f"it extends itself ({chain})", where=str(file), next="take one 'extends' out")
    for name in _table(file).get("extends", []):
        bare = name == Path(name).stem
        base = shipped.find("constitutions", name, f"{file} extends") if bare else file.parent / name
        if not base.is_file():
            missing = f"there is no file '{base}'"
            next_step = "paths are relative to the file that extends"
            raise CaiError(missing, where=f"{file} extends", next=next_step)
        _lineage(base, (*above, file), found)
    found[file.resolve()] = file
    return list(found.values())


KEYS: Mapping[str, tuple[type, str]] = {
    "name": (str, "a string"),
    "about": (str, "a string"),
    "extends": (list, "a list of paths"),
    "principle": (list, "[[principle]] tables"),
}


def _table(file: Path) -> dict[str, Any]:
    """The file's top level, checked."""
    table = read_toml(file)
    for key, value in table.items():
        if key not in KEYS:
            raise CaiError(f"unknown key '{key}'", where=str(file), next=suggest(key, KEYS))
        kind, expected = KEYS[key]
        if not isinstance(value, kind):
            raise CaiError(f"'{key}' is {value!r}", where=str(file), next=f"write {expected}")
    if not table.get("name", "").strip():
        raise CaiError("'name' is missing", where=str(file), next='add name = "..."')
    for base in table.get("extends", []):
        if not isinstance(base, str):
            raise CaiError(f"'extends' holds {base!r}", where=str(file), next="write a list of paths")
    return table


def _principles(file: Path) -> list[Principle]:
    principles = []
    for number, table in enumerate(_table(file).get("principle", []), start=1):
        if not isinstance(table, dict):
            raise CaiError(f"'principle' holds {table!r}", where=str(file), next="write [[principle]] tables")
        name = f"'{table['id']}'" if isinstance(table.get("id"), str) else f"{number}"
        principles.append(build(Principle, table, f"{file} [principle {name}]"))
    return principles


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What `check` thinks a constitution's author should look at."""

    principle: str
    what: str


# Words of a chat frame. The frame is cai's, and a principle that brings its own would be asked twice, or as
# an answer.
FRAME_WORDS = (
    "critique request",
    "revision request",
    "user:",
    "human:",
    "assistant:",
    "options:",
    "(a)",
    "<answer",
)
LEAST_WORDS = 4
ALIKE = 0.8


def check(constitution: Constitution) -> list[Finding]:
    """Wordings that are very short, bring a chat frame, or say almost what another principle says.

    Two wordings are alike when the sets of their words overlap by at least `ALIKE` (Jaccard).
    """
    findings = []
    for at, principle in enumerate(constitution.principles):
        for name in WORDINGS:
            for what in _faults(principle, name, constitution.principles[:at]):
                findings.append(Finding(principle=principle.id, what=f"'{name}' {what}"))
    return findings


def _faults(principle: Principle, name: str, earlier: Iterable[Principle]) -> Iterable[str]:
    text = getattr(principle, name)
    words = _words(text)
    if len(text.split()) < LEAST_WORDS:
        yield f"has fewer than {LEAST_WORDS} words"
    for phrase in FRAME_WORDS:
        if phrase in text.lower():
            yield f"holds '{phrase}', which belongs to the chat frame"
    for other in earlier:
        theirs = _words(getattr(other, name))
        if len(words & theirs) >= ALIKE * len(words | theirs):
            yield f"says almost what '{other.id}' says"


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))
