"""The steps of a run: what each one does, reads and writes.

`cai.recipe` makes them of a file, the single commands of their options; `cai.execute` carries them out.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai import manifest, shipped
from cai.config import build, mistyped
from cai.engines import Engine
from cai.errors import CaiError, suggest
from cai.evals import Eval
from cai.plugins import find
from cai.records import Reject
from cai.rows import WHOLE, Item, Part, items_for
from cai.shards import Shard, path_of, places_of
from cai.stages import Stage
from cai.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class StageStep:
    """Rows in, rows out: `inputs` are .jsonl files in order, `output` the .jsonl file it writes.

    `engine` is None for a stage that asks no model. `limit` takes only the first rows of the inputs,
    `part` only the prompts in that part of all by digest, `shard` those of one shard of what these leave.
    """

    name: str
    kind: str
    stage: Stage
    engine: Engine | None
    inputs: tuple[Path, ...]
    output: Path
    limit: int | None = None
    part: Part = WHOLE
    shard: Shard | None = None


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """Rows in, a model folder out.

    `model` is the engine whose model is trained. `weights`, one an input, are what each of its rows counts;
    `shares`, where given, what all rows of each input come to.
    """

    name: str
    kind: str
    objective: Any
    settings: TrainSettings
    model: Engine
    inputs: tuple[Path, ...]
    weights: tuple[float, ...]
    output: Path
    shares: tuple[float, ...] | None = None

    @property
    def samples(self) -> bool:
        """Whether it learns from its own answers to the rows, and leaves some of them beside its model."""
        return hasattr(self.objective, "leaves")


@dataclass(frozen=True, kw_only=True)
class EvalStep:
    """Rows in, verdicts and numbers out. `engine` is None for an eval that asks no model itself."""

    name: str
    kind: str
    eval: Eval
    engine: Engine | None
    inputs: tuple[Path, ...]
    output: Path
    limit: int | None = None
    part: Part = WHOLE
    shard: Shard | None = None


Step = StageStep | TrainStep | EvalStep


def items_of(step: StageStep | EvalStep, *, strict: bool = False) -> Iterator[Item]:
    """What the step works on, once its inputs are there."""
    plugin = step.stage if isinstance(step, StageStep) else step.eval
    return items_for(plugin, step.inputs, limit=step.limit, part=step.part, shard=step.shard, strict=strict)


def surveyed(step: StageStep, *, strict: bool = False) -> Any:
    """The stage of a step, ready for its items: one that surveys has seen all of them.

    Raises `CaiError` where they are those of a shard: what comes of them would hang on the sharding.
    """
    if not getattr(step.stage, "surveys", False):
        return step.stage
    if step.shard:
        alone = f"'{step.kind}' looks at all rows before it works on one"
        next_step = "cai merge the shards of what it reads, then run it without --shard"
        raise CaiError(alone, where=step.name, next=next_step)
    survey: Any = step.stage
    values = (item.value for item in items_of(step, strict=strict))
    return survey.survey(value for value in values if not isinstance(value, Reject))


def noun(row: type) -> str:
    """The kind of row that a stage, objective or eval reads or makes, in words."""
    return f"{row.__name__.lower()}s"


def engine_of(table: Mapping[str, Any], where: str) -> Engine:
    """The engine that a table with a `type` and the engine's own keys describes. Nothing is opened."""
    if "type" not in table:
        raise CaiError("'type' is missing", where=where, next='add type = "local"')
    if not isinstance(table["type"], str):
        raise CaiError(f"'type' is {table['type']!r}", where=where, next="write a string")
    cls = find("engines", table["type"], where)
    engine: Engine = build(cls, {key: value for key, value in table.items() if key != "type"}, where)
    return engine


