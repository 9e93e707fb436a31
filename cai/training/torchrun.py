"""`torchrun -m cai ...`: rank 0 runs the command, and the others wait for what it has to train.

So any command can be started so, on one machine or many that share their files: `cai train`, or `cai run`
with all that comes before and after the training.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from cai.errors import CaiError
from cai.training import fsdp
from cai.training.fsdp import Sharded
from cai.training.job import Job, carry_out, join
from cai.training.loop import Report, Summary

# How long rank 0 may be busy with what is no training.
PATIENCE = timedelta(days=365)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(kw_only=True)
class Members:
    """The processes that torchrun started, as one of them sees them; `here` of them are on its machine."""

    store: Any
    group: Sharded
    local: int
    here: int
    jobs: int = 0

    def lead(self, job: Job, model: Any, report: Report | None) -> Summary:
        """Rank 0: carry out a job with all others; `model`, which is on the CPU, is trained in place."""
        self._say("gpu" if job.on_gpu else "cpu")
        self._meet(job.on_gpu)
        dist.broadcast_object_list([job, fsdp.outline(model)], 0)
        return carry_out(job, model, self.group, local=self.local, spread=True, report=report)

    def follow(self) -> None:
        """Any other rank: take part in every job until rank 0 says that there are no more."""
        while (heard := self._hear()) != "end":
            self._meet(heard == "gpu")
            given: list[Any] = [None, None]
            dist.broadcast_object_list(given, 0)
            job, outline = given
            with suppress(CaiError):
                # Rank 0 meets the same error, and says it.
                carry_out(job, fsdp.blank(outline), self.group, local=self.local, spread=True)

    def dismiss(self) -> None:
        """Rank 0: let the others go."""
        self._say("end")

    def _say(self, word: str) -> None:
        self.store.set(f"cai/{self.jobs}", word)
        self.jobs += 1

    def _hear(self) -> str:
        key = f"cai/{self.jobs}"
        self.jobs += 1
        self.store.wait([key], PATIENCE)
        word: str = self.store.get(key).decode()
        return word

    def _meet(self, on_gpu: bool) -> None:
        if not dist.is_initialized():
            join(on_gpu, store=self.store, rank=self.group.rank, world_size=self.group.world)


_members: Members | None = None


def members() -> Members | None:
    """The processes of this run if torchrun started several, and None if not."""
    return _members


def member(run: Callable[[], int]) -> int:
    """What one process that torchrun started does: `run` the command at rank 0; its exit code."""
    global _members
    # torchrun stops us when another process dies, but nothing would when torchrun itself is killed.
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    store, rank, world = next(rendezvous("env://"))
    _members = Members(
        store=store,
        group=Sharded(rank=rank, world=world),
        local=int(os.environ["LOCAL_RANK"]),
        here=int(os.environ["LOCAL_WORLD_SIZE"]),
    )
    if rank:
        _members.follow()
        return 0
    try:
        return run()
    finally:
        _members.dismiss()
