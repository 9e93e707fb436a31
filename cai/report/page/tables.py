"""The page's tables: what every model came to, and what became of the rows on the way."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cai.evals import Number
from cai.report import figures
from cai.report.page.shapes import Cell, Grid, cells
from cai.report.summary import ABSENT, Line, Prices, Table, Tokens
from cai.report.terminal import short
from cai.runs import Listing

INTERVALS = "Estimates with 95 % intervals; n is how many rows were counted."


def headline(table: Table) -> Grid:
    """Whom a number is about down, what was measured across: all that the eval puts first, together."""
    found = {(number.of, number.name): number for number in table.numbers if not number.group}
    subjects = dict.fromkeys(of for of, name in found if name in table.headline)
    rows = tuple(
        (Cell(text=short(of)), *(measured(found.get((of, name))) for name in table.columns))
        for of in subjects
    )
    return Grid(title=table.name, columns=("", *table.columns), rows=rows)


def measured(number: Number | None) -> Cell:
    """A number with its interval and count; empty for one that is not there."""
    if number is None:
        return Cell(text="")
    share = number.value if number.n and figures.is_share(number) else None
    small = f"{figures.interval(number)}  n = {number.n:,}" if number.n else "n = 0"
    return Cell(text=figures.value(number), small=small, share=share)


def more(table: Table) -> Grid | None:
    """Every number of an eval that its headline does not hold, groups included; None where there is none."""
    others = [one for one in table.numbers if one.group or one.name not in table.headline]
    if not others:
        return None
    rows = tuple((*cells(short(one.of), one.name, one.group), measured(one)) for one in others)
    return Grid(
        title=f"{table.name}: every number",
        columns=("of", "measure", "group", "value"),
        rows=rows,
        words=3,
        folded=True,
    )


def funnel(listings: Sequence[Listing], lines: Sequence[Line]) -> Grid:
    """Step by step: what went in, what came out, and every reason for which something did not."""
    found = {listing.name: listing for listing in listings}
    widest = max((line.rows for line in lines), default=0) or 1
    rows = [(*_step(line, found.get(line.name), widest), _rejected(line)) for line in lines]
    return Grid(
        title="What came of the rows, step by step",
        columns=("step", "what", "in", "out", "rejected, and why"),
        words=2,
        rows=tuple(rows),
        about="A prompt may give several rows (samples, pairs). Nothing is dropped without a reason.",
    )


def _step(line: Line, listing: Listing | None, widest: int) -> tuple[Cell, ...]:
    """What the step is, what went in, what came out: of a training, what it learned from and what it took."""
    name = (Cell(text=line.name, small="" if line.state == "complete" else line.state), Cell(text=line.kind))
    if listing is None:
        return (*name, *cells("", ""))
    if "counts" not in listing.manifest:
        return (*name, Cell(text=f"{line.rows:,}"), Cell(text="", small=line.note))
    rows = Cell(text=f"{line.rows:,}", share=line.rows / widest)
    return (*name, Cell(text=f"{listing.manifest['counts']['items']:,}"), rows)


def _rejected(line: Line) -> Cell:
    total = sum(line.rejects.values())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in line.rejects.items())
    return Cell(text=f"{total:,}" if total else "", small=reasons)


def costs(lines: Sequence[Line], prices: Prices | None) -> Grid:
    """Seconds and tokens of every step and of all, and their price where prices are given."""
    rows = [_cost(line.name, line.seconds, line.tokens, prices) for line in lines if line.state != ABSENT]
    everything = sum((line.tokens for line in lines), Tokens())
    rows.append(_cost("all", sum(line.seconds for line in lines), everything, prices))
    paid = ("price",) if prices else ()
    return Grid(
        title="Time and tokens",
        columns=("step", "seconds", "prompt tokens", "of these cached", "generated", "a second", *paid),
        rows=tuple(rows),
        about="Steps that streamed into each other share their time by the tokens that each asked for.",
    )


def _cost(name: str, seconds: float, tokens: Tokens, prices: Prices | None) -> tuple[Cell, ...]:
    counts = [f"{count:,}" if count else "" for count in (tokens.prompt, tokens.cached, tokens.generated)]
    rate = f"{tokens.generated / seconds:,.0f}" if seconds and tokens.generated else ""
    paid = [figures.price(prices.of(tokens))] if prices else []
    return cells(name, f"{seconds:,.1f}", *counts, rate, *paid)


def versions(listings: Sequence[Listing]) -> Grid:
    """Which code made what: one row for each set of versions, with the outputs it made."""
    made: dict[tuple[str, ...], list[str]] = {}
    for listing in listings:
        for code in listing.manifest.get("made_by", []):
            made.setdefault(tuple(_code(code)), []).append(listing.name)
    rows = tuple((*cells(*code), Cell(text=", ".join(names))) for code, names in made.items())
    columns = ("cai", "commit", "python", "libraries", "made")
    return Grid(title="Versions", columns=columns, rows=rows, words=len(columns))


def _code(code: Mapping[str, object]) -> Iterator[str]:
    commit = str(code.get("commit") or "no repository")[:12]
    libraries = code.get("libraries")
    named = libraries.items() if isinstance(libraries, Mapping) else ()
    yield str(code.get("cai", ""))
    yield f"{commit} with changes" if code.get("dirty") else commit
    yield str(code.get("python", ""))
    yield ", ".join(f"{name} {version}" for name, version in named)


def files(run: Path, listings: Sequence[Listing]) -> Grid:
    """The files of a run with their sizes and digests, as their manifests have them."""
    rows = []
    for listing in listings:
        for name, described in listing.manifest.get("files", {}).items():
            rows.append(cells(name, described["digest"], f"{described['bytes']:,}"))
    columns = ("file", "digest", "bytes")
    return Grid(title=f"Files in {run}", columns=columns, rows=tuple(rows), words=2, folded=True)
