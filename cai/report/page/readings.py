"""What the rows of a page say of the rounds of revision."""

from collections.abc import Sequence
from itertools import pairwise

from cai.report.page.shown import Row


def revised(rows: Sequence[Row]) -> dict[str, dict[int, list[bool]]]:
    """Step -> round of revision -> whether it changed the answer, one flag a record."""
    found: dict[str, dict[int, list[bool]]] = {}
    for row in rows:
        if row["kind"] != "record":
            continue
        answers = [turn.get("text", "") for turn in row["turns"] if turn["kind"] != "critique"]
        for number, (before, after) in enumerate(pairwise(answers), start=1):
            found.setdefault(row["step"], {}).setdefault(number, []).append(before != after)
    return found
