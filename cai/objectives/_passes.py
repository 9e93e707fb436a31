"""Forward passes over answers: log-probabilities at the sampling temperature, and numbers for every token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from cai.chat import Example
from cai.objectives._rollout import Experience
from cai.objectives._surrogate import divergence
from cai.training import forward
from cai.training.batches import Batch, collate
from cai.training.distributed import Group
from cai.training.head import head_logps, head_logps_and_entropy
from cai.training.reference import TOKENS_PER_BATCH, micros

# What is computed of so few tokens stays in a CPU's cache until the backward pass wants it. Measured on a
# model 192 wide: answers with their prompts of 264 tokens take 0.8 of the time that they take 16 at once.
CACHED_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Heated:
    """Of every sampled token its log-probability [N], and the hidden state [N, H] that it was read from.

    `entropy` [N] is that of what it was sampled from, without a gradient; empty if it was not asked for.
    """

    logps: Tensor
    entropy: Tensor
    states: Tensor


def heated(policy: Any, batch: Batch, temperature: float, *, entropy: bool = False) -> Heated:
    """Of softmax(logits / temperature), which is what the rollout sampled; in float32 or wider.

    Where the head is one matrix, the logits of all tokens are never in memory at once.
    """
    head = forward.plain_head(policy)
    if head is None:
        states, logits = forward.states_and_logits(policy, batch.sequences, batch.scored)
        logps, spread = _tempered(logits, batch.targets, temperature)
        return Heated(logps=logps, entropy=spread, states=states)
    states = forward.states(policy, batch.sequences, batch.scored)
    if entropy:
        logps, spread = head_logps_and_entropy(states, head, batch.targets, temperature)
        return Heated(logps=logps, entropy=spread, states=states)
    logps = head_logps(states, head, batch.targets, temperature)
    return Heated(logps=logps, entropy=logps.new_empty(0), states=states)


def _tempered(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    logps = wide.log_softmax(-1)
    with torch.no_grad():
        entropy = -(logps.exp() * logps).sum(-1)
    return logps.gather(-1, targets[:, None])[:, 0], entropy


@torch.no_grad()
def measured(
    examples: Sequence[Example],
    numbers: Callable[[Batch], Mapping[str, Tensor]],
    device: torch.device,
    group: Group,
) -> list[dict[str, Tensor]]:
    """For every example, in order, what `numbers` gives by name for each of its answer's tokens; each process
    does its share of the work.
    """
    mine: dict[int, dict[str, Tensor]] = {}
    for micro in group.share(micros(examples, TOKENS_PER_BATCH)):
        batch = collate([examples[at] for at in micro], [str(at) for at in micro], device)
        lengths = [sum(examples[at].mask) for at in micro]
        for name, number in numbers(batch).items():
            found = torch.split(number.cpu(), lengths)
            for at, part in zip(micro, found, strict=True):
                mine.setdefault(at, {})[name] = part.clone()
    whole: dict[int, dict[str, Tensor]] = {}
    for theirs in group.gather(mine):
        whole.update(theirs)
    return [whole[at] for at in range(len(examples))]


def pieces(micro: Sequence[Experience], device: torch.device, group: Group) -> list[list[Experience]]:
    """A micro-batch cut between prompts, on a CPU, into parts of few enough tokens for its cache.

    The loss of a step is a sum over its answers, so a cut changes nothing but rounding. Of several processes
    each has to have as many passes as the others: there nothing is cut.
    """
    if device.type != "cpu" or group.world > 1:
        return [[*micro]]
    found: list[list[Experience]] = []
    tokens = 0
    for _, answers in groupby(micro, key=lambda one: one.place):
        alike = [*answers]
        more = sum(len(one.example.ids) for one in alike)
        if not found or tokens + more > CACHED_TOKENS:
            found.append([])
            tokens = 0
        found[-1] += alike
        tokens += more
    return found


def moved(old: Sequence[Tensor], now: Sequence[Tensor]) -> float:
    """KL(pi_old || pi) per token, estimated on the tokens that pi_old sampled (k3)."""
    return float(divergence(torch.cat(list(old)), torch.cat(list(now)), "k3").mean())
