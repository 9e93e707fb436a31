"""The page of one run, and of several side by side: which sections it has, and the file itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cai import __version__, manifest
from cai.errors import CaiError
from cai.report.page import html, sections
from cai.report.page.rows import Chosen, choose
from cai.report.page.sections import Section
from cai.report.page.shown import Row
from cai.report.side_by_side import run_names, side_by_side
from cai.report.summary import Prices, outputs_of, summarise
from cai.whole_file import WholeFile


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that was written, how many rows it holds, and of how many."""

    path: Path
    rows: int
    of: int


def write_page(runs: Sequence[Path], output: Path, *, rows: int, prices: Prices | None = None) -> Page:
    """Write the page of a run, or of several side by side, with about `rows` rows of each at most.

    Raises `CaiError` for what is no run, and when the file cannot be written.
    """
    listings = [outputs_of(run) for run in runs]
    if len(runs) == 1:
        parts = sections.of_run(summarise(runs[0]), listings[0], prices)
    else:
        parts = sections.of_runs(side_by_side(runs), prices)
    chosen = [choose(found, rows) for found in listings]
    if len(runs) == 1:
        parts = sections.with_rows(parts, chosen[0].rows)
    shown = list(_named(runs, chosen))
    title = " and ".join(str(run) for run in runs)
    write_sections(output, title, parts, rows=shown, about_rows=_about_rows(chosen))
    return Page(path=output, rows=len(shown), of=sum(one.of for one in chosen))


def write_sections(
    output: Path, title: str, parts: Sequence[Section], *, rows: Sequence[Row] = (), about_rows: str = ""
) -> None:
    """Write a page of these sections and rows. Raises `CaiError` when the file cannot be written."""
    facts = {
        "title": title,
        "made": f"cai {__version__}, {manifest.now()[:16].replace('T', ' ')} UTC",
        "sections": [_plain(part) for part in parts],
        "rows": {"count": len(rows), "about": about_rows},
    }
    _write(output, html.page(f"cai: {title}", facts, rows))


def _named(runs: Sequence[Path], chosen: Sequence[Chosen]) -> Iterator[Row]:
    """The rows of all runs; of several, their steps are told apart by the run's name."""
    if len(runs) == 1:
        yield from chosen[0].rows
        return
    for name, one in zip(run_names(runs), chosen, strict=True):
        for row in one.rows:
            yield {**row, "step": f"{name}: {row['step']}"}


def _about_rows(chosen: Sequence[Chosen]) -> str:
    total, shown = sum(one.of for one in chosen), sum(len(one.rows) for one in chosen)
    if all(one.share >= 1 for one in chosen):
        return f"All {shown:,} rows."
    return (
        f"{shown:,} of {total:,} rows: those of prompts drawn by digest, so that what belongs to one prompt "
        "is here together. The tables count all rows. cai report --rows N shows more."
    )


def _plain(section: Section) -> Mapping[str, Any]:
    blocks = [{type(block).__name__.lower(): asdict(block)} for block in section.blocks]
    return {"id": section.id, "title": section.title, "blocks": blocks}


def _write(output: Path, pieces: Iterator[str]) -> None:
    try:
        with WholeFile(output) as file:
            for piece in pieces:
                file.add([piece.encode()])
            file.place()
    except OSError as error:
        next_step = "give another place with --output, or --no-page"
        raise CaiError(
            f"the page cannot be written ({error.strerror})", where=str(output), next=next_step
        ) from error
