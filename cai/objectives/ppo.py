"""Proximal policy optimisation with a value model (Schulman et al., arXiv 1707.06347), as language models are
trained from feedback (Ziegler et al., arXiv 1909.08593; Bai et al., arXiv 2204.05862).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cai.config import key
from cai.errors import CaiError
from cai.objectives._advantage import explained_variance, gae, token_rewards, whiten
from cai.objectives._keys import not_negative
from cai.objectives._on_policy import Learned, OnPolicy, RolloutBatch
from cai.objectives._passes import heated, measured
from cai.objectives._prompts import Prompts
from cai.objectives._reward import RewardModel
from cai.objectives._rollout import Answer, Experience, Rollout, sampled_logps
from cai.objectives._surrogate import adapted, divergence, is_clipped, policy_loss, value_loss
from cai.training.batches import Batch
from cai.training.distributed import Group
from cai.training.models import ModelKind
from cai.training.scalar import require_same_tokenizer
from cai.training.value import ACTOR_AND_CRITIC, SHARED_ACTOR_AND_CRITIC

HORIZON = 10_000.0


@dataclass(frozen=True, kw_only=True)
class Ppo(OnPolicy):
    """Loss of a token: the clipped surrogate + `value_coef` times the clipped value loss.

    The reward of a token is -`kl_coef` times the KL estimate there, and on an answer's last token its score
    as well: as `reward` gave it, with `normalise` less its mean and over its deviation on the first rollout
    (whose answers are the starting model's), less `missing_end` for an answer without an end. Advantages are
    GAE's, whitened over the rollout with `whiten`. With `kl_target` the coefficient starts at `kl_coef` and
    follows the KL of an answer towards the target. The value model ("own") is a backbone of its own: the
    policy's with a head of zeros, or the reward model's with its head. With `value` "shared" (Ziegler et
    al.) it is a head of zeros over the policy's backbone, which then learns both: one pass in place of two.
    """

    kl: Literal["k1", "k3"] = key("k1", "the estimate of the KL from the start: k1 or k3")
    kl_coef: float = key(0.05, "what a nat of it costs")
    kl_target: float | None = key(None, "nats per answer that the coefficient is steered to")
    kl_horizon: float | None = key(None, f"answers it takes the coefficient to follow [{HORIZON:g}]")
    normalise: bool = key(True, "bring scores to mean 0 and deviation 1 on answers of the starting model")
    whiten: bool = key(True, "bring a rollout's advantages to mean 0 and deviation 1")
    whiten_rewards: bool = key(False, "bring its tokens' rewards to deviation 1, too")
    gamma: float = key(1.0, "discount of a reward by token")
    lam: float = key(0.95, "GAE: 1 trusts the rewards, 0 the value model")
    value: Literal["own", "shared"] = key("own", "the value model's backbone: its own, or the policy's")
    critic: Literal["policy", "reward"] = key("policy", "what the value model starts from")
    value_coef: float = key(0.1, "weight of the value loss")
    value_clip: float = key(0.2, "how far a value may move from the rollout's")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must lie in [0, 1]")
        for name in ("kl_target", "kl_horizon", "value_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"'{name}' is {value}; it must be above 0")
        for name in ("kl_coef", "value_coef"):
            not_negative(self, name)
        if self.kl_horizon is not None and self.kl_target is None:
            raise ValueError("'kl_horizon' has no effect without 'kl_target'; leave it out")
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("'kl_target' cannot move a coefficient of 0; set 'kl_coef' above 0")
        if self.critic == "reward" and self.value == "shared":
            raise ValueError("'critic' has no effect with value = \"shared\"; leave it out")
        if self.critic == "reward" and not isinstance(self.reward.kind, RewardModel):
            raise ValueError("critic = \"reward\" needs a reward model as the reward; leave 'critic' out")

    @property
    def trains(self) -> ModelKind:
        return SHARED_ACTOR_AND_CRITIC if self.value == "shared" else ACTOR_AND_CRITIC

    def policy(self, model: Any) -> Any:
        return model.policy

    def setup(self, model: Any, data: Prompts, cache: Any, group: Group) -> Prompts:
        kind = self.reward.kind
        if self.critic == "reward" and isinstance(kind, RewardModel):
            from cai.chat import load_tokenizer

            require_same_tokenizer(data.tokenizer, load_tokenizer(kind.folder))
            model.start_from(kind.folder)
        return super().setup(model, data, cache, group)

    def learn(
        self, model: Any, reference: Any, answers: Sequence[Answer], group: Group, before: Rollout | None
    ) -> Learned:
        carried = self._start(model, answers) if before is None else dict(before.carried)
        known = sampled_logps(model.policy, answers)

        def numbers(batch: Batch) -> dict[str, Tensor]:
            start = heated(reference, batch, self.temperature).logps
            if known is not None:
                return {"reference": start, "values": model.values(batch)}
            old = heated(model.policy, batch, self.temperature)
            return {"reference": start, "values": model.values(batch, old.states), "old": old.logps}

        found = measured([answer.example for answer in answers], numbers, model.device, group)
        olds = known or [one["old"] for one in found]
        old, reference, values = (
            pad_sequence(columns, batch_first=True)
            for columns in (olds, *([one[name] for one in found] for name in ("reference", "values")))
        )
        mask = pad_sequence([torch.ones(len(answer.tokens)) for answer in answers], batch_first=True)
        mask = mask.to(torch.int64)
        scored = torch.tensor([[answer.score is not None] for answer in answers])
        scores = torch.tensor([self._score(answer, carried) for answer in answers], dtype=old.dtype)
        kl = divergence(old, reference, self.kl) * mask
        rewards = token_rewards(scores, kl, mask, carried["kl_coef"])
        if self.whiten_rewards:
            rewards = whiten(rewards, mask, keep_mean=True)
        advantages = gae(rewards, values, mask, self.gamma, self.lam)
        returns = advantages + values
        if self.whiten:
            advantages = whiten(advantages, mask * scored)
        columns = {"old": old, "advantages": advantages, "values": values, "returns": returns}
        nats = float(kl.sum() / len(answers))
        facts = {
            "kl": nats,
            "kl_coef": carried["kl_coef"],
            "explained_variance": explained_variance(values, returns, mask),
        }
        return Learned(
            experiences=[_experience(answer, columns, at) for at, answer in enumerate(answers)],
            facts=facts,
            carried={**carried, "kl_coef": self._next(carried["kl_coef"], nats, len(answers))},
        )

    def terms(self, model: Any, batch: RolloutBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        columns = batch.columns
        seen = heated(model.policy, batch.batch, self.temperature, entropy=True)
        logps, values = seen.logps, model.values(batch.batch, seen.states)
        old, advantages = columns["old"], columns["advantages"]
        of_policy = policy_loss(logps, old, advantages, self.clip, self.clip_high)
        of_value = value_loss(values, columns["values"], columns["returns"], self.value_clip)
        with torch.no_grad():
            far = (values - columns["values"]).abs() > self.value_clip
            metrics = {
                "policy_loss": of_policy.detach(),
                "value_loss": of_value.detach(),
                "entropy": seen.entropy,
                "approx_kl": divergence(old, logps, "k3"),
                "clipped": is_clipped(logps, old, advantages, self.clip, self.clip_high),
                "value_clipped": far,
            }
        return of_policy + self.value_coef * of_value, metrics

    def _start(self, model: Any, answers: Sequence[Answer]) -> dict[str, float]:
        """What the first rollout goes on from: scores are measured on its answers, the starting model's."""
        mean, deviation = 0.0, 1.0
        if self.normalise:
            known = [one.score for one in answers if one.score is not None]
            scores = torch.tensor(known, dtype=torch.float64)
            mean = float(scores.mean())
            deviation = float(scores.std()) if len(scores) > 1 else 0.0
            if not deviation:
                alike = f"all {len(scores)} answers of the first rollout score {mean:g}"
                raise CaiError(alike, next="set normalise = false, or a reward that tells answers apart")
            if self.critic == "reward":
                model.rescale(mean, deviation)
        return {"kl_coef": self.kl_coef, "mean": mean, "deviation": deviation}

    def _score(self, answer: Answer, carried: Mapping[str, float]) -> float:
        """What is learned of an answer's score; where there is none, its weight is 0."""
        if answer.score is None:
            return 0.0
        return (answer.score - carried["mean"]) / carried["deviation"] - self.missing_end * (not answer.ended)

    def _next(self, coefficient: float, kl: float, answers: int) -> float:
        if self.kl_target is None:
            return coefficient
        return adapted(coefficient, kl, self.kl_target, self.kl_horizon or HORIZON, answers)


def _experience(answer: Answer, columns: Mapping[str, Tensor], at: int) -> Experience:
    length = len(answer.tokens)
    return Experience(
        name=answer.name,
        place=answer.place,
        example=answer.example,
        weight=0.0 if answer.score is None else answer.weight,
        columns={name: column[at, :length].clone() for name, column in columns.items()},
    )
