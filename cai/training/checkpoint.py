"""Where a run stands, in one file that is whole or not there, and the logs that belong to it.

A run that is killed goes on from its last checkpoint: the logs are cut back to it, so every step is in them
once. Of a model in parts, every process writes its part into a folder that the file names; a run can go on
with any number of processes.
"""

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load as load_parts
from torch.distributed.checkpoint.state_dict_saver import save as save_parts
from torch.distributed.tensor import DTensor

from cai.errors import CaiError
from cai.training.distributed import Group
from cai.training.durable import write_file
from cai.training.fsdp import part_of, reshard
from cai.whole_file import sync

METRICS, TIMING, STATE = "metrics.jsonl", "timing.jsonl", "checkpoint.pt"
# Folders that STATE names, PARTS followed by the number of the step.
PARTS = "checkpoint-"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: optimizer steps done, real tokens seen, and the loss of the first and newest step."""

    step: int = 0
    tokens: int = 0
    first_loss: float = float("nan")
    last_loss: float = float("nan")


class Logs:
    """The two logs of a run: metrics.jsonl is reproducible, timing.jsonl (seconds) is not."""

    def __init__(self, folder: Path) -> None:
        self._files = {name: (folder / name).open("ab") for name in (METRICS, TIMING)}

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        self._files[name].write(json.dumps(row).encode() + b"\n")
        self._files[name].flush()

    def sizes(self) -> dict[str, int]:
        """Bytes in each log, all of them on the disk."""
        for file in self._files.values():
            os.fsync(file.fileno())
        return {name: os.fstat(file.fileno()).st_size for name, file in self._files.items()}

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def save(
    folder: Path,
    *,
    model: Any,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    logs: Mapping[str, int],
    identity: Mapping[str, Any],
    group: Group,
) -> None:
    """Replace the checkpoint of `folder` by the present state. Every process calls it."""
    learned = _learned(model, optimizer)
    parts = folder / f"{PARTS}{progress.step}"
    if group.sharded:
        _write_parts(learned, parts, group)
    if group.rank:
        return
    state = {
        **({"parts": parts.name} if group.sharded else learned),
        "rng": torch.get_rng_state(),
        "progress": dict(vars(progress)),
        "logs": dict(logs),
        "identity": json.dumps(identity, sort_keys=True),
    }
    write_file(folder / STATE, lambda path: torch.save(state, path))
    for path in folder.glob(f"{PARTS}*"):
        if path != parts or not group.sharded:
            shutil.rmtree(path)


def restore(
    folder: Path,
    *,
    model: Any,
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
    group: Group,
) -> Progress:
    """Load the checkpoint of `folder` into the model and the optimizer; without one, the run is at step 0.

    Rank 0 cuts the logs back to the checkpoint.
    Raises `CaiError` when the checkpoint was made by a run of another `identity`, naming what differs.
    """
    path = folder / STATE
    state: dict[str, Any] = {"logs": {}}
    if path.is_file():
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        _check_identity(json.loads(state["identity"]), json.loads(json.dumps(identity)), folder)
        reshard(model)
        _learn(model, optimizer, _read_parts(folder / state["parts"], model) if "parts" in state else state)
        torch.set_rng_state(state["rng"])
    if group.rank == 0:
        for name in (METRICS, TIMING):
            _cut(folder / name, state["logs"].get(name, 0))
    return Progress(**state.get("progress", {}))


def _learned(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What training has changed: weights by name, and the optimizer's memory of each."""
    trained = _trained(model)
    return {
        "model": {name: weight.detach() for name, weight in trained.items()},
        "optimizer": {
            name: dict(optimizer.state.get(weight) or _at_rest(weight)) for name, weight in trained.items()
        },
    }


def _learn(model: Any, optimizer: torch.optim.Optimizer, learned: Mapping[str, Any]) -> None:
    """Put back what `_learned` gave, whole or in this process's parts."""
    for name, weight in _trained(model).items():
        with torch.no_grad():
            weight.copy_(_mine(learned["model"][name], weight))
        optimizer.state[weight] = {
            # A number of steps, beside tensors that are cut as the weight is.
            key: value.to(weight.device, copy=True) if value.ndim == 0 else _mine(value, weight).clone()
            for key, value in learned["optimizer"][name].items()
        }


def _mine(value: Tensor, weight: Tensor) -> Tensor:
    """A tensor cut as `weight` is."""
    return value if isinstance(value, DTensor) else part_of(value, weight)


def _trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _at_rest(weight: Tensor) -> dict[str, Tensor]:
    """AdamW's memory of a weight that has not been stepped yet."""
    zeros = torch.zeros_like(weight, memory_format=torch.preserve_format)
    step = torch.zeros((), dtype=torch.float32, device=weight.device)
    return {"step": step, "exp_avg": zeros, "exp_avg_sq": zeros.clone()}


def _write_parts(learned: Mapping[str, Any], folder: Path, group: Group) -> None:
    if group.rank == 0:
        # What a killed process may have left.
        shutil.rmtree(folder, ignore_errors=True)
    group.wait()
    save_parts(dict(learned), checkpoint_id=folder)


def _read_parts(folder: Path, model: Any) -> dict[str, Any]:
    """What this process needs of a folder of parts, however many processes wrote it."""
    trained = _trained(model)
    learned = {
        "model": {name: torch.empty_like(weight) for name, weight in trained.items()},
        "optimizer": {name: _at_rest(weight) for name, weight in trained.items()},
    }
    with warnings.catch_warnings():
        # That there is one process is no news.
        warnings.simplefilter("ignore", UserWarning)
        load_parts(learned, checkpoint_id=folder)
    return learned


def _check_identity(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    changed = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if changed:
        what = f"a training run with other settings stopped here ({', '.join(changed)} changed)"
        raise CaiError(
            what, where=str(folder), next="restore them to go on, or delete the folder to start anew"
        )


def _cut(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)
    sync(path)
