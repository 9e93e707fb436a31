"""The model on this machine, through transformers: continuous batching on the CPU or one GPU.

What an answer is computed beside does not change it. On the CPU that holds to the last bit: each thread
decodes texts of its own, and every product in a step gives a row the same result whatever the other rows are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai.chat import load_tokenizer
from cai.config import execution, key
from cai.model_folder import resolve
from cai.weights import SHORT, template_digest, weights_digest

if TYPE_CHECKING:
    from cai.engines._reward_session import RewardSession
    from cai.engines._session import LocalSession


@dataclass(frozen=True, kw_only=True)
class Local:
    """A transformers model in this process, any that loads as a causal language model; or a reward model.

    `batch` texts are in the making at once, shared out among `threads` (0: as many as there are cores).
    """

    model: str = key(help="a model folder, a bundled model, or a hub id")
    dtype: Literal["float32", "bfloat16"] = key("float32", help="precision of weights and arithmetic")
    chat_template: Path | None = key(None, help="a Jinja file in place of the model's own chat template")
    device: str = execution("auto", help="auto, cpu, cuda or cuda:N")
    batch: int = execution(256, help="texts in the making at once")
    threads: int = execution(0, help="CPU threads; 0 for all cores")

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch = {self.batch}, it must be at least 1")
        if self.threads < 0:
            raise ValueError(f"threads = {self.threads}, it must not be negative")

    def open(self) -> "LocalSession | RewardSession":
        """Load the model. Raises `CaiError`: it cannot be had or is not whole, or there is no such device."""
        # Not at the top: a run whose every step is done says so without waiting for torch.
        import torch

        from cai.engines._reward_session import RewardSession
        from cai.engines._session import LocalSession
        from cai.training.models import device_called, is_classifier, load_policy
        from cai.training.scalar import load_scorer

        folder = resolve(self.model)
        scores = is_classifier(folder)
        tokenizer = load_tokenizer(folder, self.chat_template)
        load, kind = (load_scorer, RewardSession) if scores else (load_policy, LocalSession)
        model = load(folder, getattr(torch, self.dtype), device_called(self.device))
        return kind(
            model,
            tokenizer,
            label=self.model,
            weights=weights_digest(folder)[:SHORT],
            batch=self.batch,
            threads=self.threads,
        )

    def identity(self) -> dict[str, Any]:
        """The kind of engine is part of it: under one seed, other engines sample other texts from the same
        model.
        """
        return {
            "engine": "local",
            "model": self.model,
            "weights": weights_digest(resolve(self.model)),
            "dtype": self.dtype,
            "chat_template": template_digest(self.chat_template),
        }
