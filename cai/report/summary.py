"""What a run's files say of it, gathered from their manifests. No model is needed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai import trained
from cai.counts import count
from cai.errors import CaiError
from cai.evals import Number
from cai.evals._numbers import from_json
from cai.recipe import output_names
from cai.runs import Listing, runs_in, unfinished
from cai.shards import name_of

ABSENT = "not begun"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What was asked of a model: `cached` ones are some of the `prompt`."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            generated=self.generated + other.generated,
        )


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a million tokens cost, in whatever money."""

    prompt: float
    cached: float
    generated: float

    def of(self, tokens: Tokens) -> float:
        """The cost of so many; cached prompt tokens are not paid as others a second time."""
        fresh = tokens.prompt - tokens.cached
        paid = fresh * self.prompt + tokens.cached * self.cached + tokens.generated * self.generated
        return paid / 1e6


@dataclass(frozen=True, kw_only=True)
class Line:
    """One output of a run: what it is, how far it is, what was asked of a model for it, how long it took."""

    name: str
    kind: str
    state: str
    rows: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    tokens: Tokens = Tokens()
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The numbers of one eval, and the names of those that head it."""

    name: str
    headline: tuple[str, ...]
    numbers: tuple[Number, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the headline, what anybody was measured by: without a truth, say, no judge is right or wrong."""
        measured = {number.name for number in self.numbers if not number.group}
        return tuple(name for name in self.headline if name in measured)


@dataclass(frozen=True, kw_only=True)
class Summary:
    run: Path
    lines: tuple[Line, ...]
    tables: tuple[Table, ...]


def summarise(run: Path) -> Summary:
    """The summary of a run's folder. Raises `CaiError` when there is nothing of a run in it.

    A recipe's steps stand in its order, all else in the order of making. Shards that were merged are left
    out: what they took is in the sums of the whole.
    """
    found = _outputs(run)
    complete = [listing for listing in found.values() if listing is not None and listing.state == "complete"]
    return Summary(
        run=run,
        lines=_lines(run, found),
        tables=tuple(_table(listing) for listing in complete if "numbers" in listing.manifest),
    )


def lines_of(run: Path) -> tuple[Line, ...]:
    """The lines of the summary alone: no file of rows is read for them."""
    return _lines(run, _outputs(run))


def outputs_of(run: Path) -> list[Listing]:
    """The outputs that the summary is of; `CaiError` when there is nothing of a run in the folder."""
    return [listing for listing in _outputs(run).values() if listing is not None]


def _lines(run: Path, found: Mapping[str, Listing | None]) -> tuple[Line, ...]:
    return tuple(_line(name, listing, run) for name, listing in found.items())


def _outputs(run: Path) -> dict[str, Listing | None]:
    """What a run's folder holds by name; None for a step that has made nothing yet."""
    if not run.is_dir():
        raise CaiError(f"there is no run '{run}'", next="cai runs lists them")
    found = {listing.name: listing for listing in runs_in(run)}
    for name in [name for name in found if _is_merged(name, found)]:
        del found[name]
    recipe = run / "recipe.toml"
    order = output_names(recipe) if recipe.is_file() else []
    training = [path.stem for path in sorted(run.glob("*.training"))]
    if not (found or order or training):
        raise CaiError(f"there is nothing of a run in '{run}'", next="cai runs lists the runs")
    return {name: found.get(name) for name in dict.fromkeys([*order, *found, *training])}


def _is_merged(name: str, found: Mapping[str, Listing]) -> bool:
    """Whether this is a shard of what is there as a whole, made of shards."""
    whole = found.get(name_of(Path(f"{name}.jsonl")))
    return "shard" in found[name].manifest["identity"] and whole is not None and "shards" in whole.manifest


def _line(name: str, listing: Listing | None, run: Path) -> Line:
    if listing is None:
        note = trained.under_way(run / name)
        state = ABSENT if note is None else unfinished(run / name)
        return Line(name=name, kind="", state=state, note=note or "")
    identity = listing.manifest["identity"]
    if "objective" in identity:
        return _trained(listing)
    counts = listing.manifest["counts"]
    return Line(
        name=name,
        kind=identity.get("stage", identity.get("eval", {})).get("kind", ""),
        state=listing.state,
        rows=counts["rows"],
        rejects=counts["rejects"],
        tokens=Tokens(**listing.manifest["tokens"]),
        seconds=listing.manifest["seconds"],
    )


def _trained(listing: Listing) -> Line:
    came = trained.summary(listing.path)
    losses = f"loss {came['first_loss']:.4f} -> {came['last_loss']:.4f}"
    return Line(
        name=listing.name,
        kind=listing.manifest["identity"]["objective"]["kind"],
        state=listing.state,
        rows=came["rows"],
        rejects=trained.left_out(listing.path),
        seconds=came["seconds"],
        note=f"{count(came['steps'], 'step')}, {came['tokens']:,} tokens, {losses}",
    )


def _table(listing: Listing) -> Table:
    return table_of(listing.name, listing.manifest)


def table_of(name: str, manifest: Mapping[str, Any]) -> Table:
    """The table of an eval's manifest."""
    numbers = tuple(map(from_json, manifest["numbers"]))
    return Table(name=name, headline=tuple(manifest["headline"]), numbers=numbers)
