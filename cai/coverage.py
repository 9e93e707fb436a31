"""What became of each principle in a run: how often it was drawn, found fault, changed an answer, decided.

It is read from the turns and annotations of the run's own files, each counted once however many files repeat
it. What was rejected (a critique that was cut off, a verdict that could not be read) is in no such file and
not counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.compact import Table
from cai.constitution import constitutions_in
from cai.errors import CaiError
from cai.frames import ReviewFrames
from cai.plugins import find
from cai.records import Annotation, Comparison, Record
from cai.rows import key_of, made_rows
from cai.runs import Listing, runs_in


@dataclass(kw_only=True)
class Counts:
    """Of a principle: its critiques and how many found fault, its revisions and how many changed the answer,
    its verdicts and how many decided, that is named one winner, the same in every order.

    `rounds` are the critiques, and the revisions that had none before them: the draws of the principle.
    `expected` is how many draws and verdicts its weight would give it.
    """

    rounds: int = 0
    critiques: int = 0
    found: int = 0
    revisions: int = 0
    changed: int = 0
    verdicts: int = 0
    decided: int = 0
    expected: float = 0.0

    @property
    def draws(self) -> int:
        return self.rounds + self.verdicts


@dataclass(kw_only=True)
class _Counting:
    """The counts so far, and the keys of what they hold."""

    counts: dict[str, Counts] = field(default_factory=dict)
    _seen: Table = field(default_factory=Table)

    def of(self, principle: str) -> Counts:
        return self.counts.setdefault(principle, Counts())

    def is_new(self, *parts: str) -> bool:
        return self._seen.count(key_of(*(part.encode("utf-8", "surrogatepass") for part in parts))) == 0


def coverage(run: Path, frames: ReviewFrames) -> dict[str, Counts]:
    """Every principle of the constitutions that a run was made under, and its counts.

    `frames` are those that its critiques were made with. Raises `CaiError` when they are others, and when
    nothing in the run was made under a constitution.
    """
    counting = _Counting()
    steered = list(_steered(run))
    if not steered:
        nothing = "nothing here was made under a constitution"
        raise CaiError(nothing, where=str(run), next="give a run with critiques, revisions or comparisons")
    for listing, weights in steered:
        for principle in weights:
            counting.of(principle)
        stage = listing.manifest["identity"]["stage"]
        if find("stages", stage["kind"]).makes is Record:
            _check_frames(stage, frames, listing.path)
            draws = _count_rounds(listing.path, frames, counting)
        else:
            draws = _count_verdicts(listing.path, counting)
        whole = sum(weights.values())
        for principle, weight in weights.items():
            counting.of(principle).expected += draws * weight / whole
    return counting.counts


def _steered(run: Path) -> Iterator[tuple[Listing, Mapping[str, float]]]:
    """The finished stages that had a constitution, and the weights in it."""
    if not run.is_dir():
        raise CaiError(f"there is no run '{run}'", next="cai runs lists them")
    for listing in runs_in(run):
        stage = listing.manifest["identity"].get("stage")
        weights: dict[str, float] = {}
        for found in constitutions_in(stage):
            weights |= found.get("weights", {})
        if weights and listing.state == "complete":
            yield listing, weights


def _check_frames(stage: Mapping[str, Any], frames: ReviewFrames, path: Path) -> None:
    if stage.get("frames", frames.fingerprint) != frames.fingerprint:
        other = f"{path} was made with other frames"
        raise CaiError(other, where="--frames", next="give the file of frames that it was made with")


def _count_rounds(path: Path, frames: ReviewFrames, counting: _Counting) -> int:
    """Count the critiques and revisions of a file; how many draws were new."""
    draws = 0
    for record in made_rows(path, Record):
        for at, turn in enumerate(record.turns):
            if turn.kind == "response" or not counting.is_new(
                record.id, str(at), turn.kind, turn.principle, turn.text
            ):
                continue
            of = counting.of(turn.principle)
            before = record.turns[at - 1] if at else None
            if turn.kind == "critique":
                of.critiques += 1
                of.found += not frames.critique.is_clear(turn.text)
            else:
                of.revisions += 1
                of.changed += _answer_before(record, at) != turn.text.strip()
            if turn.kind == "critique" or before is None or before.kind != "critique":
                of.rounds += 1
                draws += 1
    return draws


def _answer_before(record: Record, at: int) -> str:
    return next((turn.text.strip() for turn in reversed(record.turns[:at]) if turn.kind != "critique"), "")


def _count_verdicts(path: Path, counting: _Counting) -> int:
    """Count the annotations of a file of comparisons; how many were new."""
    draws = 0
    for comparison in made_rows(path, Comparison):
        for one in comparison.annotations:
            marks = (comparison.id, one.annotator, one.principle, one.wording, one.model)
            if one.principle and counting.is_new(*marks):
                of = counting.of(one.principle)
                of.verdicts += 1
                of.decided += _decides(one)
                draws += 1
    return draws


def _decides(annotation: Annotation) -> bool:
    return annotation.agree and annotation.probabilities.count(max(annotation.probabilities)) == 1


def unused(counts: Mapping[str, Counts], principles: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Which of the principles did nothing in a run, and how that shows."""
    for id in principles:
        of = counts.get(id)
        if of is None:
            yield id, "is in no constitution that the run was made under"
            continue
        if not of.draws:
            yield id, f"was never drawn ({of.expected:.1f} times were to be expected)"
        if of.critiques and not of.found:
            yield id, f"found no fault in any of its {of.critiques:,} critiques"
        if of.verdicts and not of.decided:
            yield id, f"decided none of its {of.verdicts:,} verdicts"
