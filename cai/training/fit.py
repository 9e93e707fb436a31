"""One training step of a run, from a model folder and rows to a model folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cai.chat import load_tokenizer
from cai.errors import CaiError
from cai.objectives import Objective
from cai.training.checkpoint import METRICS, SAMPLES, STATE, TIMING
from cai.training.launch import launch
from cai.training.loop import Report
from cai.training.models import context_of, device_called, save_model, stored_dtype
from cai.training.settings import TrainSettings
from cai.weights import weights_digest


def work_folder(folder: Path) -> Path:
    """Where a run that makes the model `folder` keeps its checkpoint and caches until the model is whole."""
    return folder.with_name(f"{folder.name}.training")


def fit(
    objective: Objective,
    settings: TrainSettings,
    *,
    model: Path,
    sources: Sequence[Any],
    folder: Path,
    chat_template: Path | None = None,
    about: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train the model of one folder on `sources` (see `Objective.sources`) and save it as another folder.

    Beside the weights the folder holds metrics.jsonl, timing.jsonl, cai.json (what `about` says of its
    making) and training.json, the summary that is returned: rows used, rows dropped by reason, rows whose
    prompt was cut, steps, tokens, losses, seconds. Killed and called again, it goes on from its last
    checkpoint. The weights are stored in the dtype of the folder that training started from.
    Raises `CaiError` for a folder that is there already or is no model, for rows that cannot be used, for a
    run that changed in between, and for a loss that is not finite.
    """
    if folder.exists():
        raise CaiError("there is something here already", where=str(folder), next="choose another name")
    tokenizer = load_tokenizer(model, chat_template)
    learner = objective.trains.load(model, device_of(settings))
    data = objective.prepare(sources, tokenizer, context_of(learner))
    work = work_folder(folder)
    identity = {"weights": weights_digest(model), "chat_template": tokenizer.chat_template}
    summary = launch(objective, learner, data, settings, work, identity=identity, report=report)
    counts = {"rows": len(data.rows), "dropped": dict(data.dropped), "truncated": data.truncated}
    whole = {**counts, **asdict(summary)}
    ends = {example.ids[-1] for row in data.rows for example in row.sequences}
    objective.trains.finish(learner, tokenizer, ends)
    notes = {"training.json": whole, **({} if about is None else {"cai.json": about})}
    _publish(learner.to(stored_dtype(model)), tokenizer, folder, work, notes)
    return whole


def device_of(settings: TrainSettings) -> str:
    """Where a run computes; several processes are for the CPU, so "auto" means the CPU for them."""
    if settings.device == "auto" and settings.processes > 1:
        return "cpu"
    return device_called(settings.device)


def _publish(
    model: Any, tokenizer: Any, folder: Path, work: Path, notes: Mapping[str, Mapping[str, Any]]
) -> None:
    def extras(temporary: Path) -> None:
        for name in (METRICS, TIMING):
            shutil.copyfile(work / name, temporary / name)
        if (work / SAMPLES).is_dir():
            shutil.copytree(work / SAMPLES, temporary / SAMPLES)
        for name, note in notes.items():
            (temporary / name).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")

    save_model(model, tokenizer, folder, extras)
    (work / STATE).unlink()
    shutil.rmtree(work)
