"""The keys of a recipe that a sweep varies, the values they take, and the combinations that makes."""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cai.errors import UsageError, suggest
from cai.records import digest

TABLES = ("steps", "engines")
# A key of an axis that is left out in a combination.
UNSET = "unset"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A key of a recipe, "steps.NAME.KEY", "engines.NAME.KEY" or "constitution", and its values in turn.

    The value None leaves the key out, so that its default holds.
    """

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Keys and their values, and what each of them is called: "rounds=2"."""

    settings: Mapping[str, Any]
    labels: Mapping[str, str]

    @property
    def name(self) -> str:
        return ",".join(self.labels.values()) or "recipe"

    @property
    def folder(self) -> str:
        """The name as one of a folder; where that loses something, with a digest."""
        plain = re.sub(r"[^\w.,=+-]+", "_", self.name, flags=re.ASCII)
        if plain == self.name and len(plain) <= 80 and not plain.startswith("."):
            return plain
        return f"{plain[:80].lstrip('.')}-{digest('combination', dict(self.settings))[:8]}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Combinations that are compared with each other, by the values of the same keys."""

    keys: tuple[str, ...]
    combinations: tuple[Combination, ...]

    @property
    def name(self) -> str:
        return " × ".join(self.keys) or "the recipe"


def groups_of(axes: Sequence[Axis], *, each: bool) -> tuple[Group, ...]:
    """All combinations of the axes' values as one group; with `each` one group an axis, varied alone."""
    if each:
        return tuple(_group((axis,), _names(axes)) for axis in axes)
    return (_group(axes, _names(axes)),)


def _group(axes: Sequence[Axis], names: Mapping[str, str]) -> Group:
    keys = tuple(axis.key for axis in axes)
    combinations = []
    for labelled in product(*(zip(axis.values, _labels(axis.values), strict=True) for axis in axes)):
        settings = {key: value for key, (value, _) in zip(keys, labelled, strict=True)}
        labels = {key: f"{names[key]}={label}" for key, (_, label) in zip(keys, labelled, strict=True)}
        combinations.append(Combination(settings=settings, labels=labels))
    return Group(keys=keys, combinations=tuple(combinations))


def _names(axes: Sequence[Axis]) -> dict[str, str]:
    """Each key's shortest ending that no other key has: steps.revisions.rounds -> rounds."""
    found = {}
    for axis in axes:
        others = [other.key.split(".") for other in axes if other is not axis]
        parts = axis.key.split(".")
        sizes = range(1, len(parts) + 1)
        size = next((n for n in sizes if all(other[-n:] != parts[-n:] for other in others)), len(parts))
        found[axis.key] = ".".join(parts[-size:])
    return found


def _labels(values: Sequence[Any]) -> list[str]:
    """Values in a few characters, paths by their stem if that tells them apart."""
    short = [
        Path(value).stem if isinstance(value, str) and "/" in value else _whole(value) for value in values
    ]
    for labels in (short, [_whole(value) for value in values]):
        if len(set(labels)) == len(values):
            return labels
    # The text "1" and the number, or the text "unset".
    return [UNSET if value is None else _json(value) for value in values]


def _whole(value: Any) -> str:
    if value is None:
        return UNSET
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def edited(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level tables of a recipe with keys set; `UsageError` for a key that leads nowhere.

    Whether the recipe takes such a key and value is for its own check to say.
    """
    top = copy.deepcopy(dict(recipe))
    for key, value in settings.items():
        where = f"--set {key}"
        *path, last = _path(top, key, where)
        table = _descend(top, path, where)
        if value is None:
            table.pop(last, None)
        else:
            table[last] = copy.deepcopy(value)
    return top


def _path(top: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The keys and positions that lead to `key` from the recipe's top."""
    head, *rest = key.split(".")
    if head not in TABLES:
        if head == "seed":
            raise UsageError("'seed' is varied with --seeds", where=where, next="take it out")
        if head != "constitution" or rest:
            raise UsageError(
                f"a recipe has no key '{key}'", where=where, next=_near(head, [*TABLES, "constitution"])
            )
        return [head]
    if len(rest) < 2 or "" in rest:
        raise UsageError(f"'{key}' names no key", where=where, next=f"write {head}.NAME.KEY")
    name, *inner = rest
    if head == "engines":
        known = list(top.get("engines", {}))
        place: Any = name
    else:
        known = [table["name"] for table in top["steps"]]
        place = known.index(name) if name in known else None
    if name not in known:
        noun = head.removesuffix("s")
        raise UsageError(f"no {noun} is called '{name}'", where=where, next=suggest(name, known))
    return [head, place, *inner]


def _near(name: str, known: Sequence[str]) -> str:
    near = suggest(name, known)
    return near if near.startswith("did") else "write steps.NAME.KEY, engines.NAME.KEY or constitution"


def _descend(top: dict[str, Any], path: Sequence[Any], where: str) -> dict[str, Any]:
    table: Any = top
    for part in path:
        if isinstance(part, str) and part not in table:
            table[part] = {}
        table = table[part]
        if isinstance(part, str) and not isinstance(table, dict | list):
            raise UsageError(
                f"'{part}' is {table!r}",
                where=where,
                next="write it as a table in the recipe, then set its keys",
            )
    found: dict[str, Any] = table
    return found
