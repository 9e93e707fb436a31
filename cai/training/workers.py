"""Processes of our own on this machine that carry out one training job; none outlives its parent."""

import copy
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from typing import Any

import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, start_processes

from cai.errors import CaiError
from cai.orphans import die_with_parent
from cai.training.distributed import Group
from cai.training.fsdp import Sharded
from cai.training.job import Job, carry_out, join
from cai.training.loop import Report, Summary

# The heavy imports are made once, in a process without threads, and every worker is forked from it.
METHOD = "forkserver"
SHARED = "/dev/shm"


def spawn(job: Job, model: Any, count: int, report: Report | None) -> Summary:
    """Carry out a job in `count` processes; `model`, which is on the CPU, is trained in place.

    Raises `CaiError` when the model does not fit into shared memory, when a process dies, naming it, and
    what a process raises.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    _check_room(sum(weight.nbytes for weight in model.parameters()))
    # Rank 0 writes into the parent's own tensors through shared memory, so nothing has to come back.
    model.share_memory()
    context = multiprocessing.get_context(METHOD)
    _warm_up(context)
    queue = context.SimpleQueue()
    workers: Any = None
    with tempfile.TemporaryDirectory() as meeting:
        given = (job, model, count, f"file://{meeting}/meeting", queue)
        try:
            # Interrupted in the middle of it, we would not know whom to end.
            with _uninterrupted():
                workers = start_processes(  # type: ignore[no-untyped-call]
                    _work, given, count, join=False, start_method=METHOD
                )
            return _wait(workers, queue, report)
        finally:
            # Whatever ends us here (an interrupt, a full disk) ends them.
            for process in workers.processes if workers else ():
                process.kill()
                process.join()


def _warm_up(context: Any) -> None:
    """Start the process that workers are forked from, and wait until it has made the imports.

    SIGINT is blocked in it and so in the workers: an interrupt reaches the whole group of processes, and is
    for us alone, who end them all.
    """
    context.set_forkserver_preload(["cai.training.workers", "transformers.modeling_utils"])
    # Whose own start would let SIGINT through.
    resource_tracker.ensure_running()
    with _uninterrupted():
        forkserver.ensure_running()
    idle = context.Process()
    idle.start()
    idle.join()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Inside, SIGINT has to wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_room(size: int) -> None:
    """Containers often have little shared memory, and to write beyond it kills a process without a word."""
    free = shutil.disk_usage(SHARED).free if os.path.isdir(SHARED) else size
    if size > free:
        short = f"the model takes {size / 1e6:.1f} MB of shared memory, and {SHARED} has {free / 1e6:.1f}"
        raise CaiError(short, next="enlarge it (docker run --ipc=host), or use torchrun, which needs none")


def _wait(workers: Any, queue: Any, report: Report | None) -> Summary:
    """Pass on what rank 0 says until the run has ended."""
    outcomes: list[Summary | CaiError] = []
    failure: ProcessException | None = None
    done = False
    while not done:
        try:
            done = workers.join(timeout=0.05)
        except ProcessException as error:
            failure, done = error, True
        while not queue.empty():
            message = queue.get()
            if isinstance(message, Summary | CaiError):
                outcomes.append(message)
            elif report is not None:
                report(*message)
    errors = [outcome for outcome in outcomes if isinstance(outcome, CaiError)]
    if errors:
        # What made one process stop makes the others fail, too.
        raise errors[0]
    if failure is not None:
        raise _death(workers.processes, failure) from failure
    if not outcomes:
        raise CaiError("the training processes ended without a result", next="run the command again")
    assert isinstance(outcomes[0], Summary)
    return outcomes[0]


def _death(processes: Any, failure: ProcessException) -> Exception:
    """Why the processes failed: the one that was killed, else what `failure` says.

    The others of one that was killed fail too, maybe sooner seen, or are terminated with SIGTERM.
    """
    codes = {rank: process.exitcode or 0 for rank, process in enumerate(processes)}
    killed = {rank: code for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM}
    if killed:
        rank, code = next(iter(killed.items()))
        return _died(rank, signal.Signals(-code).name)
    if isinstance(failure, ProcessExitedException):
        return _died(failure.error_index, failure.signal_name or f"exit code {failure.exit_code}")
    return failure


def _died(rank: int, how: str) -> CaiError:
    again = "run the command again to go on from the last checkpoint"
    return CaiError(f"training process {rank} died ({how})", next=again)


def _work(rank: int, job: Job, model: Any, count: int, meeting: str, queue: Any) -> None:
    die_with_parent()
    join(job.on_gpu, init_method=meeting, rank=rank, world_size=count)

    def report(*said: Any) -> None:
        queue.put(said)

    try:
        if job.sharded:
            summary = carry_out(job, model, Sharded(rank=rank, world=count), local=rank, report=report)
        else:
            own = model if rank == 0 else copy.deepcopy(model)
            summary = carry_out(job, own, Group(rank=rank, world=count), local=rank, report=report)
        if rank == 0:
            queue.put(summary)
    except CaiError as error:
        queue.put(error)
    # Not after any other error: the rest may be in the midst of something that this would wait for.
    dist.destroy_process_group()
