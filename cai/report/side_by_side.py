"""Several runs against each other: the same evals of each, and what they were made with differently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai import manifest
from cai.errors import CaiError
from cai.report.summary import Summary, Table, outputs_of, summarise
from cai.runs import Listing


@dataclass(frozen=True, kw_only=True)
class Shared:
    """One eval in every run that has it, by the run's name."""

    name: str
    headline: tuple[str, ...]
    tables: Mapping[str, Table]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A step that the `run` has otherwise than the first run has it."""

    run: str
    step: str
    what: str


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """The first run is the one that the others are held against."""

    summaries: Mapping[str, Summary]
    shared: tuple[Shared, ...]
    differences: tuple[Difference, ...]


def side_by_side(runs: Sequence[Path]) -> SideBySide:
    """Two runs or more. Raises `CaiError` when one is given twice, or is none."""
    names = run_names(runs)
    summaries = {name: summarise(run) for name, run in zip(names, runs, strict=True)}
    tables: dict[tuple[str, tuple[str, ...]], dict[str, Table]] = {}
    for name, summary in summaries.items():
        for table in summary.tables:
            tables.setdefault((table.name, table.headline), {})[name] = table
    shared = (Shared(name=key[0], headline=key[1], tables=held) for key, held in tables.items())
    first, *others = (outputs_of(run) for run in runs)
    found = [
        Difference(run=name, step=step, what=what)
        for name, other in zip(names[1:], others, strict=True)
        for step, what in differences(first, other)
    ]
    return SideBySide(summaries=summaries, shared=tuple(shared), differences=tuple(found))


def run_names(runs: Sequence[Path]) -> list[str]:
    """What each run is called beside the others: its folder's name, or its path where two have one name."""
    places = [run.resolve() for run in runs]
    for at, place in enumerate(places):
        if place in places[:at]:
            raise CaiError(f"'{runs[at]}' is given twice", next="give each run once")
    short = [place.name for place in places]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def differences(one: Sequence[Listing], other: Sequence[Listing]) -> list[tuple[str, str]]:
    """(step, what differs) for every step that only one has, or that the two made otherwise.

    That a step reads what another step made otherwise is left out: that other step says it.
    """
    mine, theirs = ({listing.name: listing for listing in run} for run in (one, other))
    found = []
    for name in dict.fromkeys((*mine, *theirs)):
        if name not in theirs or name not in mine:
            found.append((name, "only in the first run" if name in mine else "not in the first run"))
            continue
        before, after = _own(mine[name], one), _own(theirs[name], other)
        if before != after:
            found.append((name, manifest.difference(before, after)))
    return found


def _own(listing: Listing, run: Sequence[Listing]) -> dict[str, Any]:
    """The identity of a step, without what it has from other steps of its run: rows, weights of models."""
    made = {manifest.fingerprint(manifest.whole(other.manifest["identity"])) for other in run}
    trained = {other.name for other in run if "objective" in other.manifest["identity"]}
    identity = dict(listing.manifest["identity"])
    identity["inputs"] = [mark for mark in identity.get("inputs", ()) if mark not in made]
    for key in ("engine", "model"):
        engine = identity.get(key)
        if isinstance(engine, Mapping) and (name := Path(str(engine.get("model"))).name) in trained:
            identity[key] = {**engine, "model": name, "weights": None}
    return identity
