"""How a training run steps: rate, schedule, batches, clipping, checkpoints. No torch."""

import math
from dataclasses import dataclass
from typing import Literal

from cai.config import execution, key

Schedule = Literal["cosine", "linear", "constant", "trapezoid"]

COUNTS = ("epochs", "steps", "tokens_per_batch", "batch_size", "accumulate", "checkpoint_every", "processes")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The loop's settings; the fields are its TOML keys.

    Length: `epochs` (passes over the rows) or `steps` (optimizer steps), not both.
    Batches: a micro-batch holds rows of like length, by `batch_size` (rows) or `tokens_per_batch` (at most so
    many tokens, shared ones counted once; a longer row is alone), not both. `accumulate` micro-batches make
    one optimizer step; its loss is the mean over all of them together.
    Rate: `warmup` is the fraction of all steps in which the rate rises linearly from 0 to `lr`. Then
    "constant" keeps it, "linear" and "cosine" let it fall to `final_lr` * `lr` at the end, and "trapezoid"
    keeps it and lets it fall linearly over the last `decay` fraction of all steps.
    AdamW: `weight_decay` applies to matrices only. Gradients are clipped to the norm `clip` (inf: never).
    `dtype` is the arithmetic of the forward and backward pass; weights and optimizer stay float32.

    `seed` orders the rows. `threads` (each process's, 0: chosen by model size and cores), `processes`,
    `device` and `checkpoint_every` (steps) change how a run is executed, not what it learns.
    """

    lr: float = key(1e-5, "the highest learning rate")
    epochs: int | None = key(None, "passes over the rows; 1 unless steps is given")
    steps: int | None = key(None, "optimizer steps, in place of epochs")
    tokens_per_batch: int | None = key(None, "the most tokens of a micro-batch")
    batch_size: int | None = key(None, "rows of a micro-batch; 16 unless tokens_per_batch is given")
    accumulate: int = key(1, "micro-batches of an optimizer step")
    schedule: Schedule = key("cosine", "how the rate falls: cosine, linear, constant or trapezoid")
    warmup: float = key(0.05, "the fraction of all steps in which the rate rises")
    decay: float | None = key(None, "trapezoid: the fraction of all steps in which the rate falls")
    final_lr: float | None = key(None, "the last rate as a fraction of lr (default 0)")
    beta1: float = key(0.9, "AdamW: decay of the mean of gradients")
    beta2: float = key(0.999, "AdamW: decay of the mean of squared gradients")
    eps: float = key(1e-8, "AdamW: added to the denominator")
    weight_decay: float = key(0.0, "AdamW: decay of the matrices")
    clip: float = key(1.0, "the largest gradient norm; inf: any")
    dtype: Literal["float32", "bfloat16"] = key("float32", "arithmetic of the passes: float32 or bfloat16")
    seed: int = key(0, "orders the rows")
    device: str = execution("auto", help="where: auto, cpu, cuda or cuda:N; with several processes the CPU")
    checkpoint_every: int = execution(100, help="steps between checkpoints")
    threads: int = execution(0, help="CPU threads of each process; 0: chosen by model size and cores")
    processes: int = execution(1, help="processes that share every step, on the CPU")

    def __post_init__(self) -> None:
        self._settle("epochs", 1, "steps")
        self._settle("batch_size", 16, "tokens_per_batch")
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"'{name}' is {value}; it must be at least 1")
        for name in ("lr", "eps", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be above 0")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must lie in [0, 1)")
        for name in ("weight_decay", "threads"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must not be negative")
        self._check_schedule()

    def _settle(self, name: str, default: int, other: str) -> None:
        """Of two ways to say the same thing one counts: `name` with its default when neither is given."""
        given = [getattr(self, key) is not None for key in (name, other)]
        if all(given):
            raise ValueError(f"'{name}' and '{other}' are both given; leave one out")
        if not any(given):
            object.__setattr__(self, name, default)

    def _check_schedule(self) -> None:
        if self.schedule == "trapezoid" and self.decay is None:
            raise ValueError("schedule = \"trapezoid\" needs 'decay'")
        if self.schedule != "trapezoid" and self.decay is not None:
            raise ValueError("'decay' is for schedule = \"trapezoid\"; leave it out")
        if self.schedule == "constant" and self.final_lr is not None:
            raise ValueError("'final_lr' has no effect with schedule = \"constant\"; leave it out")
        for name in ("warmup", "decay", "final_lr"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"'{name}' is {value}; it is a fraction and must lie in [0, 1]")
        if self.warmup + (self.decay or 0.0) > 1:
            raise ValueError("'warmup' and 'decay' together exceed all steps; make one smaller")

    def rate(self, step: int, total: int) -> float:
        """The learning rate of optimizer step `step` (from 0) of `total`."""
        warmup = self.warmup * total
        if step < warmup:
            # The first step already learns: a rate of exactly 0 would waste it.
            return self.lr * min(1.0, (step + 1) / warmup)
        low = self.final_lr or 0.0
        if self.schedule == "constant":
            return self.lr
        start = total * (1 - self.decay) if self.decay is not None else warmup
        if step < start:
            return self.lr
        left = max(0.0, (total - step) / max(total - start, 1e-9))
        left = min(1.0, left)
        if self.schedule == "cosine":
            left = (1 - math.cos(math.pi * left)) / 2
        return self.lr * (low + (1 - low) * left)
