"""Where a run came from: its recipe, the principles it was made under, and what decides each step."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cai import shipped
from cai.config import read_toml
from cai.constitution import Principle, constitutions_in, load
from cai.errors import CaiError
from cai.report.page.shapes import Cell, Grid, Text, cells
from cai.runs import Listing

UNKNOWN = "its wording is not at hand: the file it stood in has changed or is elsewhere"


def recipe(run: Path) -> Text | None:
    """The recipe in a run's folder; None where there is none."""
    path = run / "recipe.toml"
    if not path.is_file():
        return None
    return Text(title=f"Recipe: {path}", text=path.read_text(encoding="utf-8", errors="replace"))


def settings(listing: Listing) -> Text:
    """Everything that decides what an output holds, as its manifest has it."""
    when = " to ".join(
        filter(None, (str(listing.manifest.get(key) or "") for key in ("started", "finished")))
    )
    text = json.dumps(listing.manifest["identity"], ensure_ascii=False, indent=2)
    return Text(title=f"Settings of {listing.name}", text=text, about=when)


def constitution(run: Path, listings: Sequence[Listing]) -> Grid | None:
    """The principles that a run was made under, in words; None where it was made under none.

    A manifest keeps a digest of each principle. Its words are looked up in the recipe's constitution and
    in the shipped ones, and shown only where they have that digest.
    """
    wanted: dict[str, tuple[str, float]] = {}
    for listing in listings:
        for found in constitutions_in(listing.manifest["identity"]):
            for id, mark in found["principles"].items():
                wanted[mark] = (id, found.get("weights", {}).get(id, 1.0))
    if not wanted:
        return None
    known = _wordings(run)
    rows = tuple(_principle(id, weight, known.get(mark)) for mark, (id, weight) in wanted.items())
    return Grid(
        title="Constitution",
        columns=("principle", "weight", "critique", "revision", "preference"),
        rows=rows,
        words=5,
    )


def _principle(id: str, weight: float, words: Principle | None) -> tuple[Cell, ...]:
    if words is None:
        return cells(id, f"{weight:g}", UNKNOWN, "", "")
    return cells(id, f"{weight:g}", words.critique, words.revision, words.preference)


def _wordings(run: Path) -> dict[str, Principle]:
    """Principles by digest, of the recipe's constitutions and of the shipped ones."""
    found: dict[str, Principle] = {}
    paths = sorted(shipped.root("constitutions").glob("*.toml"))
    for path in [*paths, *_named(run)]:
        try:
            principles = load(path).principles
        except CaiError:
            # A file that is broken now was not when the run was made; what it held is not at hand.
            continue
        found |= {one.fingerprint: one for one in principles}
    return found


def _named(run: Path) -> Iterator[Path]:
    """The constitutions that the recipe of a run names."""
    path = run / "recipe.toml"
    if not path.is_file():
        return
    try:
        top = read_toml(path)
    except CaiError:
        return
    tables = [top, *(one for one in top.get("steps", []) if isinstance(one, Mapping))]
    for name in dict.fromkeys(str(one["constitution"]) for one in tables if "constitution" in one):
        for place in (Path(name), run / name):
            if place.is_file():
                yield place
