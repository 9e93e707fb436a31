"""A sweep -> its runs, each with its steps in their places, and the steps to make for all of them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config import read_toml
from cai.errors import CaiError
from cai.recipe import load
from cai.steps import EvalStep, Step
from cai.sweep.axes import Axis, Combination, Group, edited, groups_of
from cai.sweep.places import Places

STEPS = "steps"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is swept: a recipe, by all combinations of the axes' values or by `each` axis alone, over so many
    `seeds`, from the recipe's own upwards.

    The runs stand under `folder`, the steps that they are made of under `store` (None: a folder in it), which
    several sweeps may share. `limit` is that of a trial run.
    """

    recipe: Path
    axes: tuple[Axis, ...]
    each: bool
    seeds: int
    folder: Path
    store: Path | None = None
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One combination with one seed: a folder that shows the run's outputs as if they were made in it."""

    combination: Combination
    seed: int
    folder: Path
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of a sweep by (combination, seed), and the steps to make for them, each once."""

    sweep: Sweep
    seeds: tuple[int, ...]
    groups: tuple[Group, ...]
    runs: Mapping[tuple[str, int], Run]
    places: Places

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.places.steps

    @property
    def wanted(self) -> int:
        """How many steps all the runs would make if nothing were shared."""
        return sum(len(run.steps) for run in self.runs.values())

    def evals(self, run: Run) -> list[EvalStep]:
        return [step for step in run.steps if isinstance(step, EvalStep)]


def plan_of(sweep: Sweep) -> Plan:
    """Read and check every combination. Raises `CaiError` for the first that the recipe does not take."""
    # Its own faults first, so that none is put down to a combination.
    load(sweep.recipe, folder=sweep.folder)
    recipe = read_toml(_file(sweep.recipe))
    groups = groups_of(sweep.axes, each=sweep.each)
    combinations = {one.folder: one for group in groups for one in group.combinations}
    places = Places(folder=_short(sweep.store or sweep.folder / STEPS))
    runs: dict[tuple[str, int], Run] = {}
    # Seed by seed: of a sweep that is broken off, whole seeds can be read.
    first = recipe.get("seed", 0)
    seeds = tuple(range(first, first + sweep.seeds))
    for seed in seeds:
        for name, combination in combinations.items():
            folder = sweep.folder / name / f"seed-{seed}"
            changes = {**edited(recipe, combination.settings), "seed": seed}
            steps = _checked(sweep, combination, changes, folder)
            run = Run(combination=combination, seed=seed, folder=folder, steps=places.add(steps))
            runs[combination.name, seed] = run
    return Plan(sweep=sweep, seeds=seeds, groups=groups, runs=runs, places=places)


def _checked(
    sweep: Sweep, combination: Combination, changes: Mapping[str, Any], folder: Path
) -> Sequence[Step]:
    limit = {} if sweep.limit is None else {"limit": sweep.limit}
    try:
        return load(sweep.recipe, folder=folder, changes={**changes, **limit}).steps
    except CaiError as error:
        if not combination.settings:
            raise
        where = f"{error.where or sweep.recipe} (with {combination.name})"
        raise CaiError(error.what, where=where, next=error.next) from error


def _file(recipe: Path) -> Path:
    return recipe / "recipe.toml" if recipe.is_dir() else recipe


def _short(path: Path) -> Path:
    """The path as seen from here, so that a model is called the same however its folder was given."""
    relative = Path(os.path.relpath(path))
    return path.resolve() if relative.parts[:1] == ("..",) else relative
