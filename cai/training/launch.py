"""Start a training run in one process or in several on this machine.

On a CPU a tiny model gains little from threads and much from processes with one thread each: every process
computes its share of each step, and the gradients are summed. The parent waits, passes on the progress, and
ends with the trained model.
"""

import copy
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from cai.errors import CaiError
from cai.objectives import Objective
from cai.training.data import Prepared
from cai.training.distributed import Group
from cai.training.loop import Report, Summary, train
from cai.training.settings import TrainSettings

# Measured on 4 cores at 2 million parameters: 4 threads are slower than 1 as soon as anything else runs.
TINY = 20_000_000
# The heavy imports are made once, in a process without threads, and every worker is forked from it.
METHOD = "forkserver"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every process of a run is given."""

    objective: Objective
    model: Any
    data: Prepared[Any]
    settings: TrainSettings
    folder: Path
    identity: Mapping[str, Any]
    meeting: str


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
    """`loop.train` in `settings.processes` processes; `model` is trained in place either way.

    Several processes are for the CPU.
    Raises what `train` raises, and `CaiError` when the model is not on the CPU or a process dies.
    """
    if settings.processes == 1:
        torch.set_num_threads(settings.threads or _default_threads(model, 1))
        return train(objective, model, data, settings, folder, identity=identity, report=report)
    if model.device.type != "cpu":
        several = f"processes = {settings.processes} needs the CPU, and the model is on '{model.device}'"
        raise CaiError(several, next="set processes = 1")
    folder.mkdir(parents=True, exist_ok=True)
    # Rank 0 trains the parent's own tensors through shared memory, so nothing has to come back.
    model.share_memory()
    context = multiprocessing.get_context(METHOD)
    context.set_forkserver_preload(["cai.training.loop", "transformers.modeling_utils"])
    queue = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as meeting:
        job = Job(
            objective=objective,
            model=model,
            data=data,
            settings=settings,
            folder=folder,
            identity=identity or {},
            meeting=f"file://{meeting}/meeting",
        )
        workers = start_processes(  # type: ignore[no-untyped-call]
            _work, (job, queue), settings.processes, join=False, start_method=METHOD
        )
        return _wait(workers, queue, report)


def _default_threads(model: Any, world: int) -> int:
    """An equal share of the cores; one for a tiny model, whose operations are not worth sharing."""
    if sum(parameter.numel() for parameter in model.parameters()) < TINY:
        return 1
    return max(1, (os.cpu_count() or 1) // world)


def _wait(workers: Any, queue: Any, report: Report | None) -> Summary:
    """Pass on what rank 0 says until it says how the run ended."""
    outcome: Summary | CaiError | None = None
    done = False
    while not done:
        try:
            done = workers.join(timeout=0.05)
        except ProcessExitedException as error:
            died = f"training process {error.error_index} died ({error.signal_name or error.exit_code})"
            raise CaiError(died, next="run the command again to go on from the last checkpoint") from error
        while not queue.empty():
            message = queue.get()
            if isinstance(message, Summary | CaiError):
                outcome = message
            elif report is not None:
                report(*message)
    if isinstance(outcome, Summary):
        return outcome
    raise outcome or CaiError("the training processes ended without a result", next="run the command again")


def _work(rank: int, job: Job, queue: Any) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    world = job.settings.processes
    torch.set_num_threads(job.settings.threads or _default_threads(job.model, world))
    model = job.model if rank == 0 else copy.deepcopy(job.model)
    dist.init_process_group("gloo", init_method=job.meeting, rank=rank, world_size=world)

    def report(step: int, total: int, metrics: Mapping[str, float]) -> None:
        queue.put((step, total, dict(metrics)))

    try:
        summary = train(
            job.objective,
            model,
            job.data,
            job.settings,
            job.folder,
            identity=job.identity,
            group=Group(rank=rank, world=world),
            report=report if rank == 0 else None,
        )
        if rank == 0:
            queue.put(summary)
    except CaiError as error:
        # Every process meets the same error at the same step, so none is left waiting for the others.
        if rank == 0:
            queue.put(error)
    finally:
        dist.destroy_process_group()


def _die_with_parent() -> None:
    """A worker whose parent was killed would go on writing beside the run that takes its place."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
