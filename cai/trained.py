"""A trained model as an output of a run: a model folder that says in cai.json what made it."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cai import manifest
from cai.claim import Claim, lock_of
from cai.errors import CaiError
from cai.mix import mixed
from cai.runs import redo
from cai.steps import TrainStep, model_of
from cai.training.files import work_folder

NOTE = "cai.json"
SUMMARY = "training.json"


def is_complete(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the model is there; `CaiError` when it was made otherwise, or is none of ours."""
    if not folder.exists():
        return False
    made = note(folder)
    if made is None:
        taken = "there is something here that cai did not train"
        raise CaiError(taken, where=str(folder), next="choose another name")
    plain = manifest.plain(identity)
    if made["identity"] != plain:
        changed = f"was made with {manifest.difference(made['identity'], plain)}"
        raise CaiError(f"{folder} {changed}", next=f"start a new run, or {redo(folder.name)}")
    if work_folder(folder).exists() or lock_of(folder).exists():
        _tidy(folder)
    return True


def _tidy(folder: Path) -> None:
    """Clear away what a kill left after the model was in place, unless its trainer lives."""
    with suppress(CaiError, OSError):
        claim = Claim(folder)
        shutil.rmtree(work_folder(folder), ignore_errors=True)
        claim.release()


def note(folder: Path) -> dict[str, Any] | None:
    """What cai.json says, or None for a folder that has none."""
    try:
        found = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "identity" in found else None


def summary(folder: Path) -> dict[str, Any]:
    """What its training came to: rows, dropped, steps, tokens, losses, seconds."""
    found: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return found


def left_out(folder: Path) -> dict[str, int]:
    """What was left out of its training by reason: before and after it was tokenised."""
    counts = Counter((note(folder) or {}).get("left_out", {}))
    counts.update(summary(folder)["dropped"])
    return dict(counts)


def under_way(folder: Path) -> str | None:
    """How far the training of a model is that is not whole yet, in words; None where none was begun."""
    work = work_folder(folder)
    if folder.exists() or not work.is_dir():
        return None
    try:
        # The name is cai.training.checkpoint's.
        written = (work / "metrics.jsonl").read_bytes()
        # What follows the last newline is being written.
        metrics = json.loads(written[: written.rfind(b"\n")].rsplit(b"\n", 1)[-1])
        return f"step {metrics['step']}, loss {metrics['loss']:.4f}"
    except (OSError, KeyError, ValueError):
        return "no step yet"


def discard(folder: Path) -> None:
    """Delete a model and what is left of its training; `CaiError` for a folder that is none of ours."""
    if folder.exists() and note(folder) is None:
        taken = "there is something here that cai did not train"
        raise CaiError(taken, where=str(folder), next="choose another name, or remove it yourself")
    if not folder.parent.is_dir():
        return
    claim = Claim(folder)
    try:
        for path in (folder, work_folder(folder)):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        claim.release()


def train(step: TrainStep, identity: Mapping[str, Any], report: Any) -> dict[str, Any]:
    """Carry out a training step: its rows read, weighted and learned from. Returns the summary.

    `report(done, total, metrics)` is called after each optimizer step.
    """
    from cai.model_folder import resolve
    from cai.training.fit import fit

    sources, unusable = mixed(step)
    about = {
        # The folder is there whole or not at all, and this note with it.
        "complete": True,
        "fingerprint": manifest.fingerprint(identity),
        "identity": manifest.plain(identity),
        "made_by": [manifest.provenance()],
        "started": manifest.now(),
        "left_out": dict(unusable),
    }
    step.output.parent.mkdir(parents=True, exist_ok=True)
    claim = Claim(step.output)
    try:
        return fit(
            step.objective,
            step.settings,
            model=resolve(model_of(step.model, step.name)),
            sources=sources,
            folder=step.output,
            chat_template=getattr(step.model, "chat_template", None),
            about=about,
            report=report,
        )
    finally:
        claim.release()
