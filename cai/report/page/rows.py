"""The rows that a page shows: each once, as far as it came, with what was said of it.

A record that grew from file to file (response, critique, revision) is shown as the last file has it, or as it
was when a stage rejected it; so is a comparison that was annotated again. Verdicts of evals stand with the
row that they are about.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai import manifest
from cai.report.page import shown
from cai.report.page.shown import Row
from cai.runs import Listing
from cai.training.files import SAMPLES

# A fingerprint and a shard.
Mark = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The rows of a page; `of` is how many the run has, and `share` which part of its prompts they are of."""

    rows: tuple[Row, ...]
    of: int
    share: float


@dataclass(kw_only=True, eq=False)
class _File:
    """An output of rows, the files it was made from, and those that hold the same rows grown further.

    `mark` is what stands for it in the inputs of another; `taken` are the ids that later files took up,
    `kept` the rows that are shown as this file's, by id.
    """

    name: str
    path: Path
    kind: str
    counts: Mapping[str, Any]
    inputs: list["_File"]
    mark: Mark
    grown: list["_File"] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    kept: dict[str, Row] = field(default_factory=dict)


def choose(listings: Sequence[Listing], most: int) -> Chosen:
    """About `most` rows at most: all, or those of prompts drawn by digest, so that what belongs to one
    prompt stays together."""
    files = _files(listings)
    total = sum(_own(file) for file in files)
    share = min(1.0, most / total) if total else 1.0
    found: dict[str, list[Row]] = {}
    # What is made from a file comes after it: from the end on, each file knows what was taken up.
    for file in reversed(files):
        if file.kind != "verdict":
            found[file.name] = _read(file, share)
    for file in files:
        if file.kind == "verdict":
            found[file.name] = _attach(file, share)
    rows = tuple(row for file in files for row in found[file.name])
    return Chosen(rows=rows, of=len(rows) if share == 1 else total, share=share)


def _files(listings: Sequence[Listing]) -> list[_File]:
    """The complete outputs of rows in the order of making, linked by what stands for them in inputs."""
    made: dict[Mark, _File] = {}
    for listing in listings:
        if listing.state != "complete":
            continue
        file = _output(listing, made) if listing.path.suffix == ".jsonl" else _samples(listing)
        if file is None:
            continue
        for source in file.inputs:
            if source.kind == file.kind:
                source.grown.append(file)
        made[file.mark] = file
    return list(made.values())


def _output(listing: Listing, made: Mapping[Mark, _File]) -> _File | None:
    """What a stage or an eval wrote; None where its rows were taken away."""
    if not listing.path.is_file():
        return None
    identity = listing.manifest["identity"]
    shard = str(identity.get("shard", ""))
    return _File(
        name=listing.name,
        path=listing.path,
        kind="verdict" if "eval" in identity else _kind(listing.path),
        counts=listing.manifest["counts"],
        inputs=[made[mark, shard] for mark in identity.get("inputs", ()) if (mark, shard) in made],
        mark=(manifest.fingerprint(manifest.whole(identity)), shard),
    )


def _samples(listing: Listing) -> _File | None:
    """The answers that a policy gave on its way, if its training kept some."""
    path = listing.path / SAMPLES
    if not path.is_file():
        return None
    with path.open("rb") as file:
        counts = {"rows": sum(1 for _ in file), "items": 0, "rejects": {}}
    name = f"{listing.name} samples"
    return _File(
        name=name,
        path=path,
        kind="record",
        counts=counts,
        inputs=[],
        mark=(manifest.fingerprint_of(path), ""),
    )


def _kind(path: Path) -> str:
    """ "record" or "comparison", by the first row; of a file without rows, "record"."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    return "comparison" if first and "candidates" in json.loads(first) else "record"


def _own(file: _File) -> int:
    """How many rows are shown as this file's own."""
    rows = int(file.counts["rows"])
    if file.kind == "verdict":
        return 0 if file.inputs else rows
    grown = max((int(other.counts["items"]) for other in file.grown), default=0)
    return max(0, rows - grown) + int(sum(file.counts["rejects"].values()))


def _read(file: _File, share: float) -> list[Row]:
    """The chosen rows of a file that no later one took up, then its rejects with what they rejected."""
    render = shown.record if file.kind == "record" else shown.comparison
    grew = [source for source in file.inputs if source.kind == file.kind]
    for row in _lines(file.path, share):
        for source in grew:
            source.taken.add(row["id"])
        if row["id"] not in file.taken:
            file.kept[row["id"]] = render(row, file.name)
    rows = list(file.kept.values())
    rejects = [shown.reject(row, file.name) for row in _lines(manifest.rejects_of(file.path), share)]
    wanted: dict[str, list[Row]] = {}
    for reject in rejects:
        wanted.setdefault(reject["item"], []).append(reject)
    for source in file.inputs if wanted else ():
        for row in _lines(source.path, share):
            if row["id"] not in wanted:
                continue
            for reject in wanted[row["id"]]:
                shown.lend(reject, (shown.record if source.kind == "record" else shown.comparison)(row, ""))
            if source.kind == file.kind:
                source.taken.add(row["id"])
                file.kept[row["id"]] = wanted[row["id"]][0]
    return rows + rejects


def _lines(path: Path, share: float) -> Iterator[Row]:
    """The rows of a file that belong to chosen prompts."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if share >= 1 or _place(row) < share:
                yield row


def _place(row: Row) -> float:
    """Where a row's prompt stands in [0, 1): its id is a digest. What has no prompt goes by its own id."""
    mark = str(row.get("prompt_id") or row.get("prompt") or row.get("id") or shown.about(row))
    try:
        return int(mark[:13], 16) / 16**13
    except ValueError:
        return 0.0


def _attach(file: _File, share: float) -> list[Row]:
    """Put verdicts to the rows that they are about; rows of their own are those of an eval whose inputs are
    not in the run."""
    targets: dict[str, list[Row]] = {}
    for source in file.inputs:
        for held in (source, *_later(source)):
            for id, row in held.kept.items():
                targets.setdefault(id, []).append(row)
    alone = []
    for verdict in _lines(file.path, 1.0 if file.inputs else share):
        if not file.inputs:
            alone.append(shown.verdict(verdict, file.name))
        elif target := shown.whose(verdict, targets.get(shown.about(verdict), ())):
            shown.add_verdict(target, verdict, file.name)
        elif _place(verdict) < share:
            # It is of a row that was grown or rejected elsewhere, or of several.
            alone.append(shown.verdict(verdict, file.name))
    return alone


def _later(file: _File) -> Iterator[_File]:
    for grown in file.grown:
        yield grown
        yield from _later(grown)
