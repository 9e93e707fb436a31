"""`cai calibration`: fit the map that the stage `calibrate` puts a judge's probabilities through."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.commands import options
from cai.errors import CaiError, RowError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cai.calibration import Method
    from cai.records import Comparison


@click.command(short_help="Fit how sure a judge should be, where the truth is known.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--gold", required=True, metavar="SOURCE", help="meta:KEY, annotator:NAME or file.py:function.")
@click.option("--method", type=click.Choice(["temperature", "isotonic"]), required=True, help="The map.")
@click.option("--annotator", metavar="NAME", help="The judge, where there are several.")
@click.option("-o", "--output", required=True, metavar="FILE", help="The .json file to write.")
@options.with_options([options.PART])
def calibration(
    files: tuple[str, ...],
    gold: str,
    method: "Method",
    annotator: str | None,
    output: str,
    part: tuple[float, float] | None,
) -> None:
    """Fit a map to the comparisons in FILEs, of a development split.

    Then cai calibrate FILE --calibration OUTPUT puts other comparisons through it, and
    cai eval FILE --eval judge shows what that was good for.

    \b
    cai calibration dev.jsonl --gold meta:better --method temperature -o calibration.json
    cai calibrate runs/x/comparisons.jsonl --calibration calibration.json -o runs/x/calibrated.jsonl
    """
    import json
    from dataclasses import asdict

    from cai.calibrating import errors, fit, sample
    from cai.draft import part_of
    from cai.gold import Gold
    from cai.report.terminal import print_numbers_of
    from cai.rows import items_for
    from cai.stages.calibrate import Calibrate
    from cai.steps import input_file

    path = _fresh(output)
    with options.usage("--gold"):
        truth = Gold.from_toml(gold, "--gold")
    with options.usage("--part"):
        taken = part_of(part, "--part")
    inputs = [input_file(file, "cai calibration") for file in files]
    at = ""

    def comparisons() -> "Iterator[Comparison]":
        nonlocal at
        for item in items_for(Calibrate, inputs, part=taken, strict=True):
            at = item.where
            yield item.value

    try:
        known = sample(comparisons(), truth, annotator)
    except CaiError as error:
        where = at if isinstance(error, RowError) else error.where or ", ".join(files)
        raise CaiError(error.what, where=where, next=error.next) from error
    made = fit(known, method, gold)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
    print_numbers_of(f"{path}: {method}, on what it was fitted to", errors(known, made))


def _fresh(output: str) -> Path:
    path = Path(output)
    if path.suffix != ".json":
        raise UsageError(f"'{output}' does not end with .json", where="--output", next="give a .json file")
    if path.exists():
        raise UsageError("there is a file here already", where=output, next="choose another name")
    return path
