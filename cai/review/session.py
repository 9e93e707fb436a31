"""One sitting of a reviewer: the queue is made, gone through, and the output written."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cai import manifest
from cai.claim import Claim
from cai.constitution import Constitution
from cai.errors import CaiError
from cai.journal import writing
from cai.records import Comparison
from cai.review.decisions import Decisions, decisions_of
from cai.review.desk import Desk
from cai.review.doubt import By, most_doubtful
from cai.review.output import Outcome, check_output, identity_of, principle_of, write
from cai.rows import read_comparisons

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """Who reviews which of the comparisons in `source`, at most `limit`, for which output."""

    source: Path
    output: Path
    annotator: str
    by: By
    limit: int
    constitution: Constitution | None
    seed: int


def sit(sitting: Sitting, out: "Console", key: Callable[[], str]) -> Outcome | None:
    """Review on `out` with keys from `key`; what the output is now, None where nothing was ever decided.

    Raises `CaiError` when the output is none of this review's, or is being written by another process.
    """
    if sitting.output.resolve() == sitting.source.resolve():
        same = "this is the file that is reviewed"
        raise CaiError(same, where=str(sitting.output), next="give the output a name of its own")
    check_output(sitting.output)
    with writing(sitting.output):
        sitting.output.parent.mkdir(parents=True, exist_ok=True)
        claim = Claim(sitting.output)
    try:
        identity = identity_of(sitting.source, sitting.annotator)
        decisions = Decisions(decisions_of(sitting.output), identity)
        try:
            with out.status("looking for the most doubtful"):
                queue = most_doubtful(_left(sitting, decisions), sitting.by, sitting.limit, sitting.seed)
            Desk(
                queue=queue,
                decisions=decisions,
                out=out,
                key=key,
                wordings=_wordings(sitting, queue),
                seed=sitting.seed,
            ).work()
            if not decisions.standing and not sitting.output.exists():
                return None
            return write(sitting.source, sitting.output, decisions, sitting.annotator)
        finally:
            decisions.close()
    finally:
        claim.release()


def _left(sitting: Sitting, decisions: Decisions) -> Iterator[Comparison]:
    """What this human has not decided, here or in a file that the source was made from."""
    for comparison in read_comparisons(sitting.source):
        known = any(annotation.annotator == sitting.annotator for annotation in comparison.annotations)
        if not known and comparison.id not in decisions.standing:
            yield comparison


def _wordings(sitting: Sitting, queue: list[Comparison]) -> Mapping[str, str]:
    """The words of the queue's principles. `CaiError` where the constitution is not the one compared by."""
    if sitting.constitution is None:
        return {}
    stage = (manifest.read(sitting.source) or {"identity": {}})["identity"].get("stage", {})
    compared = stage.get("constitution", {}).get("principles", {})
    found = {}
    for id in sorted({principle_of(comparison) for comparison in queue} - {""}):
        principle = sitting.constitution.get(id)
        if principle is None or compared.get(id, principle.fingerprint) != principle.fingerprint:
            what = "has no" if principle is None else "has another wording of"
            raise CaiError(
                f"'{sitting.constitution.name}' {what} principle '{id}'",
                where="--constitution",
                next=f"give the one that {sitting.source} was compared under",
            )
        found[id] = principle.preference
    return found
