"""The tables of a recipe's steps -> steps, one after the other, each checked against those before it."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.config import build, mistyped
from cai.engines import Engine
from cai.errors import CaiError, suggest
from cai.plugins import find
from cai.records import Record
from cai.rows import WHOLE, Part
from cai.shards import Shard, path_of
from cai.stages import asks
from cai.steps import (
    EvalStep,
    StageStep,
    Step,
    TrainStep,
    check_limit,
    check_shares,
    check_weights,
    engine_of,
    input_file,
    limit_of_a_shard,
    model_of,
    noun,
    training_keys,
    with_model,
)
from cai.training.files import SAMPLES

KINDS = ("stage", "train", "eval")
COMMON = {
    "stage": ("name", "stage", "engine", "from", "limit", "part"),
    "train": ("name", "train", "model", "from", "weights", "shares"),
    "eval": ("name", "eval", "engine", "models", "from", "limit", "part"),
}


class NoEngineError(CaiError):
    """A step asks a model and names no engine."""


@dataclass(kw_only=True)
class Draft:
    """What is known while the steps are read from first to last.

    `folder` is where they write, `names` what all of them are called, `defaults` the recipe's own keys that a
    step may leave out, `limit` that of a trial run, `shard` which one all steps make of what they would.
    `engines`, `makes` (the rows of each step, None for none), `leaves` (the file of rows that a training
    leaves beside its model) and `used` (the engines and defaults that a step has a use for) grow with
    `steps`.
    """

    folder: Path
    names: list[str]
    defaults: dict[str, Any]
    limit: int | None = None
    shard: Shard | None = None
    engines: dict[str, Engine] = field(default_factory=dict)
    makes: dict[str, type | None] = field(default_factory=dict)
    leaves: dict[str, Path] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def output(self, name: str) -> Path:
        return path_of(self.whole(name), self.shard)

    def whole(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def answers_name(step: str, model: str) -> str:
    """What the answers of a model for an eval's step are called."""
    return f"{step}-{model}"


def add_step(draft: Draft, table: Mapping[str, Any], where: str) -> None:
    """Add the step of one table, or the several of an eval with models. Raises `CaiError` about `where`."""
    kinds = [kind for kind in KINDS if kind in table]
    if len(kinds) != 1:
        wrong = f"it has {' and '.join(kinds)}" if kinds else "it has no stage, train or eval"
        raise CaiError(wrong, where=where, next="give exactly one of stage, train and eval")
    [kind] = kinds
    if not isinstance(table[kind], str):
        raise mistyped(table[kind], "a string", kind, where)
    {"stage": _add_stage, "train": _add_train, "eval": _add_eval}[kind](draft, table, where)


def _add_stage(draft: Draft, table: Mapping[str, Any], where: str) -> None:
    cls = find("stages", table["stage"], where)
    own = _own(draft, table, "stage", cls, _keys(cls), where)
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
        part=part_of(table.get("part"), where),
        shard=draft.shard,
    )
    draft.steps.append(step)
    draft.makes[step.name] = cls.makes


def _add_train(draft: Draft, table: Mapping[str, Any], where: str) -> None:
    if draft.shard:
        needs = f"'{table['name']}' trains, which takes the rows of all shards"
        way = (
            "make what it reads by shard with the single commands, cai merge it, then cai run without --shard"
        )
        raise CaiError(needs, where=where, next=way)
    own = {key: value for key, value in table.items() if key not in COMMON["train"]}
    cls = find("objectives", table["train"], where)
    keys = {**_seed(draft), **_models(draft, cls, own, where)}
    objective, settings = training_keys(table["train"], keys, where, COMMON["train"])
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
            shares=check_shares(table, len(inputs), where),
        )
    )
    draft.makes[name] = getattr(cls, "leaves", None)
    if draft.makes[name] is not None:
        draft.leaves[name] = output / SAMPLES
    draft.engines[name] = with_model(engine, output)