def model_of(engine: Engine, where: str) -> str:
    """The model that an engine runs, to be trained; `CaiError` for an engine that has none of its own."""
    model = getattr(engine, "model", None)
    if not isinstance(model, str) or not model or "model" not in _fields(engine):
        kind = type(engine).__name__.lower()
        raise CaiError(
            f"engine '{kind}' has no model that could be trained", where=where, next="use a local model"
        )
    return model


def with_model(engine: Engine, folder: Path) -> Engine:
    """The same engine, running the model in `folder` instead."""
    changed: Engine = dataclasses.replace(engine, model=str(folder))  # type: ignore[type-var]
    return changed


def training_keys(
    kind: str, table: Mapping[str, Any], where: str, beside: Collection[str] = ()
) -> tuple[Any, TrainSettings]:
    """The objective and the settings that one flat table holds; a key that both have goes to both.

    `beside` are keys that the table's place has a use for itself, so that a near miss can be one of them.
    """
    cls = find("objectives", kind, where)
    own = {field.name for field in dataclasses.fields(cls) if field.init}
    loop = {field.name for field in dataclasses.fields(TrainSettings)}
    for key in table:
        if key not in own | loop:
            raise CaiError(f"unknown key '{key}'", where=where, next=suggest(key, own | loop | set(beside)))
    objective = build(cls, {key: value for key, value in table.items() if key in own}, where)
    settings = build(TrainSettings, {key: value for key, value in table.items() if key in loop}, where)
    return objective, settings


def _fields(plugin: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(plugin)}


def input_file(name: str, where: str, shard: Shard | None = None) -> Path:
    """The file of rows that `name` means: a path of the user's own, or a shipped one.

    Where a shard is worked on, it is the file of that name of this shard, if there is one; but not if there
    is a whole file too that was made otherwise.
    """
    path = Path(name)
    if shard and _stands_for(path_of(path, shard), path):
        return path_of(path, shard)
    if path.is_dir():
        raise CaiError(f"'{name}' is a folder", where=where, next="give a .jsonl file")
    return path if path.is_file() else shipped.find(str(path.parent), name, where)


def _stands_for(part: Path, whole: Path) -> bool:
    if not part.is_file() or not whole.exists():
        return part.is_file()
    made, other = manifest.read(part), manifest.read(whole)
    return made is not None and other is not None and manifest.whole(made["identity"]) == other["identity"]


def check_weights(value: Any, inputs: int, where: str, key: str = "weights") -> tuple[float, ...]:
    """How much each input counts in training; all alike when nothing is said."""
    if value is None:
        return (1.0,) * inputs
    numbers = isinstance(value, list | tuple) and all(type(item) in (int, float) for item in value)
    if not numbers or not all(item > 0 for item in value):
        raise mistyped(value, "a list of numbers above 0", key, where)
    if len(value) != inputs:
        uneven = f"{key} and inputs differ in number ({len(value)} and {inputs})"
        raise CaiError(uneven, where=where, next=f"give one {key.removesuffix('s')} for each input")
    return tuple(float(item) for item in value)


def check_shares(table: Mapping[str, Any], inputs: int, where: str) -> tuple[float, ...] | None:
    """What all rows of each input come to, if a table says so in place of weights."""
    if table.get("shares") is None:
        return None
    if table.get("weights") is not None:
        both = "'weights' and 'shares' are both given"
        raise CaiError(both, where=where, next="leave one out: weights are each row's, shares each file's")
    return check_weights(table["shares"], inputs, where, "shares")


def check_limit(limit: int | None, inputs: Iterable[Path], shard: Shard | None, where: str) -> None:
    """`CaiError` for a limit on the file of a shard."""
    if limit is not None and shard is not None and any(places_of(path).exists() for path in inputs):
        raise limit_of_a_shard(where)


def limit_of_a_shard(where: str) -> CaiError:
    """The first rows of a shard are no shard of the first rows."""
    counted = "'limit' counts the rows of all shards, and this reads one shard's"
    return CaiError(counted, where=where, next="set it where the requests are read")
