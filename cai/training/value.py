"""A policy and a value model: what PPO trains. Only the policy is saved.

Nothing could be done with the value model afterwards: it expects the rewards of this run, normalised as they
were in it, from the policies on the way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cai.engines._requests import end_tokens
from cai.errors import CaiError
from cai.training.batches import Batch, scored_states
from cai.training.fsdp import part_of
from cai.training.lora import is_adapted
from cai.training.models import ModelKind, apart, start_policy, stop_at
from cai.training.scalar import load_scorer
from cai.training.settings import TrainSettings


class PolicyAndValue(torch.nn.Module):
    """A causal language model, and a linear output that starts at zero, over a backbone of its own or, if it
    is `shared`, over the policy's.

    A backbone of its own starts as the policy's, and what does not learn (under an adapter) it has in common
    with that. To whoever trains it, it is the policy: its config and device are the policy's.
    """

    def __init__(self, policy: Any, *, shared: bool = False) -> None:
        super().__init__()
        self.policy = policy
        self.backbone = None if shared else apart(policy.base_model)
        width = policy.config.get_text_config().hidden_size
        wide = torch.promote_types(policy.dtype, torch.float32)
        self.head = torch.nn.Linear(width, 1, dtype=wide, device=policy.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    @property
    def passed(self) -> tuple[Any, ...]:
        """The models in it whose passes are computed."""
        return (self.policy,) if self.backbone is None else (self.policy, self.backbone)

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

    def values(self, batch: Batch, states: Tensor | None = None) -> Tensor:
        """What is expected [N] where the next token is scored, in float32 or wider.

        `states` [N, H] are the policy's there, if they are known already; a shared backbone is read there.
        """
        if self.backbone is not None:
            before = scored_states(self.backbone, batch)
        else:
            before = scored_states(self.policy, batch) if states is None else states
        # Under autocast the head would be rounded to bfloat16.
        with torch.autocast(before.device.type, enabled=False):
            values = functional.linear(before.to(self.head.weight), self.head.weight, self.head.bias)
        return values.squeeze(1)

    @torch.no_grad()
    def start_from(self, folder: Path) -> None:
        """Take over backbone and head of a reward model. Raises `CaiError` when it is built otherwise."""
        if self.backbone is None:
            raise ValueError("a shared backbone is the policy's")
        if is_adapted(self.policy):
            fixed = "with 'lora' the critic has the policy's weights, so it cannot start from a reward model"
            raise CaiError(fixed, next='set critic = "policy", or train without lora')
        scorer = load_scorer(folder, dtype=self.dtype, device=str(self.device))
        mine, theirs = self.backbone.state_dict(), scorer.base_model.state_dict()
        if _shapes(mine) != _shapes(theirs):
            other = f"reward model '{folder}' is built otherwise than the policy, so no critic starts from it"
            raise CaiError(other, next='set critic = "policy"')
        for name, weight in mine.items():
            weight.copy_(part_of(theirs[name], weight))
        self.head.weight.copy_(scorer.score.weight)

    @torch.no_grad()
    def rescale(self, mean: float, deviation: float) -> None:
        """Value what is expected of (score - `mean`) / `deviation` where the score itself was valued."""
        self.head.weight /= deviation
        self.head.bias.copy_((self.head.bias - mean) / deviation)


def end_as_answered(model: Any, tokenizer: Any, ends: set[int]) -> None:
    """Let generation stop where the rollouts' answers did; `ends`, of prompts, say nothing about that."""
    stop_at(model, tokenizer, set(end_tokens(tokenizer, model.generation_config.eos_token_id)))


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _start_both(folder: Path, device: str, settings: TrainSettings) -> PolicyAndValue:
    return PolicyAndValue(start_policy(folder, device, settings))


def _start_shared(folder: Path, device: str, settings: TrainSettings) -> PolicyAndValue:
    return PolicyAndValue(start_policy(folder, device, settings), shared=True)


def _policy(both: PolicyAndValue) -> Any:
    return both.policy


ACTOR = ModelKind(load=start_policy, finish=end_as_answered)
ACTOR_AND_CRITIC = ModelKind(load=_start_both, finish=end_as_answered, saved=_policy)
SHARED_ACTOR_AND_CRITIC = ModelKind(load=_start_shared, finish=end_as_answered, saved=_policy)
