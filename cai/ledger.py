"""What each step of a run is, as far as it can be known before it is made, and what is left to do for it.

The identity of a step holds the fingerprints of its inputs. That of rows follows from identities alone, so
a chain of stages is known before any of it runs; that of a trained model is its weights, known once it is
trained.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cai import manifest, runs, trained
from cai.config import identity as keys_of
from cai.engines import Engine, fit_together
from cai.model_folder import resolve
from cai.rows import WHOLE
from cai.steps import EvalStep, StageStep, Step, TrainStep, model_of
from cai.training.files import SAMPLES

# "waits": for a model that is not trained yet, so that nobody can tell.
State = Literal["done", "to do", "waits"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is left to do for a step, and its identity (None while it waits)."""

    state: State
    identity: dict[str, Any] | None


@dataclass(kw_only=True)
class Ledger:
    """Goes through the steps in order. What stands at the paths `gone` is taken as not there."""

    gone: Collection[Path] = ()
    unknown: set[Path] = field(default_factory=set)
    fingerprints: dict[Path, str] = field(default_factory=dict)

    def settle(self, step: Step) -> Entry:
        """The entry of a step, after those before it. `CaiError` when its output was made otherwise."""
        identity = self.identity(step)
        if identity is None:
            self.unknown.add(step.output)
            return Entry(state="waits", identity=None)
        done = step.output not in self.gone and self._is_complete(step, identity)
        if not done and isinstance(step, TrainStep):
            self.unknown.add(step.output)
        elif not done:
            self.fingerprints[step.output] = manifest.fingerprint(manifest.whole(identity))
        return Entry(state="done" if done else "to do", identity=identity)

    def made(self, step: Step) -> None:
        """The step's output is there now."""
        self.unknown.discard(step.output)

    def identity(self, step: Step) -> dict[str, Any] | None:
        """Everything that decides what a step makes; None while that hangs on what is not there yet."""
        if self.unknown & _needs(step):
            return None
        engine = step.model if isinstance(step, TrainStep) else step.engine
        shard = None if isinstance(step, TrainStep) else step.shard
        inputs = [self.fingerprints.get(path) or manifest.fingerprint_of(path, shard) for path in step.inputs]
        model = None if engine is None else engine.identity()
        if isinstance(step, TrainStep):
            # That there is such a model is better known before anything runs.
            resolve(model_of(step.model, step.name), step.name)
            return {
                "objective": _named(step.kind, step.objective),
                "training": keys_of(step.settings),
                "model": model,
                "inputs": inputs,
                "weights": list(step.weights),
                **({} if step.shares is None else {"shares": list(step.shares)}),
            }
        if isinstance(step, EvalStep):
            plugin = {"eval": _named(step.kind, step.eval)}
        else:
            plugin = {"stage": _named(step.kind, step.stage)}
        rows = {"engine": model, "inputs": inputs, "limit": step.limit, "part": step.part}
        return {**plugin, **rows, **({"shard": shard} if shard else {})}

    def _is_complete(self, step: Step, identity: dict[str, Any]) -> bool:
        check = trained.is_complete if isinstance(step, TrainStep) else runs.is_complete
        return check(step.output, identity)


def made_from(steps: Sequence[Step], names: Collection[str]) -> list[Step]:
    """The steps called `names` and all that are made from what they make, in order."""
    outputs: set[Path] = set()
    found = []
    for step in steps:
        if step.name in names or outputs & _needs(step):
            outputs.add(step.output)
            found.append(step)
    return found


def _needs(step: Step) -> set[Path]:
    """The files and the model folders that a step is made from."""
    if isinstance(step, TrainStep):
        # An objective may need a model that another step trains.
        needed = getattr(step.objective, "needs", ())
        return {*step.inputs, *_left_in(step.inputs), *_folder(step.model), *needed}
    return {*step.inputs, *_left_in(step.inputs), *_folder(step.engine)}


def _left_in(inputs: Sequence[Path]) -> set[Path]:
    """The models whose training left some of these files."""
    return {path.parent for path in inputs if path.name == SAMPLES}


def _folder(engine: Engine | None) -> set[Path]:
    """The folder of the model that an engine runs, if its model is one."""
    model = getattr(engine, "model", None)
    return {Path(model)} if isinstance(model, str) else set()


def chain(steps: Sequence[Step]) -> list[StageStep]:
    """The steps at the head of `steps` that stream into each other without a barrier.

    Each reads nothing but what the one before it writes, row by row, and asks an engine that there is room
    for beside the others.
    """
    head = steps[0]
    assert isinstance(head, StageStep)
    linked = [head]
    for step in steps[1:]:
        if not isinstance(step, StageStep) or step.inputs != (linked[-1].output,):
            break
        if step.stage.groups or step.limit is not None or step.part != WHOLE:
            break
        if not fit_together([one.engine for one in (*linked, step) if one.engine is not None]):
            break
        linked.append(step)
    return linked


def _named(name: str, plugin: Any) -> dict[str, Any]:
    """The plugin's name and keys. A key of its own that is called so too (an eval's `kind`) gives way."""
    keys = {"kind_key" if key == "kind" else key: value for key, value in keys_of(plugin).items()}
    return {"kind": name, **keys}
