"""The loop: AdamW on whatever an objective yields. It knows no objective by name.

`train` computes the same numbers however a step is cut into micro-batches or spread over processes (up to
rounding), and a run that is killed and started again ends as an unbroken one would (to the bit, on CPU with
equal threads).
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cai.config import identity as identity_of
from cai.errors import CaiError
from cai.objectives import Loss, Objective, Step
from cai.training.checkpoint import METRICS, TIMING, Logs, Progress, restore, save
from cai.training.data import Prepared
from cai.training.distributed import ALONE, Group
from cai.training.fsdp import kinds
from cai.training.layers import arrange
from cai.training.settings import TrainSettings

Report = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to. `seconds` and `tokens_per_second` are of this process's own stretch of it."""

    steps: int
    tokens: int
    first_loss: float
    last_loss: float
    seconds: float
    tokens_per_second: float


def train(
    objective: Objective,
    model: Any,
    data: Prepared[Any],
    settings: TrainSettings,
    folder: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    group: Group = ALONE,
    report: Report | None = None,
) -> Summary:
    """Train `model` in place; keep metrics.jsonl, timing.jsonl and the checkpoint in `folder`.

    If `folder` holds the checkpoint of the same run, go on from it. `identity` is what else makes a run
    another one (the weights it starts from); settings, objective and data are part of it already. `report`
    is called after every step with its number, the number of all steps and its metrics.
    Raises `CaiError` when a checkpoint is of another run, and when loss or gradient stop being finite: the
    last checkpoint is kept, and the rows are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**run_identity(objective, data, settings), **(identity or {})}
    # The one thing that draws without a seed of its own is an adapter's dropout.
    torch.manual_seed(settings.seed)
    arrange(model, settings)
    optimizer = adamw(model, settings)
    with _arithmetic(model, settings.dtype):
        # A reference differs from the model by nothing but what is learned.
        data = objective.setup(model, data, folder, group)
    total = objective.steps(data, settings)
    state: dict[str, Any] = {"model": model, "optimizer": optimizer, "identity": whole, "group": group}
    progress = restore(folder, **state)
    group.wait()
    begun, seen = time.perf_counter(), progress.tokens
    logs = Logs(folder) if group.rank == 0 else None
    try:
        for step in objective.batches(model, data, settings, group, progress.step):
            started = time.perf_counter()
            rate = settings.rate(progress.step, total)
            metrics = _step(objective, model, optimizer, step, rate, settings, group, folder, progress.step)
            progress = _advance(progress, metrics)
            if logs is not None:
                logs.append(METRICS, {"step": progress.step, **metrics})
                logs.append(
                    TIMING, {"step": progress.step, "seconds": round(time.perf_counter() - started, 4)}
                )
            if progress.step % settings.checkpoint_every == 0 or progress.step == total:
                save(folder, **state, progress=progress, logs={} if logs is None else logs.sizes())
            if report is not None:
                report(progress.step, total, metrics)
    finally:
        if logs is not None:
            logs.close()
    seconds = time.perf_counter() - begun
    speed = (progress.tokens - seen) / seconds
    return Summary(
        steps=progress.step,
        tokens=progress.tokens,
        first_loss=progress.first_loss,
        last_loss=progress.last_loss,
        seconds=seconds,
        tokens_per_second=speed,
    )


def run_identity(objective: Objective, data: Prepared[Any], settings: TrainSettings) -> dict[str, Any]:
    """What makes a training run the run it is, as flat keys: the settings, the objective and the rows."""
    fields = {
        f"{type(objective).__name__.lower()}.{key}": value for key, value in identity_of(objective).items()
    }
    return {
        **identity_of(settings),
        "objective": type(objective).__name__,
        **fields,
        "rows": data.fingerprint,
    }


def adamw(model: Any, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101), weight decay on matrices only."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # What is in parts and what is whole are no one list to the fused step.
    groups = [
        {"params": [p for p in some if (p.ndim >= 2) == matrices], "weight_decay": decay}
        for some in kinds(trained)
        for matrices, decay in ((True, settings.weight_decay), (False, 0.0))
        if some
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=True)


def accumulate(objective: Objective, model: Any, step: Step[Any], dtype: str = "float32") -> list[Loss]:
    """Add the gradient of this process's part of a step to the parameters; the losses come back detached."""
    losses = []
    for micro in step.micros:
        with _arithmetic(model, dtype):
            loss = objective.loss(model, micro)
        torch.autograd.backward(loss.total / step.weight)
        losses.append(replace(loss, total=loss.total.detach()))
    for micro in step.idle:
        with _arithmetic(model, dtype):
            loss = objective.loss(model, micro)
        torch.autograd.backward(loss.total * 0.0)
    return losses


def _step(
    objective: Objective,
    model: Any,
    optimizer: torch.optim.Optimizer,
    step: Step[Any],
    rate: float,
    settings: TrainSettings,
    group: Group,
    folder: Path,
    done: int,
) -> dict[str, float]:
    """One optimizer step and its metrics."""
    losses = accumulate(objective, model, step, settings.dtype)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    group.add_gradients(parameters)
    norm = group.clip(parameters, settings.clip)
    sums = _sums(losses, group)
    tokens = int(sums.pop("tokens"))
    means = {name: value / step.weight for name, value in sums.items()}
    if not (math.isfinite(means["loss"]) and math.isfinite(norm)):
        raise _not_finite(_suspects(losses, group), means["loss"], norm, folder, done)
    for part in optimizer.param_groups:
        part["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    return {"loss": means.pop("loss"), **means, "lr": rate, "grad_norm": norm, "tokens": tokens}


def _advance(progress: Progress, metrics: Mapping[str, float]) -> Progress:
    first = progress.first_loss if progress.step else metrics["loss"]
    tokens = progress.tokens + int(metrics["tokens"])
    return Progress(step=progress.step + 1, tokens=tokens, first_loss=first, last_loss=metrics["loss"])


def _sums(losses: list[Loss], group: Group) -> dict[str, float]:
    """Loss, tokens and metrics of a step, summed over its micro-batches in all processes."""
    mine = [{"loss": float(loss.total), "tokens": loss.tokens, **loss.metrics} for loss in losses]
    sums: dict[str, float] = {}
    for micro in (micro for part in group.gather(mine) for micro in part):
        for name, value in micro.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def _suspects(losses: list[Loss], group: Group) -> list[str]:
    """The rows whose loss is not finite, or all rows of the step if only the gradient is not."""
    bad = [name for loss in losses if not torch.isfinite(loss.total) for name in loss.names]
    everywhere = [name for part in group.gather(bad) for name in part]
    return everywhere or [
        name for part in group.gather([name for loss in losses for name in loss.names]) for name in part
    ]


def _not_finite(names: list[str], loss: float, norm: float, folder: Path, done: int) -> CaiError:
    what = f"step {done + 1}: loss {loss:.4g}, gradient norm {norm:.4g} on rows {', '.join(names)}"
    return CaiError(
        what, where=str(folder), next="lower lr or take those rows out; the last checkpoint is kept"
    )


def _arithmetic(model: Any, dtype: str) -> AbstractContextManager[Any]:
    if dtype == "bfloat16":
        return torch.autocast(model.device.type, dtype=torch.bfloat16)
    return nullcontext()
