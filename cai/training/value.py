"""A policy and a value model side by side: what PPO trains. Only the policy is saved."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cai.engines._requests import end_tokens
from cai.errors import CaiError
from cai.training.batches import Batch, scored_states
from cai.training.models import ModelKind, load_policy, stop_at
from cai.training.scalar import load_scorer


class PolicyAndValue(torch.nn.Module):
    """A causal language model, and a copy of its backbone with one linear output that starts at zero.

    To whoever trains and saves it, it is the policy: its config, device and folder are the policy's.
    """

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy
        self.backbone = copy.deepcopy(policy.base_model)
        width = policy.config.get_text_config().hidden_size
        self.head = torch.nn.Linear(width, 1, dtype=policy.dtype, device=policy.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.policy.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.policy.dtype
        return dtype

    @property
    def config(self) -> Any:
        return self.policy.config

    @property
    def generation_config(self) -> Any:
        return self.policy.generation_config

    def save_pretrained(self, folder: Path) -> None:
        self.policy.save_pretrained(folder)

    def values(self, batch: Batch) -> Tensor:
        """What the value model expects [N] just before each scored token, in float32 or wider."""
        wide = torch.promote_types(self.dtype, torch.float32)
        before = scored_states(self.backbone, batch).to(wide)
        # Under autocast the head would be rounded to bfloat16.
        with torch.autocast(before.device.type, enabled=False):
            return functional.linear(before, self.head.weight.to(wide), self.head.bias.to(wide)).squeeze(1)

    @torch.no_grad()
    def start_from(self, folder: Path) -> None:
        """Take over backbone and head of a reward model. Raises `CaiError` when it is built otherwise."""
        scorer = load_scorer(folder, dtype=self.dtype, device=str(self.device))
        try:
            self.backbone.load_state_dict(scorer.base_model.state_dict())
        except RuntimeError as error:
            other = f"reward model '{folder}' is built otherwise than the policy, so no critic starts from it"
            raise CaiError(other, next='set critic = "policy"') from error
        self.head.weight.copy_(scorer.score.weight)

    @torch.no_grad()
    def rescale(self, mean: float, deviation: float) -> None:
        """Value what is expected of (score - `mean`) / `deviation` where the score itself was valued."""
        self.head.weight /= deviation
        self.head.bias.copy_((self.head.bias - mean) / deviation)


def end_as_answered(model: Any, tokenizer: Any, ends: set[int]) -> None:
    """Let generation stop where the rollouts' answers did; `ends`, of prompts, say nothing about that."""
    stop_at(model, tokenizer, set(end_tokens(tokenizer, model.generation_config.eos_token_id)))


def _load_both(folder: Path, device: str) -> PolicyAndValue:
    return PolicyAndValue(load_policy(folder, device=device))


ACTOR = ModelKind(load=lambda folder, device: load_policy(folder, device=device), finish=end_as_answered)
ACTOR_AND_CRITIC = ModelKind(load=_load_both, finish=end_as_answered)
