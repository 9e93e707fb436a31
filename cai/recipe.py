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
from = "prompts/organism/train.jsonl"           # a path, an earlier step's name, or a list; default: the
step before limit = 600                                     # all other keys are the stage's own

A trained model's step is an engine from then on, of the kind it was trained from. An eval with `models`
first has each of them answer `from` (steps NAME-MODEL of the `generate` stage), then counts over all their
answers.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai import shipped
from cai.config import build, mistyped, read_toml
from cai.engines import Engine
from cai.errors import CaiError, suggest
from cai.plugins import find
from cai.records import Record
from cai.steps import (
    EvalStep,
    StageStep,
    Step,
    TrainStep,
    asks,
    engine_of,
    model_of,
    noun,
    training_keys,
    with_model,
)

TOP = ("seed", "constitution", "engines", "steps")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
KINDS = ("stage", "train", "eval")
COMMON = {
    "stage": ("name", "stage", "engine", "from", "limit"),
    "train": ("name", "train", "model", "from", "weights"),
    "eval": ("name", "eval", "engine", "models", "from", "limit"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ordered steps, and the file they come from."""

    path: Path
    steps: tuple[Step, ...]


@dataclass(kw_only=True)
class _Draft:
    """What is known while the steps are read from first to last."""

    path: Path
    folder: Path
    names: list[str]
    defaults: dict[str, Any]
    limit: int | None = None
    engines: dict[str, Engine] = field(default_factory=dict)
    makes: dict[str, type | None] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def output(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def load(path: Path, *, folder: Path | None = None, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe. Raises `CaiError` that names the file, the table and the key at fault.

    `folder` takes the outputs instead of the recipe's own; `changes` stand in for its top-level keys (and
    `limit` for the limit of every step that reads a file of the user's own).
    """
    path = path / "recipe.toml" if path.is_dir() else path
    top = {**_top(path), **(changes or {})}
    draft = _Draft(
        path=path,
        folder=folder or path.parent,
        names=_names(top["steps"], path),
        defaults=_defaults(top),
        limit=(changes or {}).get("limit"),
    )
    for name, table in top.get("engines", {}).items():
        where = f"{path} [engines.{name}]"
        _check_name(name, where)
        if not isinstance(table, Mapping):
            raise mistyped(table, "a table", name, f"{path} [engines]")
        draft.engines[name] = engine_of(table, where)
    given = set(draft.engines)
    for number, table in enumerate(top["steps"], start=1):
        _add(draft, table, f"{path} [steps.{number}]")
    _check_used(draft, given, top)
    return Recipe(path=path, steps=tuple(draft.steps))


def steps_of(
    table: Mapping[str, Any], engines: Mapping[str, Engine], folder: Path, where: str
) -> tuple[Step, ...]:
    """The steps of one table that comes from elsewhere than a recipe; `where` names it in errors."""
    draft = _Draft(path=folder, folder=folder, names=[table["name"]], defaults={}, engines=dict(engines))
    _check_name(table["name"], where)
    _add(draft, table, where)
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


def answers_name(step: str, model: str) -> str:
    """What the answers of a model for an eval's step are called."""
    return f"{step}-{model}"


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


def _add(draft: _Draft, table: Mapping[str, Any], where: str) -> None:
    kinds = [kind for kind in KINDS if kind in table]
    if len(kinds) != 1:
        wrong = f"it has {' and '.join(kinds)}" if kinds else "it has no stage, train or eval"
        raise CaiError(wrong, where=where, next="give exactly one of stage, train and eval")
    [kind] = kinds
    if not isinstance(table[kind], str):
        raise mistyped(table[kind], "a string", kind, where)
    {"stage": _add_stage, "train": _add_train, "eval": _add_eval}[kind](draft, table, where)


def _add_stage(draft: _Draft, table: Mapping[str, Any], where: str) -> None:
    cls = find("stages", table["stage"], where)
    own = _own(draft, table, "stage", _keys(cls), where)
    stage = build(cls, own, where)
    inputs = _inputs(draft, table, cls.takes, table["stage"], where)
    step = StageStep(
        name=table["name"],
        kind=table["stage"],
        stage=stage,
        engine=_asked(draft, table, stage, table["stage"], where),
        inputs=inputs,
        output=draft.output(table["name"]),
        limit=_limit(draft, table, inputs, where),
    )
    draft.steps.append(step)
    draft.makes[step.name] = cls.makes


def _add_train(draft: _Draft, table: Mapping[str, Any], where: str) -> None:
    own = {key: value for key, value in table.items() if key not in COMMON["train"]}
    cls = find("objectives", table["train"], where)
    objective, settings = training_keys(table["train"], {**_seed(draft), **own}, where, COMMON["train"])
    if "model" not in table:
        raise CaiError("'model' is missing", where=where, next="name the engine or the model folder to train")
    engine = _model(draft, table["model"], "model", where)
    model_of(engine, where)
    inputs = _inputs(draft, table, cls.takes, table["train"], where)
    name = table["name"]
    if name in draft.engines:
        raise CaiError(
            f"an engine is called '{name}' already", where=where, next="give the step another name"
        )
    output = draft.folder / name
    weights = check_weights(table.get("weights"), len(inputs), where)
    draft.steps.append(
        TrainStep(
            name=name,
            kind=table["train"],
            objective=objective,
            settings=settings,
            model=engine,
            inputs=inputs,
            weights=weights,
            output=output,
        )
    )
    draft.makes[name] = None
    draft.engines[name] = with_model(engine, output)


def _add_eval(draft: _Draft, table: Mapping[str, Any], where: str) -> None:
    from cai.stages.generate import Generate

    cls = find("evals", table["eval"], where)
    own_keys, answer_keys = _keys(cls), _keys(Generate)
    answers = "models" in table
    if answers and cls.takes is not Record:
        needless = f"eval '{table['eval']}' reads {noun(cls.takes)}, not the answers of models"
        raise CaiError(needless, where=where, next="take 'models' out")
    own = _own(draft, table, "eval", own_keys | answer_keys if answers else own_keys, where)
    evaluation = build(cls, {key: value for key, value in own.items() if key in own_keys}, where)
    name = table["name"]
    if answers:
        generate = build(Generate, {key: value for key, value in own.items() if key in answer_keys}, where)
        inputs = _add_answers(draft, table, generate, where)
    else:
        inputs = _inputs(draft, table, cls.takes, table["eval"], where)
    draft.steps.append(
        EvalStep(
            name=name,
            kind=table["eval"],
            eval=evaluation,
            engine=_asked(draft, table, evaluation, table["eval"], where),
            inputs=inputs,
            output=draft.output(name),
            limit=None if answers else _limit(draft, table, inputs, where),
        )
    )
    draft.makes[name] = None


def _add_answers(draft: _Draft, table: Mapping[str, Any], generate: Any, where: str) -> tuple[Path, ...]:
    """One `generate` step for each model of an eval; what they write."""
    names = table["models"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise mistyped(names, "a list of engines", "models", where)
    for name in names:
        if names.count(name) > 1:
            raise CaiError(f"'models' has '{name}' twice", where=where, next="take one out")
    prompts = _inputs(draft, table, type(generate).takes, "generate", where)
    outputs = []
    for name in names:
        engine = _model(draft, name, "models", where)
        step_name = answers_name(table["name"], name)
        if step_name in draft.names or draft.output(step_name) in outputs:
            taken = f"its answers of '{name}' would be called '{step_name}', as another step's output is"
            raise CaiError(taken, where=where, next="give this step another name")
        outputs.append(draft.output(step_name))
        draft.steps.append(
            StageStep(
                name=step_name,
                kind="generate",
                stage=generate,
                engine=engine,
                inputs=prompts,
                output=outputs[-1],
                limit=_limit(draft, table, prompts, where),
            )
        )
    return tuple(outputs)


def _own(draft: _Draft, table: Mapping[str, Any], kind: str, keys: set[str], where: str) -> dict[str, Any]:
    """The plugin's own keys of a step's table, the recipe's defaults filled in."""
    own = {key: value for key, value in table.items() if key not in COMMON[kind]}
    for key in own:
        if key not in keys:
            known = keys | set(COMMON[kind])
            raise CaiError(f"unknown key '{key}'", where=where, next=suggest(key, known))
    for key, value in draft.defaults.items():
        if key in keys:
            draft.used.add(key)
            own.setdefault(key, value)
    return own


def _seed(draft: _Draft) -> dict[str, Any]:
    draft.used.add("seed")
    return {key: value for key, value in draft.defaults.items() if key == "seed"}


def _keys(cls: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(cls) if field.init}


def _asked(draft: _Draft, table: Mapping[str, Any], plugin: Any, kind: str, where: str) -> Engine | None:
    """The engine of a stage or eval that asks a model; None for one that does not."""
    if asks(plugin):
        if "engine" not in table:
            raise CaiError(
                "'engine' is missing", where=where, next=f"name one (known: {_listed(draft.engines)})"
            )
        return _model(draft, table["engine"], "engine", where)
    if "engine" in table:
        raise CaiError(f"'{kind}' asks no model", where=where, next="take 'engine' out")
    return None


def _model(draft: _Draft, name: Any, key: str, where: str) -> Engine:
    """The engine called `name`; or, for a path, a local engine on that model folder."""
    if not isinstance(name, str):
        raise mistyped(name, "a string", key, where)
    if name in draft.engines:
        draft.used.add(name)
        return draft.engines[name]
    if name in draft.names:
        later = f"'{name}' is no model yet: a later step, or one that trains nothing"
        raise CaiError(later, where=where, next=suggest(name, draft.engines))
    if key == "model" and ("/" in name or Path(name).is_dir()):
        return engine_of({"type": "local", "model": name}, where)
    raise CaiError(f"no engine is called '{name}'", where=where, next=suggest(name, draft.engines))


def _inputs(
    draft: _Draft, table: Mapping[str, Any], wanted: type, reader: str, where: str
) -> tuple[Path, ...]:
    """The files that a step reads: of earlier steps whose rows it can take, or of the user's own."""
    value = table.get("from")
    if value is None:
        before = next(reversed(draft.makes), None)
        if before is None or draft.makes[before] is None:
            raise CaiError("'from' is missing", where=where, next="name an earlier step or a file")
        value = before
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise mistyped(value, "a step, a path or a list of them", "from", where)
    for name in names:
        if names.count(name) > 1:
            raise CaiError(f"'from' has '{name}' twice", where=where, next="take one out")
    return tuple(_input(draft, name, wanted, reader, where) for name in names)


def _input(draft: _Draft, name: str, wanted: type, reader: str, where: str) -> Path:
    outputs = {str(draft.output(step)): step for step in draft.names}
    step = name if name in draft.names else outputs.get(str(Path(name)))
    if step is None:
        return _file(name, draft.names, where)
    if step not in draft.makes:
        later = f"step '{step}' is not made by then"
        raise CaiError(later, where=where, next="read from an earlier step, or move that one up")
    makes = draft.makes[step]
    if makes is None:
        raise CaiError(
            f"step '{step}' makes no rows to read", where=where, next="name a stage's step or a file"
        )
    if makes is not wanted:
        clash = f"step '{step}' makes {noun(makes)}, '{reader}' takes {noun(wanted)}"
        raise CaiError(clash, where=where, next="read from another step")
    return draft.output(step)


def _file(name: str, steps: Iterable[str], where: str) -> Path:
    if "/" not in name and not name.endswith(".jsonl"):
        raise CaiError(f"no step is called '{name}'", where=where, next=suggest(name, steps))
    return input_file(name, where)


def input_file(name: str, where: str) -> Path:
    """The file of rows that `name` means: a path of the user's own, or a shipped one."""
    path = Path(name)
    if path.is_dir():
        raise CaiError(f"'{name}' is a folder", where=where, next="give a .jsonl file")
    return path if path.is_file() else shipped.find(str(path.parent), name, where)


def check_weights(value: Any, inputs: int, where: str) -> tuple[float, ...]:
    """How much each input counts in training; all alike when nothing is said."""
    if value is None:
        return (1.0,) * inputs
    numbers = isinstance(value, list | tuple) and all(type(item) in (int, float) for item in value)
    if not numbers or not all(item > 0 for item in value):
        raise mistyped(value, "a list of numbers above 0", "weights", where)
    if len(value) != inputs:
        uneven = f"weights and inputs differ in number ({len(value)} and {inputs})"
        raise CaiError(uneven, where=where, next="give one weight for each input")
    return tuple(float(item) for item in value)


def _limit(draft: _Draft, table: Mapping[str, Any], inputs: Collection[Path], where: str) -> int | None:
    """The step's own limit, or that of a trial run (for what reads the user's files) if it is smaller."""
    limit = table.get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise mistyped(limit, "a whole number above 0", "limit", where)
    own_file = not any(path in inputs for path in map(draft.output, draft.names))
    return min(filter(None, (limit, draft.limit if own_file else None)), default=None)


def _check_used(draft: _Draft, given: set[str], top: Mapping[str, Any]) -> None:
    """What nothing uses is more likely a mistake than a wish."""
    for name in sorted(given - draft.used):
        raise CaiError(
            "no step uses it",
            where=f"{draft.path} [engines.{name}]",
            next="name it in a step, or take it out",
        )
    for key in ("seed", "constitution"):
        if key in top and key not in draft.used:
            raise CaiError(f"no step uses '{key}'", where=str(draft.path), next="take it out")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none; add an [engines.NAME] table"
