"""The file that a review makes: every comparison of its input, those that were decided with the human's
annotation beside the judge's and the probabilities that follow from both.

It is an output like any other, and is written anew, whole, at the end of each session. Its identity holds a
digest of the decisions, so what was trained before the last of them is known to be out of date.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai import manifest, runs
from cai.annotations import HUMAN, combined
from cai.encoding import encode
from cai.errors import CaiError
from cai.journal import writing
from cai.plugins import find
from cai.records import Annotation, Comparison
from cai.review.decisions import Decision, Decisions, decisions_of
from cai.rows import WHOLE, read_comparisons
from cai.runs import runs_in
from cai.whole_file import WholeFile, sync

PROTOCOL = "review"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many rows the file has, and how many of them this human confirmed, flipped, ... (`change`)."""

    rows: int
    changes: Mapping[str, int]


def annotator_called(name: str) -> str:
    """ada -> human:ada"""
    return f"{HUMAN}{name}"


def identity_of(source: Path, annotator: str) -> dict[str, Any]:
    """Who decides about what."""
    return {
        "stage": {"kind": PROTOCOL, "annotator": annotator},
        "engine": None,
        "inputs": [manifest.fingerprint_of(source)],
        "limit": None,
        "part": WHOLE,
    }


def comparisons_in(run: Path) -> Path:
    """The file of comparisons of a run: the file itself, or the only finished one in the folder."""
    if not run.is_dir():
        return run
    found = [
        listing for listing in runs_in(run) if listing.state == "complete" and _compares(listing.manifest)
    ]
    paths = [listing.path.with_suffix(".jsonl") for listing in found]
    if len(paths) != 1:
        listed = ", ".join(path.name for path in paths) or "none"
        what = f"there is not one finished file of comparisons in it ({listed})"
        raise CaiError(what, where=str(run), next="give the .jsonl file to review")
    return paths[0]


def _compares(described: Mapping[str, Any]) -> bool:
    kind = described["identity"].get("stage", {}).get("kind", PROTOCOL)
    return kind != PROTOCOL and find("stages", kind).makes is Comparison


def check_output(output: Path) -> None:
    """`CaiError` for a file that a review would overwrite and none made, or that was changed since."""
    made = manifest.read(output)
    if made is None or not decisions_of(output).exists():
        if made is not None or output.exists():
            what = "there is a file here already that no review made"
            raise CaiError(what, where=str(output), next="give another output, or move that file away")
        return
    described = made["files"].get(output.name)
    if made["complete"] and output.exists() and manifest.digest_of(output) != described["digest"]:
        what = "this file was changed after cai made it"
        raise CaiError(what, where=str(output), next="give another output, or move that file away")


def principle_of(comparison: Comparison) -> str:
    """The id of the principle that the annotators went by; "" where they went by several, or by none."""
    principles = {annotation.principle for annotation in comparison.annotations}
    return principles.pop() if len(principles) == 1 else ""


def annotation_of(decision: Decision, comparison: Comparison, annotator: str) -> Annotation:
    """A decision as an annotation: all probability on the chosen answer, or as much on each in a tie."""
    count = len(comparison.candidates)
    if decision.best is None:
        probabilities = (1 / count,) * count
    else:
        probabilities = tuple(float(at == decision.best) for at in range(count))
    return Annotation(
        annotator=annotator,
        principle=principle_of(comparison),
        protocol=PROTOCOL,
        probabilities=probabilities,
        orders=(probabilities,),
        shown=(decision.shown,),
    )


def reviewed(comparison: Comparison, annotation: Annotation) -> Comparison:
    """The comparison with one more annotation."""
    annotations = (*comparison.annotations, annotation)
    return replace(comparison, annotations=annotations, probabilities=combined(annotations))


def write(source: Path, output: Path, decisions: Decisions, annotator: str) -> Outcome:
    """Write the output whole. Killed at any moment, it is written by the next session of the review."""
    identity = identity_of(source, annotator)
    stage = {**identity["stage"], "decisions": decisions.fingerprint}
    begun = {**manifest.begun({**identity, "stage": stage}), "made_by": [manifest.provenance()]}
    rows = 0
    changes: Counter[str] = Counter()
    with writing(output):
        manifest.write(output, begun)
        with WholeFile(output) as file:
            for comparison in read_comparisons(source):
                rows += 1
                decision = decisions.standing.get(comparison.id)
                if decision is not None:
                    changes[change(comparison, decision)] += 1
                    comparison = reviewed(comparison, annotation_of(decision, comparison, annotator))
                file.add([encode(comparison)])
            files = {output.name: file.place()}
        sync(output.parent)
        described = {
            **begun,
            "counts": {"items": rows, "rows": rows, "rejects": {}},
            "reviewed": dict(changes),
        }
        runs.finish(output, described, files)
    return Outcome(rows=rows, changes=changes)


def change(comparison: Comparison, decision: Decision) -> str:
    """What a decision makes of the label that was there."""
    before = _winner(comparison)
    if decision.best is None:
        return "made a tie"
    if before is None:
        return "decided"
    return "confirmed" if decision.best == before else "flipped"


def _winner(comparison: Comparison) -> int | None:
    """The position of the likeliest candidate; None where several are."""
    first, second = comparison.ranking[:2]
    even = comparison.probabilities[first] == comparison.probabilities[second]
    return None if even else first
