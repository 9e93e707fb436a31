"""`cai report`, `cai export`: what a run made."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.errors import UsageError

if TYPE_CHECKING:
    from cai.report.summary import Prices

PRICE = click.FloatRange(min=0)
# Of ordinary length they make a page of some ten megabytes.
ROWS = 20_000


@click.command(short_help="What a run made, on the terminal and as one HTML page; or several runs compared.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--groups", is_flag=True, help="Break the numbers down by group.")
@click.option("-o", "--output", metavar="FILE", help="The page to write.  [default: report.html in the run]")
@click.option("--no-page", is_flag=True, help="Write no page.")
@click.option(
    "--rows", type=click.IntRange(min=1), metavar="N", help="The most rows in the page.  [default: 20000]"
)
@click.option("--price-prompt", type=PRICE, metavar="P", help="Price of a million prompt tokens.")
@click.option(
    "--price-cached", type=PRICE, metavar="P", help="Of a million cached ones.  [default: as others]"
)
@click.option("--price-generated", type=PRICE, metavar="P", help="Price of a million generated tokens.")
def report(
    runs: tuple[str, ...],
    groups: bool,
    output: str | None,
    no_page: bool,
    rows: int | None,
    price_prompt: float | None,
    price_cached: float | None,
    price_generated: float | None,
) -> None:
    """Sum up the run in the folder RUN: rows, rejects, tokens, seconds, numbers; with prices, what it cost.

    Several runs are set side by side: their numbers, and what they were made with differently. The page has
    all of that with charts and every row, and needs no network; it is report.html in the run, or
    comparison.html in the first of several. The seconds of steps that streamed into each other are their
    share of the time by tokens, so they add up.
    """
    from cai.report.terminal import print_comparison, print_page, print_report

    paths = [Path(run) for run in runs]
    prices = _prices(price_prompt, price_cached, price_generated)
    _check(len(paths), groups, output, no_page, rows)
    if len(paths) == 1:
        print_report(paths[0], groups=groups, prices=prices)
    else:
        print_comparison(paths)
    if not no_page:
        from cai.report.page import write_page

        name = "report.html" if len(paths) == 1 else "comparison.html"
        place = paths[0] / name if output is None else Path(output)
        print_page(write_page(paths, place, rows=rows or ROWS, prices=prices))


def _prices(prompt: float | None, cached: float | None, generated: float | None) -> "Prices | None":
    """Both prices or none: one without the other would price a part and call it the whole."""
    from cai.report.summary import Prices

    if prompt is not None and generated is not None:
        return Prices(prompt=prompt, cached=prompt if cached is None else cached, generated=generated)
    if (prompt, cached, generated) == (None, None, None):
        return None
    missing = "prompt" if prompt is None else "generated"
    raise UsageError(f"'--price-{missing}' is missing", next="give a price for prompt and generated tokens")


def _check(runs: int, groups: bool, output: str | None, no_page: bool, rows: int | None) -> None:
    """`UsageError` for an option that would have no effect."""
    for name, given in (("--output", output), ("--rows", rows)):
        if no_page and given is not None:
            raise UsageError(f"'{name}' has no use with --no-page", next="take one of them out")
    if groups and runs > 1:
        raise UsageError("'--groups' is for one run", next="the page has every number of each")


@click.command(short_help="Rows in the shape that other libraries train on.")
@click.argument("file", metavar="FILE")
@click.option("--format", "shape", required=True, type=click.Choice(["trl", "sft"]), help="What to write.")
@click.option("-o", "--output", required=True, metavar="FILE", help="The .jsonl file to write.")
def export(file: str, shape: str, output: str) -> None:
    """Write the rows of FILE for other libraries.

    trl makes preference rows of comparisons (prompt, chosen, rejected, probability), sft makes conversations
    of records (messages).
    """
    from cai.commands.options import jsonl
    from cai.counts import count, reasons
    from cai.export import FORMATS, write
    from cai.rows import read_rows
    from cai.steps import input_file

    kind, shaped = FORMATS[shape]
    source, path = input_file(file, "cai export"), jsonl(output, "--output")
    if path.exists():
        raise UsageError("there is a file here already", where=str(path), next="choose another name")
    rows, left_out = write(shaped(read_rows(source, kind)), path)
    rest = f", {sum(left_out.values()):,} left out ({reasons(left_out)})" if left_out else ""
    click.echo(f"{path}: {count(rows, 'row')}{rest}")
