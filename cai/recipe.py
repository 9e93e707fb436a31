"""recipe.toml -> steps, checked in full before any weight is loaded.

seed = 0
constitution = "constitutions/organism.toml"    # for every step that has such a key and does not set it

[engines.start]
type = "local"                                  # all other keys are the engine's own
model = "organism"

[[steps]]
name = "responses"                              # writes responses.jsonl beside the recipe
stage = "generate"                              # or: train = "sft", eval = "organism"
engine = "start"
from = "prompts/organism/train.jsonl"           # a path, an earlier step, or a list; default: the step before
limit = 600                                     # all other keys are the stage's own

A trained model's step is an engine from then on, of the kind it was trained from. An eval with `models` first
has each of them answer `from` (steps NAME-MODEL of the `generate` stage), then counts over all their answers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config import mistyped, read_toml
from cai.draft import Draft, add_step, answers_name
from cai.engines import Engine
from cai.errors import CaiError, suggest
from cai.shards import Shard
from cai.steps import Step, engine_of

TOP = ("seed", "constitution", "engines", "steps")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ordered steps, and the file they come from."""

    path: Path
    steps: tuple[Step, ...]


def load(
    path: Path,
    *,
    folder: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shard: Shard | None = None,
) -> Recipe:
    """Read and check a recipe. Raises `CaiError` that names the file, the table and the key at fault.

    `folder` takes the outputs instead of the recipe's own; `changes` stand in for its top-level keys (and
    `limit` for the limit of every step that reads a file of the user's own). With `shard` each step makes
    that shard of what it would make.
    """
    path = path / "recipe.toml" if path.is_dir() else path
    top = {**_top(path), **(changes or {})}
    draft = Draft(
        folder=folder or path.parent,
        names=_names(top["steps"], path),
        defaults=_defaults(top),
        limit=(changes or {}).get("limit"),
        shard=shard,
    )
    for name, table in top.get("engines", {}).items():
        where = f"{path} [engines.{name}]"
        _check_name(name, where)
        if not isinstance(table, Mapping):
            raise mistyped(table, "a table", name, f"{path} [engines]")
        draft.engines[name] = engine_of(table, where)
    given = set(draft.engines)
    for number, table in enumerate(top["steps"], start=1):
        add_step(draft, table, f"{path} [steps.{number}]")
    _check_used(draft, given, top, path)
    return Recipe(path=path, steps=tuple(draft.steps))


def steps_of(
    table: Mapping[str, Any],
    engines: Mapping[str, Engine],
    folder: Path,
    where: str,
    shard: Shard | None = None,
) -> tuple[Step, ...]:
    """The steps of one table that comes from elsewhere than a recipe; `where` names it in errors."""
    draft = Draft(folder=folder, names=[table["name"]], defaults={}, shard=shard, engines=dict(engines))
    _check_name(table["name"], where)
    add_step(draft, table, where)
    return tuple(draft.steps)


def output_names(path: Path) -> list[str]:
    """What a recipe's steps write, by name and in order, without a look at anything but their names."""
    tables = _top(path)["steps"]
    names = _names(tables, path)
    found: list[str] = []
    for name, table in zip(names, tables, strict=True):
        models = table.get("models", []) if "eval" in table else []
        found += [*(answers_name(name, model) for model in models), name]
    return found


def _top(path: Path) -> dict[str, Any]:
    where = str(path)
    table = read_toml(path)
    for key in table:
        if key not in TOP:
            raise CaiError(f"unknown key '{key}'", where=where, next=suggest(key, TOP))
    if not table.get("steps"):
        raise CaiError("there is no step in it", where=where, next="add a [[steps]] table")
    shapes: Mapping[str, tuple[type, str]] = {
        "seed": (int, "a whole number"),
        "constitution": (str, "a string"),
        "engines": (dict, "[engines.NAME] tables"),
        "steps": (list, "[[steps]] tables"),
    }
    for key, (kind, expected) in shapes.items():
        if key in table and (not isinstance(table[key], kind) or isinstance(table[key], bool)):
            raise mistyped(table[key], expected, key, where)
    return table


def _defaults(top: Mapping[str, Any]) -> dict[str, Any]:
    return {key: top[key] for key in ("seed", "constitution") if key in top}


def _names(tables: list[Any], path: Path) -> list[str]:
    names: list[str] = []
    for number, table in enumerate(tables, start=1):
        where = f"{path} [steps.{number}]"
        if not isinstance(table, Mapping):
            raise mistyped(table, "[[steps]] tables", "steps", str(path))
        if "name" not in table:
            raise CaiError("'name' is missing", where=where, next='add name = "..."; its output is called so')
        if not isinstance(table["name"], str):
            raise mistyped(table["name"], "a string", "name", where)
        _check_name(table["name"], where)
        if table["name"].lower() in [name.lower() for name in names]:
            raise CaiError(
                f"another step is called '{table['name']}' too", where=where, next="give it another name"
            )
        names.append(table["name"])
    return names


def _check_name(name: str, where: str) -> None:
    if not NAME.fullmatch(name) or name == "recipe":
        bad = f"'{name}' is no name for a file"
        raise CaiError(bad, where=where, next="use letters, digits, '-' and '_' (and not 'recipe')")


def _check_used(draft: Draft, given: set[str], top: Mapping[str, Any], path: Path) -> None:
    """What nothing uses is more likely a mistake than a wish."""
    for name in sorted(given - draft.used):
        raise CaiError(
            "no step uses it",
            where=f"{path} [engines.{name}]",
            next="name it in a step, or take it out",
        )
    for key in ("seed", "constitution"):
        if key in top and key not in draft.used:
            raise CaiError(f"no step uses '{key}'", where=str(path), next="take it out")
