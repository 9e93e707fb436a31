"""Start a training run: in this process, in several on this machine, or in those that torchrun started.

On a CPU a tiny model gains little from threads and much from processes with one thread each, and a copy of
the model in each (`processes`). A model that is too large for one device is held in parts (`nproc`,
torchrun).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cai.errors import CaiError
from cai.objectives import Objective
from cai.training import forward, fsdp
from cai.training.data import Prepared
from cai.training.distributed import ALONE
from cai.training.job import Job, carry_out
from cai.training.loop import Report, Summary
from cai.training.models import device_called
from cai.training.settings import TrainSettings
from cai.training.torchrun import members
from cai.training.workers import spawn


def launch(
    objective: Objective,
    model: Any,
    data: Prepared[Any],
    settings: TrainSettings,
    folder: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> Summary:
    """`loop.train` in as many processes as the settings or torchrun say; `model` is trained in place.

    Raises what `train` raises, and `CaiError` when the model is not on the CPU for several processes, when
    a process dies, and for what cannot be had in several.
    """
    job = Job(objective=objective, data=data, settings=settings, folder=folder, identity=identity or {})
    started = members()
    if not is_shared(settings):
        return carry_out(job, model, ALONE, local=0, report=report)
    if model.device.type != "cpu":
        key = "processes" if settings.processes > 1 else "nproc"
        several = f"{key} = {getattr(settings, key)} needs the CPU, and the model is on '{model.device}'"
        raise CaiError(several, next=f"set {key} = 1")
    if started is None and settings.processes > 1:
        return spawn(job, model, settings.processes, report)
    if started is not None and (settings.processes > 1 or settings.nproc not in (1, started.group.world)):
        twice = f"torchrun has started {started.group.world} processes"
        raise CaiError(twice, next="leave nproc and processes out")
    _check_devices(settings, started.here if started else settings.nproc)
    job = replace(job, sharded=True, packs=all(map(forward.packs, fsdp.roots_of(model))))
    if started is None:
        return spawn(job, model, settings.nproc, report)
    return started.lead(job, model, report)


def is_shared(settings: TrainSettings) -> bool:
    """Whether several processes train: the model is loaded on the CPU then, and they take it from there."""
    return settings.processes > 1 or settings.nproc > 1 or members() is not None


def _check_devices(settings: TrainSettings, nproc: int) -> None:
    """`CaiError` unless each of `nproc` processes on this machine can have a device of its own."""
    if settings.device.startswith("cuda:"):
        one = f"device = '{settings.device}' is one GPU, and each of {nproc} processes takes one"
        raise CaiError(one, next='set device = "cuda"')
    if device_called(settings.device) == "cuda" and nproc > torch.cuda.device_count():
        few = f"{nproc} processes take a GPU each, and there are {torch.cuda.device_count()} here"
        raise CaiError(few, next=f'set nproc = {torch.cuda.device_count()}, or device = "cpu"')