def _models(draft: Draft, cls: type[Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keys of an objective, with a folder for each that may mean a model and names an earlier step."""
    found = dict(own)
    known = {*draft.names, *draft.engines}
    for one in dataclasses.fields(cls):
        name = own.get(one.name)
        if one.metadata.get("model") and isinstance(name, str) and name in known:
            found[one.name] = model_of(_model(draft, name, one.name, where), where)
    return found


def _add_eval(draft: Draft, table: Mapping[str, Any], where: str) -> None:
    from cai.stages.generate import Generate

    cls = find("evals", table["eval"], where)
    own_keys, answer_keys = _keys(cls), _keys(Generate)
    answers = "models" in table
    if answers and cls.takes is not Record:
        needless = f"eval '{table['eval']}' reads {noun(cls.takes)}, not the answers of models"
        raise CaiError(needless, where=where, next="take 'models' out")
    own = _own(draft, table, "eval", cls, own_keys | answer_keys if answers else own_keys, where)
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
            part=WHOLE if answers else part_of(table.get("part"), where),
            shard=draft.shard,
        )
    )
    draft.makes[name] = None


def _add_answers(draft: Draft, table: Mapping[str, Any], generate: Any, where: str) -> tuple[Path, ...]:
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
                part=part_of(table.get("part"), where),
                shard=draft.shard,
            )
        )
    return tuple(outputs)


def _own(
    draft: Draft, table: Mapping[str, Any], kind: str, cls: type[Any], keys: set[str], where: str
) -> dict[str, Any]:
    """The plugin's own keys of a step's table, the recipe's defaults filled in.

    A plugin may have a class method `spared(table, where) -> set[str]`: the defaults it has no use for there.
    """
    own = {key: value for key, value in table.items() if key not in COMMON[kind]}
    for key in own:
        if key not in keys:
            known = keys | set(COMMON[kind])
            raise CaiError(f"unknown key '{key}'", where=where, next=suggest(key, known))
    spared = cls.spared(table, where) if hasattr(cls, "spared") else ()
    for key, value in draft.defaults.items():
        if key in keys and key not in spared:
            draft.used.add(key)
            own.setdefault(key, value)
    return own


def _seed(draft: Draft) -> dict[str, Any]:
    draft.used.add("seed")
    return {key: value for key, value in draft.defaults.items() if key == "seed"}


def _keys(cls: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(cls) if field.init}


def _asked(draft: Draft, table: Mapping[str, Any], plugin: Any, kind: str, where: str) -> Engine | None:
    """The engine of a stage or eval that asks a model; None for one that does not."""
    if asks(plugin):
        if "engine" not in table:
            known = _listed(draft.engines)
            raise NoEngineError("'engine' is missing", where=where, next=f"name one (known: {known})")
        return _model(draft, table["engine"], "engine", where)
    if "engine" in table:
        raise CaiError(f"'{kind}' asks no model", where=where, next="take 'engine' out")
    return None


def _model(draft: Draft, name: Any, key: str, where: str) -> Engine:
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
    draft: Draft, table: Mapping[str, Any], wanted: type, reader: str, where: str
) -> tuple[Path, ...]:
    """The files that a step reads: of earlier steps whose rows it can take, or of the user's own."""
    value = table.get("from")
    if value is None:
        before = next(reversed(draft.makes), None)
        if before is None or draft.makes[before] is None or before in draft.leaves:
            raise CaiError("'from' is missing", where=where, next="name an earlier step or a file")
        value = before
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise mistyped(value, "a step, a path or a list of them", "from", where)
    for name in names:
        if names.count(name) > 1:
            raise CaiError(f"'from' has '{name}' twice", where=where, next="take one out")
    return tuple(_input(draft, name, wanted, reader, where) for name in names)


def _input(draft: Draft, name: str, wanted: type, reader: str, where: str) -> Path:
    outputs = {str(draft.whole(step)): step for step in draft.names}
    step = name if name in draft.names else outputs.get(str(Path(name)))
    if step is None:
        return _file(draft, name, where)
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
    return draft.leaves.get(step) or draft.output(step)


def _file(draft: Draft, name: str, where: str) -> Path:
    if "/" not in name and not name.endswith(".jsonl"):
        raise CaiError(f"no step is called '{name}'", where=where, next=suggest(name, draft.names))
    return input_file(name, where, draft.shard)


def _limit(draft: Draft, table: Mapping[str, Any], inputs: Collection[Path], where: str) -> int | None:
    """The step's own limit, or that of a trial run (for what reads the user's files) if it is smaller."""
    limit = table.get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise mistyped(limit, "a whole number above 0", "limit", where)
    own_file = not any(path in inputs for path in map(draft.output, draft.names))
    if draft.shard and limit is not None and not own_file:
        raise limit_of_a_shard(where)
    check_limit(limit, inputs, draft.shard, where)
    return min(filter(None, (limit, draft.limit if own_file else None)), default=None)


def part_of(value: Any, where: str) -> Part:
    """Which prompts a step takes: those whose digest lies in [low, high); all when nothing is said."""
    if value is None:
        return WHOLE
    numbers = isinstance(value, list | tuple) and all(type(item) in (int, float) for item in value)
    if not numbers or len(value) != 2 or not 0 <= value[0] < value[1] <= 1:
        raise mistyped(value, "two numbers, 0 <= low < high <= 1", "part", where)
    return float(value[0]), float(value[1])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none; add an [engines.NAME] table"
