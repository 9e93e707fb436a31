"""What every process of a training run is given, and what it makes of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cai.objectives import Objective
from cai.training import forward, fsdp
from cai.training.data import Prepared
from cai.training.distributed import Group
from cai.training.loop import Report, Summary, train
from cai.training.settings import TrainSettings

# Measured on 4 cores at 2 million parameters: 4 threads are slower than 1 as soon as anything else runs.
TINY = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training run but for its model. With `sharded` each process holds a part of that, else a copy.

    `packs` is what `forward.packs` says of a model in parts as long as it is whole.
    """

    objective: Objective
    data: Prepared[Any]
    settings: TrainSettings
    folder: Path
    identity: Mapping[str, Any]
    sharded: bool = False
    packs: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether its processes compute on GPUs; those of copies are for the CPU."""
        return self.sharded and self.settings.device != "cpu" and torch.cuda.is_available()


def join(on_gpu: bool, **how: Any) -> None:
    """Meet the other processes of a job; `how` is what `init_process_group` asks."""
    # What is no tensor goes through gloo either way.
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", **how)


def carry_out(
    job: Job, model: Any, group: Group, *, local: int, spread: bool = False, report: Report | None = None
) -> Summary:
    """This process's part of a job; rank 0's `model` is trained in place.

    `local` numbers the processes of a machine. With `spread` only rank 0's model has its weights.
    """
    torch.set_num_threads(job.settings.threads or _threads(model, group.world))
    report = report if group.rank == 0 else None
    if not job.sharded:
        return _train(job, model, group, report)
    if job.on_gpu:
        torch.cuda.set_device(local)
    device = torch.device("cuda", local) if job.on_gpu else torch.device("cpu")
    weights = fsdp.weights_of(model) if group.rank == 0 else None
    learner = fsdp.twin(model)
    fsdp.shard(learner, device, job.settings.dtype)
    for root in fsdp.roots_of(learner):
        forward.known_to_pack(root, job.packs)
    if spread:
        fsdp.spread(learner, weights)
    summary = _train(job, learner, group, report)
    fsdp.collect(learner, weights)
    return summary


def _train(job: Job, model: Any, group: Group, report: Report | None) -> Summary:
    return train(
        job.objective,
        model,
        job.data,
        job.settings,
        job.folder,
        identity=job.identity,
        group=group,
        report=report,
    )


def _threads(model: Any, world: int) -> int:
    """An equal share of the cores; one for a tiny model, whose operations are not worth sharing."""
    if sum(parameter.numel() for parameter in model.parameters()) < TINY:
        return 1
    return max(1, (os.cpu_count() or 1) // world)
