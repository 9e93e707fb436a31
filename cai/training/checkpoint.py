"""Where a run stands, in one file that is whole or not there, and the logs that belong to it.

A run that is killed goes on from its last checkpoint: the logs are cut back to it, so every step is in them
once.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cai.errors import CaiError
from cai.training.durable import sync, write_file

METRICS, TIMING, STATE = "metrics.jsonl", "timing.jsonl", "checkpoint.pt"
# A folder of what an objective shows a reader of its run, if it shows anything.
SAMPLES = "samples"


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
) -> None:
    """Replace the checkpoint of `folder` by the present state."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "progress": dict(vars(progress)),
        "logs": dict(logs),
        "identity": json.dumps(identity, sort_keys=True),
    }
    write_file(folder / STATE, lambda path: torch.save(state, path))


def restore(
    folder: Path, *, model: Any, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any], cut_logs: bool
) -> Progress:
    """Load the checkpoint of `folder` into the model and the optimizer; without one, the run is at step 0.

    `cut_logs` cuts the logs back to the checkpoint (one process of a run does that).
    Raises `CaiError` when the checkpoint was made by a run of another `identity`, naming what differs.
    """
    path = folder / STATE
    state: dict[str, Any] = {"logs": {}}
    if path.is_file():
        state = torch.load(path, map_location=model.device, weights_only=True)
        _check_identity(json.loads(state["identity"]), json.loads(json.dumps(identity)), folder)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"].cpu())
    if cut_logs:
        for name in (METRICS, TIMING):
            _cut(folder / name, state["logs"].get(name, 0))
    return Progress(**state.get("progress", {}))


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
