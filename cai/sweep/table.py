"""The numbers of a sweep's runs over the seeds, each with its intervals: sweep.json.

{
 "recipe": "runs/x/recipe.toml", "seeds": [0, 1, 2],
 "axes": [{"key": "steps.revisions.rounds", "values": [1, 2]}], "each": false,
 "steps": {"made": 30, "of": 54},               what sharing equal steps came to
 "runs": [{"combination": "rounds=1", "seed": 0, "folder": "runs/s/rounds=1/seed-0"}, ...],
 "groups": [{"keys": ["steps.revisions.rounds"], "combinations": [{"name": "rounds=1", "settings": {...}}]}],
 "headline": {"table": ["harmful compliance", ...]},         the names that head each eval's numbers
 "lines": [{"combination": "rounds=1", "eval": "table", "of": "sl-cai", "name": "harmful compliance",
            "group": "", "unit": "share", "n": [320, 320, 320], "values": [0.01, 0.0, 0.02],
            "mean": 0.01, "over_seeds": [-0.015, 0.035], "pooled": [0.005, 0.02]}, ...],
 "changes": [{"combination": "rounds=2", "from": "rounds=1", "eval": ..., "of": ..., "name": ..., "group": "",
              "mean": -0.3, "over_seeds": [-0.5, -0.1]}, ...]
}

`unit` is that of the numbers (`cai.evals.Number`). `values` has one number a seed, null where nothing was
measured. `over_seeds` is mean +- t s / sqrt(k) over k seeds (null for one seed): it holds what sampling and
training anew change. `pooled` is the Wilson interval of all seeds' rows together, for shares of rows that
were counted one by one (null for other numbers): it holds what a different draw of as many requests would
change, if the seeds had each a draw of their own. A change is the difference from the first combination of
the same group, seed by seed, so that what the seeds have in common falls out.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isclose, isnan
from pathlib import Path
from statistics import fmean
from typing import Any

from cai import manifest
from cai.evals import Number, Unit
from cai.evals._intervals import Interval, mean_interval, wilson
from cai.evals._numbers import from_json
from cai.sweep.axes import Group
from cai.sweep.plan import Plan, Run

SUMMARY = "sweep.json"

# The eval's step, whom a number is about, what was measured, in which category.
Key = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One number of one combination over the seeds; the shape is the module's."""

    combination: str
    eval: str
    of: str
    name: str
    group: str
    n: tuple[int, ...]
    values: tuple[float | None, ...]
    mean: float | None
    over_seeds: Interval | None
    pooled: Interval | None
    unit: Unit

    @property
    def share(self) -> bool:
        """Whether it reads in percent: it says so or, where it says nothing, it is a share of rows."""
        return self.unit == "share" if self.unit else self.pooled is not None


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a combination changes against the first of its group, over the seeds that have both."""

    combination: str
    against: str
    eval: str
    of: str
    name: str
    group: str
    mean: float
    over_seeds: Interval | None

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out no change at all."""
        return self.over_seeds is not None and not self.over_seeds[0] <= 0 <= self.over_seeds[1]


@dataclass(frozen=True, kw_only=True)
class Table:
    """All of it, and the names that head each eval's numbers."""

    lines: tuple[Line, ...]
    changes: tuple[Change, ...]
    headline: Mapping[str, tuple[str, ...]]


def tabulate(planned: Plan) -> Table:
    """The numbers of every complete eval of the runs."""
    headline: dict[str, tuple[str, ...]] = {}
    lines: dict[tuple[str, Key], Line] = {}
    for name in dict.fromkeys(one.name for group in planned.groups for one in group.combinations):
        runs = [planned.runs[name, seed] for seed in planned.seeds]
        for line in _lines(name, [_numbers(planned, run, headline) for run in runs]):
            lines[name, (line.eval, line.of, line.name, line.group)] = line
    changes = [
        change
        for group in planned.groups
        for change in _changes([one.name for one in group.combinations], lines)
    ]
    return Table(lines=tuple(lines.values()), changes=tuple(changes), headline=headline)


