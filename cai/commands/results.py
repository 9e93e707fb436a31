"""`cai report`, `cai show`, `cai runs`, `cai export`: what a run made."""

from pathlib import Path

import click

from cai.errors import UsageError

PRICE = click.FloatRange(min=0)


@click.command(short_help="What a run made: counts, rejects, cost, numbers, where to look next.")
@click.argument("run", metavar="RUN")
@click.option("--groups", is_flag=True, help="Break the numbers down by group.")
@click.option("--price-prompt", type=PRICE, metavar="P", help="Price of a million prompt tokens.")
@click.option(
    "--price-cached", type=PRICE, metavar="P", help="Of a million cached ones.  [default: as others]"
)
@click.option("--price-generated", type=PRICE, metavar="P", help="Price of a million generated tokens.")
def report(
    run: str,
    groups: bool,
    price_prompt: float | None,
    price_cached: float | None,
    price_generated: float | None,
) -> None:
    """Sum up the run in the folder RUN: rows, rejects, tokens, seconds, numbers; with prices, what it cost.

    The seconds of steps that streamed into each other are their share of the time by tokens, so they add up.
    """
    from cai.report.summary import Prices
    from cai.report.terminal import print_report

    prices = None
    if price_prompt is not None and price_generated is not None:
        cached = price_prompt if price_cached is None else price_cached
        prices = Prices(prompt=price_prompt, cached=cached, generated=price_generated)
    elif (price_prompt, price_cached, price_generated) != (None, None, None):
        missing = "prompt" if price_prompt is None else "generated"
        raise UsageError(
            f"'--price-{missing}' is missing", next="give a price for prompt and generated tokens"
        )
    print_report(Path(run), groups=groups, prices=prices)


@click.command(short_help="One row of a run, with all that was made for it.")
@click.argument("run", metavar="RUN")
@click.argument("id", metavar="ID")
def show(run: str, id: str) -> None:
    """Show every row of RUN (a folder or a .jsonl file) with an id, or a prompt's id, that begins with ID."""
    from cai.show import print_rows

    print_rows(Path(run), id)


@click.command(short_help="The runs in a folder, and how far they are.")
@click.argument("folder", metavar="[FOLDER]", default="runs")
def runs(folder: str) -> None:
    """List the runs in FOLDER (default: runs)."""
    from cai.report.terminal import print_runs

    print_runs(Path(folder))


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
    from cai.export import FORMATS, write
    from cai.progress import count, reasons
    from cai.rows import read_rows
    from cai.steps import input_file

    kind, shaped = FORMATS[shape]
    source, path = input_file(file, "cai export"), jsonl(output, "--output")
    if path.exists():
        raise UsageError("there is a file here already", where=str(path), next="choose another name")
    rows, left_out = write(shaped(read_rows(source, kind)), path)
    rest = f", {sum(left_out.values()):,} left out ({reasons(left_out)})" if left_out else ""
    click.echo(f"{path}: {count(rows, 'row')}{rest}")
