"""One training step of a run, from a model folder and rows to a model folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cai.adapter import BASE, base_of, is_adapter
from cai.chat import load_tokenizer
from cai.errors import CaiError
from cai.objectives import Objective
from cai.training.checkpoint import METRICS, STATE, TIMING
from cai.training.files import SAMPLES, rollouts_of, work_folder
from cai.training.launch import is_shared, launch
from cai.training.loop import Report
from cai.training.lora import merge
from cai.training.models import context_of, device_called, save_model, stored_dtype
from cai.training.settings import TrainSettings
from cai.weights import weights_digest


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
    checkpoint. The weights are stored in `settings.save_dtype`, or else in the dtype of the folder that
    training started from; with `settings.lora` it is an adapter that is stored, unless it is merged.
    Raises `CaiError` for a folder that is there already or is no model, for rows that cannot be used, for a
    run that changed in between, and for a loss that is not finite.
    """
    if folder.exists():
        raise CaiError("there is something here already", where=str(folder), next="choose another name")
    tokenizer = load_tokenizer(model, chat_template)
    learner = objective.trains.load(model, device_of(settings), settings)
    data = objective.prepare(sources, tokenizer, context_of(learner))
    work = work_folder(folder)
    identity = {"weights": weights_digest(model), "chat_template": tokenizer.chat_template}
    summary = launch(objective, learner, data, settings, work, identity=identity, report=report)
    counts = {"rows": len(data.rows), "dropped": dict(data.dropped), "truncated": data.truncated}
    whole = {**counts, **asdict(summary)}
    ends = {example.ids[-1] for row in data.rows for example in row.sequences}
    saved = objective.trains.saved(learner)
    objective.trains.finish(saved, tokenizer, ends)
    notes = {"training.json": whole, **({} if about is None else {"cai.json": about})}
    if settings.lora is not None and not settings.lora.merge:
        notes[BASE] = {"weights": weights_digest(base_of(model) if is_adapter(model) else model)}
    _publish(_as_stored(saved, model, settings), tokenizer, folder, work, notes)
    return whole


def device_of(settings: TrainSettings) -> str:
    """Where a model is loaded to be trained; several processes take it, or their parts, from the CPU."""
    if is_shared(settings) and (settings.device == "auto" or settings.processes == 1):
        return "cpu"
    return device_called(settings.device)


def _as_stored(model: Any, start: Path, settings: TrainSettings) -> Any:
    """What is saved, in the dtype that it is saved in; an adapter as it learned."""
    if settings.lora is not None and not settings.lora.merge:
        return model
    if settings.lora is not None:
        # Rounded once, after the adapter is added.
        merge(model.to(torch.float32))
    chosen = settings.save_dtype
    return model.to(stored_dtype(start) if chosen is None else getattr(torch, chosen))


def _publish(
    model: Any, tokenizer: Any, folder: Path, work: Path, notes: Mapping[str, Mapping[str, Any]]
) -> None:
    def extras(temporary: Path) -> None:
        for name in (METRICS, TIMING):
            shutil.copyfile(work / name, temporary / name)
        sampled = sorted(rollouts_of(work).glob("*.jsonl"))
        if sampled:
            (temporary / SAMPLES).write_bytes(b"".join(path.read_bytes() for path in sampled))
        for name, note in notes.items():
            (temporary / name).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")

    save_model(model, tokenizer, folder, extras)
    (work / STATE).unlink()
    shutil.rmtree(work)
