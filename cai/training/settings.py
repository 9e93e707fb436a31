"""How a training run steps: rate, schedule, batches, clipping, checkpoints. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cai.config import build, execution, key, mistyped

Schedule = Literal["cosine", "linear", "constant", "trapezoid"]
Precision = Literal["float32", "bfloat16"]

COUNTS = (
    "epochs",
    "steps",
    "tokens_per_batch",
    "batch_size",
    "accumulate",
    "checkpoint_every",
    "processes",
    "nproc",
)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A low-rank adapter in place of full training (Hu et al., arXiv 2106.09685).

    A matrix W becomes W + alpha / rank B A, and only A and B learn. B starts at zero, so training starts at
    the model itself, which is also the reference of objectives that have one. The matrices are those whose
    names end with one of `targets`, or all but the head's; of a reward model the head learns in full.
    `dropout` acts on what A reads, while it learns. An adapter is saved as peft saves it; with `merge` a
    plain model is. Of a model that is an adapter itself, the same adapter learns on.
    """

    rank: int = key(16, "columns of B")
    alpha: float | None = key(None, "scales what it adds, by alpha / rank [2 * rank]")
    dropout: float = key(0.0, "the fraction of its input that is dropped while it learns")
    targets: tuple[str, ...] = key((), "ends of the names of the layers that get one; none: all linear ones")
    merge: bool = key(False, "save a plain model, the adapter merged into it")

    @classmethod
    def from_toml(cls, value: Any, where: str) -> "Lora":
        if not isinstance(value, Mapping):
            raise mistyped(value, "a table: {rank = 16}", "lora", where.removesuffix(" lora"))
        return build(cls, value, where)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"'rank' is {self.rank}; it must be at least 1")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"'alpha' is {self.alpha}; it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"'dropout' is {self.dropout}; it must lie in [0, 1)")

    @property
    def scale(self) -> float:
        """The alpha of alpha / rank."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


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
    `dtype` is the arithmetic of the forward and backward pass; what learns and the optimizer stay float32, so
    that no update is too small to count. `save_dtype` is what the weights are saved in.
    `lora` trains an adapter in place of all weights: see `Lora`.

    `seed` orders the rows. How a run is executed, and not what it learns, say `threads` (each process's, 0:
    chosen by model size and cores), `processes` (which share every step, each with a copy of the model),
    `nproc` (the same, each with a part of it), `device`, `checkpoint_every` (steps), `checkpointing` and
    `compile`.
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
    dtype: Precision = key("float32", "arithmetic of the passes: float32 or bfloat16")
    save_dtype: Precision | None = key(None, "what weights are saved in [as the model it starts from]")
    lora: Lora | None = key(None, "train an adapter of low rank: {rank = 16, alpha = 32, ...}")
    seed: int = key(0, "orders the rows")
    device: str = execution("auto", help="where: auto, cpu, cuda or cuda:N; with several processes the CPU")
    checkpoint_every: int = execution(100, help="steps between checkpoints")
    checkpointing: bool = execution(False, help="compute layers again in the backward pass: less memory")
    compile: bool = execution(False, help="compile the layers (torch.compile)")
    threads: int = execution(0, help="CPU threads of each process; 0: chosen by model size and cores")
    processes: int = execution(1, help="processes with a copy of the model each, on the CPU")
    nproc: int = execution(1, help="processes that hold the model in parts, one a GPU (FSDP2)")

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
        if self.processes > 1 and self.nproc > 1:
            raise ValueError("'processes' and 'nproc' are both given; leave one out")
        self._check_schedule()
        if self.save_dtype is not None and self.lora is not None and not self.lora.merge:
            raise ValueError(
                "'save_dtype' has no effect on an adapter, which is float32; leave it out, or merge"
            )

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
