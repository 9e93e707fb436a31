"""Which rows make which optimizer step: a function of the row lengths, the settings and the seed. No torch.

Rows of like length share a micro-batch, so little is padded where a model must pad; the micro-batches of a
step are drawn at random, so a step still mixes lengths. Because all is planned from the seed, step n of a
resumed run is step n of an unbroken one.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count, islice

from cai.training.data import TokenRow
from cai.training.settings import TrainSettings
from cai.training.sharing import computed_tokens

Micro = tuple[int, ...]
Planned = tuple[Micro, ...]
# Sorting by length within pools of this many micro-batches keeps lengths alike and the neighbours of a row
# changing.
POOL = 64


def sizes(rows: Sequence[TokenRow]) -> tuple[list[int], list[str]]:
    """What `plan_steps` asks of rows: the tokens that each computes (shared ones once), and their names."""
    return [computed_tokens(row.sequences) for row in rows], [row.name for row in rows]


def plan_steps(lengths: Sequence[int], names: Sequence[str], settings: TrainSettings) -> Iterator[Planned]:
    """The optimizer steps of a whole run, each a tuple of micro-batches of row indices.

    `lengths` are the tokens that the rows compute and `names` their ids (see `sizes`). Every row appears
    once an epoch; the last step of an epoch may be smaller.
    """
    epochs = range(settings.epochs) if settings.epochs is not None else count()
    steps = (step for epoch in epochs for step in _epoch(_micros(lengths, names, settings, epoch), settings))
    return islice(steps, settings.steps)


def count_steps(lengths: Sequence[int], names: Sequence[str], settings: TrainSettings) -> int:
    """How many steps `plan_steps` makes."""
    return settings.steps or sum(1 for _ in plan_steps(lengths, names, settings))


def cut(step: Planned, pieces: int, lengths: Sequence[int]) -> Planned:
    """The same rows for `pieces` processes, of which the n-th takes every `pieces`-th micro-batch from n on.

    The largest micro-batches, by the `lengths` of their rows, are halved until all processes have equally
    many, as long as there are rows enough. What they compute side by side is of like size, and so is what
    each has in all. Halves of a micro-batch are each of like length again, and the loss of a step is a sum
    over its rows, so a cut changes nothing but rounding.
    """
    if pieces == 1:
        return step

    def tokens(micro: Micro) -> int:
        return sum(lengths[row] for row in micro)

    micros = list(step)
    while len(micros) % pieces and max(map(len, micros)) > 1:
        largest = max((micro for micro in micros if len(micro) > 1), key=tokens)
        micros.remove(largest)
        half = len(largest) // 2
        micros += [largest[:half], largest[half:]]
    micros.sort(key=tokens, reverse=True)
    # Every second round the other way about: else the first process had the largest in each.
    rounds = [micros[at : at + pieces] for at in range(0, len(micros), pieces)]
    return tuple(micro for at, some in enumerate(rounds) for micro in (some[::-1] if at % 2 else some))


def _epoch(micros: list[Micro], settings: TrainSettings) -> Iterator[Planned]:
    for at in range(0, len(micros), settings.accumulate):
        yield tuple(micros[at : at + settings.accumulate])


def _micros(lengths: Sequence[int], names: Sequence[str], settings: TrainSettings, epoch: int) -> list[Micro]:
    order = sorted(range(len(names)), key=lambda row: _key(settings.seed, epoch, "row", names[row], row))
    micros: list[Micro] = []
    for pool in _pools(order, lengths, settings):
        micros += _cut(sorted(pool, key=lambda row: lengths[row]), lengths, settings)
    return [
        micros[at]
        for at in sorted(range(len(micros)), key=lambda at: _key(settings.seed, epoch, "micro", at))
    ]


def _pools(order: list[int], lengths: Sequence[int], settings: TrainSettings) -> list[list[int]]:
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
        tokens += lengths[row]
    return pools


def _cut(rows: list[int], lengths: Sequence[int], settings: TrainSettings) -> list[Micro]:
    """Cut rows that are sorted by length into micro-batches within the budget."""
    micros: list[list[int]] = []
    tokens = 0
    for row in rows:
        more = lengths[row]
        if not micros or _full(len(micros[-1]), tokens + more, settings):
            micros.append([])
            tokens = 0
        micros[-1].append(row)
        tokens += more
    return [tuple(micro) for micro in micros]


def _full(rows: int, tokens: int, settings: TrainSettings) -> bool:
    """Whether a micro-batch of `rows` takes no other row, with which it would have `tokens`."""
    if settings.batch_size is not None:
        return rows >= settings.batch_size
    return tokens > (settings.tokens_per_batch or 0)


def _key(seed: int, epoch: int, *what: str | int) -> bytes:
    text = "\0".join(str(part) for part in (seed, epoch, *what))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
