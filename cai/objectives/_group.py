"""What GRPO and RLOO share: the answers to a prompt are each other's baseline, so there is no value model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cai.config import key
from cai.objectives._keys import not_negative
from cai.objectives._on_policy import Learned, OnPolicy, RolloutBatch
from cai.objectives._passes import heated, measured
from cai.objectives._rollout import Answer, Experience, Rollout, sampled_logps
from cai.objectives._surrogate import divergence, is_clipped, policy_loss
from cai.training.batches import Batch
from cai.training.distributed import Group
from cai.training.models import ModelKind
from cai.training.value import ACTOR


@dataclass(frozen=True, kw_only=True)
class GroupObjective(OnPolicy):
    """Loss of a token: the clipped surrogate with its answer's advantage + `beta` times a KL estimate.

    With `kl` "k2" the gradient of that term is, on fresh answers, that of KL(pi || pi_ref), and the optimum
    is pi_ref exp(r / beta) / Z. "k3", which GRPO was published with, has the gradient of KL(pi_ref || pi):
    its optimum is beta pi_ref / (c - r). `missing_end` is taken off a score before answers are compared.
    """

    trains: ClassVar[ModelKind] = ACTOR

    samples: int = key(8, "answers to each prompt")
    reuse: int = key(1, "passes over the answers of a rollout")
    beta: float = key(0.05, "weight of the KL from the start")
    kl: Literal["k2", "k3"] = key("k2", "its estimate in the loss: k2 or k3")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise ValueError(f"'samples' is {self.samples}; answers are compared, so it must be at least 2")
        not_negative(self, "beta")

    def advantages(self, scores: Tensor) -> Tensor:
        """Of the scores [1, K] of one group, how good each answer was."""
        raise NotImplementedError

    def learn(
        self, model: Any, reference: Any, answers: Sequence[Answer], group: Group, before: Rollout | None
    ) -> Learned:
        known = sampled_logps(model, answers)
        passes = {"reference": reference, **({"old": model} if known is None else {})}

        def numbers(batch: Batch) -> dict[str, Tensor]:
            return {name: heated(one, batch, self.temperature).logps for name, one in passes.items()}

        found = measured([answer.example for answer in answers], numbers, model.device, group)
        if known is not None:
            found = [{**one, "old": old} for one, old in zip(found, known, strict=True)]
        groups = groupby(answers, key=lambda one: one.place)
        good = [advantage for _, each in groups for advantage in self._compare([*each])]
        experiences = [
            Experience(
                name=answer.name,
                place=answer.place,
                example=answer.example,
                weight=0.0 if advantage is None else answer.weight,
                columns={**columns, "advantages": torch.full_like(columns["old"], advantage or 0.0)},
            )
            for answer, advantage, columns in zip(answers, good, found, strict=True)
        ]
        nats = sum(float((one["old"] - one["reference"]).sum()) for one in found)
        return Learned(
            experiences=experiences,
            facts={"kl": nats / len(answers), "alike": _alike(good)},
            carried={},
        )

    def terms(self, model: Any, batch: RolloutBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        columns = batch.columns
        seen = heated(model, batch.batch, self.temperature, entropy=True)
        logps = seen.logps
        old, advantages = columns["old"], columns["advantages"]
        of_policy = policy_loss(logps, old, advantages, self.clip, self.clip_high)
        of_kl = divergence(logps, columns["reference"], self.kl)
        metrics = {
            "policy_loss": of_policy.detach(),
            "kl_loss": of_kl.detach(),
            "entropy": seen.entropy,
            "approx_kl": divergence(old, logps.detach(), "k3"),
            "clipped": is_clipped(logps.detach(), old, advantages, self.clip, self.clip_high),
        }
        return of_policy + self.beta * of_kl, metrics

    def _compare(self, answers: Sequence[Answer]) -> list[float | None]:
        """The advantage of each answer to one prompt; None for one without a score or a scored rival."""
        scores = [
            None if one.score is None else one.score - self.missing_end * (not one.ended) for one in answers
        ]
        known = [score for score in scores if score is not None]
        if len(known) < 2:
            return [None] * len(answers)
        found = iter(self.advantages(torch.tensor([known], dtype=torch.float64))[0].tolist())
        return [None if score is None else next(found) for score in scores]


def _alike(advantages: Sequence[float | None]) -> float:
    """The share of answers that teach nothing: no better and no worse than the others to their prompt."""
    return sum(not advantage for advantage in advantages) / len(advantages)
