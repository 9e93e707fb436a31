"""How the judges of a run judged, as far as that shows without a truth: the eval `judge` on each file."""

from collections.abc import Iterable, Mapping

from cai.evals._judging import BIAS_BEFORE, DISAGREE
from cai.evals.judge import Judge
from cai.records import Comparison
from cai.report.summary import Table
from cai.rows import made_rows
from cai.runs import Listing

# The stages in which somebody judges; others hand on what was judged.
JUDGING = ("compare", "annotate")
SHOWN = (DISAGREE, BIAS_BEFORE, "longer answer wins", "own answer wins")


def judged(listings: Iterable[Listing]) -> dict[str, Table]:
    """Of each complete file of a stage that judges, by its name: its annotators down and `SHOWN` across."""
    found = {
        listing.name: _judged(listing)
        for listing in listings
        if listing.state == "complete"
        and listing.manifest["identity"].get("stage", {}).get("kind") in JUDGING
    }
    return {name: table for name, table in found.items() if table.columns}


def disputed(tables: Mapping[str, Table]) -> str | None:
    """The name of the file whose judges' two orders disagree most often, if any do."""
    shares = [
        (number.value, name)
        for name, table in tables.items()
        for number in table.numbers
        if number.name == DISAGREE and number.value > 0
    ]
    return max(shares)[1] if shares else None


def _judged(listing: Listing) -> Table:
    judge = Judge()
    verdicts = [
        # The request is the one long text of a verdict, and no number is made of it.
        {**verdict, "request": ""}
        for comparison in made_rows(listing.path, Comparison)
        for verdict in judge.work(comparison)
    ]
    numbers = [number for number in judge.numbers(verdicts) if not number.group]
    return Table(name=f"{listing.name}: its judges", headline=SHOWN, numbers=tuple(numbers))
