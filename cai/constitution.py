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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cai import shipped
from cai.config import build, key_faults, read_toml
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


def load(path: str | Path) -> Constitution:
    """Read a constitution and all that it extends. `CaiError` names the file and the principle at fault."""
    loaded, faults = examine(path)
    for fault in faults:
        raise fault
    assert loaded is not None
    return loaded


def examine(path: str | Path) -> tuple[Constitution | None, list[CaiError]]:
    """What can be read of a constitution and all that it extends, None if nothing can; and all its faults.

    Raises `CaiError` where a file cannot be read, is no TOML, or extends what is not there.
    """
    file = Path(path)
    sources = _lineage(file, (), {})
    tables = {source: read_toml(source) for source in sources}
    faults = [fault for source in reversed(sources) for fault in _top_faults(tables[source], source)]
    origin: dict[str, Path] = {}
    principles: list[Principle] = []
    for source in sources:
        for principle in _principles(tables[source], source, faults):
            if principle.id in origin:
                where = f"{source} [principle '{principle.id}']"
                taken = f"the id is taken, in {origin[principle.id]}"
                faults.append(CaiError(taken, where=where, next="give it another id"))
                continue
            origin[principle.id] = source
            principles.append(principle)
    if not principles and not faults:
        faults = [CaiError("there is no principle in it", where=str(file), next="add a [[principle]] table")]
    if not principles:
        return None, faults
    name, about = (str(tables[file].get(key, "")) for key in ("name", "about"))
    return Constitution(name=name, about=about, principles=tuple(principles)), faults


def _lineage(file: Path, above: tuple[Path, ...], found: dict[Path, Path]) -> list[Path]:
    """`file` and what it extends, each file once, what is extended first."""
    if file.resolve() in [path.resolve() for path in above]:
        chain = " -> ".join(str(path) for path in (*above, file))
        raise CaiError(f"it extends itself ({chain})", where=str(file), next="take one 'extends' out")
    bases = read_toml(file).get("extends", [])
    for name in bases if isinstance(bases, list) else []:
        if not isinstance(name, str):
            continue
        bare = name == Path(name).stem
        base = shipped.find("constitutions", name, f"{file} extends") if bare else file.parent / name
        if not base.is_file():
            missing = f"there is no file '{base}'"
            next_step = "paths are relative to the file that extends"
            raise CaiError(missing, where=f"{file} extends", next=next_step)
        _lineage(base, (*above, file), found)
    found[file.resolve()] = file
    return list(found.values())


def constitutions_in(identity: Any) -> Iterator[Mapping[str, Any]]:
    """The identity of every constitution in the identity of something else, however deep it lies there."""
    if isinstance(identity, Mapping):
        if isinstance(identity.get("principles"), Mapping):
            yield identity
        for inner in identity.values():
            yield from constitutions_in(inner)
    elif isinstance(identity, list):
        for inner in identity:
            yield from constitutions_in(inner)


KEYS: Mapping[str, tuple[type, str]] = {
    "name": (str, "a string"),
    "about": (str, "a string"),
    "extends": (list, "a list of paths"),
    "principle": (list, "[[principle]] tables"),
}


def _top_faults(table: Mapping[str, Any], file: Path) -> Iterator[CaiError]:
    """What is wrong with a file's top level."""
    where = str(file)
    for key, value in table.items():
        if key not in KEYS:
            yield CaiError(f"unknown key '{key}'", where=where, next=suggest(key, KEYS))
        elif not isinstance(value, KEYS[key][0]):
            yield CaiError(f"'{key}' is {value!r}", where=where, next=f"write {KEYS[key][1]}")
    if not str(table.get("name", "")).strip():
        yield CaiError("'name' is missing", where=where, next='add name = "..."')
    bases = table.get("extends", [])
    for base in bases if isinstance(bases, list) else []:
        if not isinstance(base, str):
            yield CaiError(f"'extends' holds {base!r}", where=where, next="write a list of paths")


def _principles(table: Mapping[str, Any], file: Path, faults: list[CaiError]) -> Iterator[Principle]:
    """The principles of a file that are sound; what is wrong with the others goes to `faults`."""
    listed = table.get("principle", [])
    for number, one in enumerate(listed if isinstance(listed, list) else [], start=1):
        if not isinstance(one, dict):
            faults.append(
                CaiError(f"'principle' holds {one!r}", where=str(file), next="write [[principle]] tables")
            )
            continue
        name = f"'{one['id']}'" if isinstance(one.get("id"), str) else f"{number}"
        where = f"{file} [principle {name}]"
        wrong = key_faults(Principle, one, where)
        faults += wrong
        if wrong:
            continue
        try:
            yield build(Principle, one, where)
        except CaiError as fault:
            faults.append(fault)
