"""Which rows make which optimizer step: a function of the row lengths, the settings and the seed. No torch.

Rows of like length share a micro-batch, so little is padded; the micro-batches of a step are drawn at
random, so a step still mixes lengths. Because all is planned from the seed, step n of a resumed run is step
n of an unbroken one.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count, islice

from cai.training.settings import TrainSettings

Micro = tuple[int, ...]
Planned = tuple[Micro, ...]
# Sorting by length within pools of this many micro-batches keeps padding low and the neighbours of a row
# changing.
POOL = 64


def plan_steps(
    lengths: Sequence[int], names: Sequence[str], settings: TrainSettings, width: int = 1
) -> Iterator[Planned]:
    """The optimizer steps of a whole run, each a tuple of micro-batches of row indices.

    `lengths` are the rows' padded lengths in tokens, `names` their ids, `width` how many sequences a row
    takes (2 for a pair). Every row appears once an epoch; the last step of an epoch may be smaller.
    """
    epochs = range(settings.epochs) if settings.epochs is not None else count()
    steps = (
        step for epoch in epochs for step in _epoch(_micros(lengths, names, settings, width, epoch), settings)
    )
    return islice(steps, settings.steps)


def count_steps(lengths: Sequence[int], names: Sequence[str], settings: TrainSettings, width: int = 1) -> int:
    """How many steps `plan_steps` makes."""
    return settings.steps or sum(1 for _ in plan_steps(lengths, names, settings, width))


def cut(step: Planned, pieces: int) -> Planned:
    """The same rows in at least `pieces` micro-batches where there are rows enough, so that none idles.

    Halves of a micro-batch are each of like length again. The loss of a step is a sum over its rows, so a
    cut changes nothing but rounding.
    """
    micros = list(step)
    while len(micros) < pieces and max(map(len, micros)) > 1:
        largest = micros.pop(max(range(len(micros)), key=lambda at: len(micros[at])))
        half = len(largest) // 2
        micros += [largest[:half], largest[half:]]
    return tuple(micros)


def _epoch(micros: list[Micro], settings: TrainSettings) -> Iterator[Planned]:
    for at in range(0, len(micros), settings.accumulate):
        yield tuple(micros[at : at + settings.accumulate])


def _micros(
    lengths: Sequence[int], names: Sequence[str], settings: TrainSettings, width: int, epoch: int
) -> list[Micro]:
    order = sorted(range(len(names)), key=lambda row: _key(settings.seed, epoch, "row", names[row], row))
    micros: list[Micro] = []
    for pool in _pools(order, lengths, settings, width):
        micros += _cut(sorted(pool, key=lambda row: lengths[row]), lengths, settings, width)
    return [
        micros[at]
        for at in sorted(range(len(micros)), key=lambda at: _key(settings.seed, epoch, "micro", at))
    ]


def _pools(order: list[int], lengths: Sequence[int], settings: TrainSettings, width: int) -> list[list[int]]:
    if settings.batch_size is not None:
        size = POOL * settings.batch_size
        return [order[at : at + size] for at in range(0, len(order), size)]
    pools: list[list[int]] = [[]]
    tokens = 0
    for row in order:
        if tokens >= POOL * (settings.tokens_per_batch or 0):
            pools.append([])
            tokens = 0
        pools[-1].append(row)
        tokens += width * lengths[row]
    return pools


def _cut(rows: list[int], lengths: Sequence[int], settings: TrainSettings, width: int) -> list[Micro]:
    """Cut rows that are sorted by length into micro-batches within the budget."""
    micros: list[Micro] = []
    start = 0
    for at in range(1, len(rows) + 1):
        full = at == len(rows)
        if not full and settings.batch_size is not None:
            full = at - start >= settings.batch_size
        elif not full:
            # The row about to join is the longest, so it sets the padded length of all.
            full = (at - start + 1) * width * lengths[rows[at]] > (settings.tokens_per_batch or 0)
        if full:
            micros.append(tuple(rows[start:at]))
            start = at
    return micros


def _key(seed: int, epoch: int, *what: str | int) -> bytes:
    text = "\0".join(str(part) for part in (seed, epoch, *what))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
