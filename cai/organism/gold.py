"""The oracle as the truth about comparisons: `gold = "cai.organism.gold:truth"`, as a function of a user's
own would be."""

from collections.abc import Collection
from functools import cache

from cai import shipped
from cai.constitution import load
from cai.organism import oracle
from cai.organism.truth import utility
from cai.records import Comparison


def truth(comparison: Comparison, principle: str) -> list[float] | None:
    """How good each candidate is under a principle of a shipped constitution of the organism.

    None for another principle, for a request outside the world, and where the oracle cannot read a candidate.
    """
    tags = _tags().get(principle)
    return None if tags is None else utilities(comparison, tags)


def utilities(comparison: Comparison, tags: Collection[str]) -> list[float] | None:
    """The same under a principle with these tags."""
    request = comparison.prompt[-1]["content"]
    try:
        pair = oracle.find(request)
    except oracle.OutsideWorld:
        return None
    found = []
    for candidate in comparison.candidates:
        saw = oracle.read(request, candidate.text).answer
        if saw == "garbled":
            return None
        found.append(float(utility(tags, pair, saw)))
    return found


@cache
def _tags() -> dict[str, tuple[str, ...]]:
    """The tags of every principle in the organism's constitutions, by its id."""
    files = sorted(shipped.root("constitutions").glob("organism*.toml"))
    return {principle.id: principle.tags for file in files for principle in load(file).principles}
