"""Log-probabilities under the model as training starts, computed once and kept on disk.

They stand in for a second model in memory. The file is named by a digest of the weights and the tokens, so
a run that is resumed reads what it wrote, and a run that changed computes its own.
"""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from cai.chat import Example
from cai.errors import CaiError
from cai.training.batches import collate, completion_logps
from cai.training.distributed import Group
from cai.training.durable import write_file
from cai.training.fsdp import whole
from cai.training.sharing import shared

TOKENS_PER_BATCH = 4096
# Elements that stand for a parameter in the digest: an optimizer step moves nearly every element.
ELEMENTS = 1 << 16


def reference_logps(model: Any, examples: Sequence[Example], cache: Path, group: Group) -> list[float]:
    """Summed log-probability of the trained tokens of every example, in order; each process does its share.

    Raises `CaiError` when one is not finite, naming its position.
    """
    path = cache / f"reference-{_digest(model, examples)}.pt"
    # All look before any can write, so that all choose the same branch.
    known = path.is_file()
    group.wait()
    sums = _read(path, len(examples)) if known else None
    if sums is None:
        sums = [0.0] * len(examples)
        for part in group.gather(_compute(model, examples, group)):
            for at, value in part.items():
                sums[at] = value
        if group.rank == 0:
            write_file(path, lambda temporary: torch.save(torch.tensor(sums, dtype=torch.float64), temporary))
    for at, value in enumerate(sums):
        if not torch.isfinite(torch.tensor(value)):
            what = (
                f"the starting model gives answer {at % 2 + 1} of pair {at // 2 + 1} log-probability {value}"
            )
            raise CaiError(what, next="check the model's weights")
    return sums


def _compute(model: Any, examples: Sequence[Example], group: Group) -> dict[int, float]:
    """Position -> sum, for this process's share."""
    sums: dict[int, float] = {}
    parts = micros(examples, TOKENS_PER_BATCH)
    for micro in (*group.share(parts), *group.idle(parts)):
        batch = collate([examples[at] for at in micro], [str(at) for at in micro], model.device)
        with torch.no_grad():
            logps, _ = completion_logps(model, batch)
        sums.update(zip(micro, logps.tolist(), strict=True))
    return sums


def micros(examples: Sequence[Example], budget: int) -> list[list[int]]:
    """Batches of at most `budget` computed tokens: answers to one prompt together, like lengths together."""
    groups = sorted(shared(examples), key=lambda group: max(len(examples[at].ids) for at in group[1]))
    batches: list[list[int]] = []
    tokens = 0
    for common, members in groups:
        for at in members:
            # The first of a group brings what the others share, and so does the first of a batch.
            more = len(examples[at].ids) - (0 if at == members[0] else common)
            if not batches or tokens + more > budget:
                batches.append([])
                tokens, more = 0, len(examples[at].ids)
            batches[-1].append(at)
            tokens += more
    return batches


def _read(path: Path, count: int) -> list[float] | None:
    """The sums of a file, or None if it does not hold one for every example."""
    sums = torch.load(path, weights_only=True)
    return sums.tolist() if isinstance(sums, torch.Tensor) and sums.shape == (count,) else None


def _digest(model: Any, examples: Sequence[Example]) -> str:
    total = blake2b(digest_size=16)
    total.update(f"autocast {torch.is_autocast_enabled(model.device.type)}".encode())
    for name, parameter in whole(model):
        flat = parameter.flatten()
        sample = flat[:: max(1, len(flat) // ELEMENTS)].float().cpu()
        total.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        total.update(sample.numpy().tobytes())
    for example in examples:
        total.update(repr((example.ids, example.mask)).encode())
    return total.hexdigest()