def headline_of(
    table: Table, group: Group, step: str
) -> tuple[dict[tuple[str, str, str], Line], dict[tuple[str, str, str], Change]]:
    """What heads the numbers of an eval's step, and its changes, by combination, subject and name."""
    order = [one.name for one in group.combinations]
    names = table.headline[step]
    lines = {
        (line.combination, line.of, line.name): line
        for name in order
        for line in table.lines
        if line.combination == name and line.eval == step and line.name in names and not line.group
    }
    changes = {
        (change.combination, change.of, change.name): change
        for change in table.changes
        if change.against == order[0] and change.eval == step and not change.group
    }
    return lines, changes


def write(planned: Plan, table: Table) -> Path:
    """Write sweep.json; returns its path."""
    path = planned.sweep.folder / SUMMARY
    sweep = planned.sweep
    whole = {
        "recipe": str(sweep.recipe),
        "seeds": list(planned.seeds),
        "axes": [asdict(axis) for axis in sweep.axes],
        "each": sweep.each,
        "limit": sweep.limit,
        "steps": {"made": len(planned.steps), "of": planned.wanted},
        "runs": [
            {"combination": name, "seed": seed, "folder": str(run.folder)}
            for (name, seed), run in planned.runs.items()
        ],
        "groups": [_group(group) for group in planned.groups],
        "headline": table.headline,
        "lines": [asdict(line) for line in table.lines],
        "changes": [_from(asdict(change)) for change in table.changes],
        "made_by": manifest.provenance(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


def _group(group: Group) -> dict[str, Any]:
    combinations = [{"name": one.name, "settings": dict(one.settings)} for one in group.combinations]
    return {"keys": list(group.keys), "combinations": combinations}


def _from(change: dict[str, Any]) -> dict[str, Any]:
    return {"combination": change.pop("combination"), "from": change.pop("against"), **change}


def _numbers(planned: Plan, run: Run, headline: dict[str, tuple[str, ...]]) -> dict[Key, Number]:
    """The numbers of one run's evals, a model by the last part of its path: the rest names its place."""
    found: dict[Key, Number] = {}
    for step in planned.evals(run):
        made = manifest.read(step.output)
        if made is None or "numbers" not in made:
            continue
        headline[step.name] = tuple(made["headline"])
        for number in map(from_json, made["numbers"]):
            found[step.name, Path(number.of).name or number.of, number.name, number.group] = number
    return found


def _lines(combination: str, seeds: Sequence[Mapping[Key, Number]]) -> Iterator[Line]:
    for key in dict.fromkeys(key for numbers in seeds for key in numbers):
        numbers = [one.get(key) for one in seeds]
        values = tuple(None if one is None or isnan(one.value) else one.value for one in numbers)
        known = [value for value in values if value is not None]
        step, of, name, group = key
        yield Line(
            combination=combination,
            eval=step,
            of=of,
            name=name,
            group=group,
            n=tuple(0 if one is None else one.n for one in numbers),
            values=values,
            mean=fmean(known) if known else None,
            over_seeds=_over_seeds(known),
            pooled=_pooled([one for one in numbers if one is not None]),
            unit=next(one.unit for one in numbers if one is not None),
        )


def _over_seeds(values: Sequence[float]) -> Interval | None:
    return mean_interval(values) if len(values) > 1 else None


def _pooled(numbers: Sequence[Number]) -> Interval | None:
    """The Wilson interval of all rows, if each number is a share whose own interval is that of its rows."""
    hits = [one.value * one.n for one in numbers if one.n]
    rows = sum(one.n for one in numbers)
    if not rows or not all(_counted(one) for one in numbers if one.n):
        return None
    return wilson(round(sum(hits)), rows)


def _counted(number: Number) -> bool:
    low, high = wilson(round(number.value * number.n), number.n)
    return isclose(low, number.low, abs_tol=1e-9) and isclose(high, number.high, abs_tol=1e-9)


def _changes(names: Sequence[str], lines: Mapping[tuple[str, Key], Line]) -> Iterator[Change]:
    first, *others = names
    for name in others:
        for (combination, key), line in lines.items():
            base = lines.get((first, key))
            if combination != name or base is None:
                continue
            pairs: Iterable[tuple[float | None, float | None]] = zip(line.values, base.values, strict=True)
            steps = [new - old for new, old in pairs if new is not None and old is not None]
            if steps:
                yield Change(
                    combination=name,
                    against=first,
                    eval=line.eval,
                    of=line.of,
                    name=line.name,
                    group=line.group,
                    mean=fmean(steps),
                    over_seeds=_over_seeds(steps),
                )
