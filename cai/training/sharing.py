"""Which sequences begin alike, and how many tokens there are when each beginning counts once. No torch."""

from collections.abc import Sequence

from cai.chat import Example

# Sequences with fewer tokens in common share nothing: each part of a sequence costs an attention call.
LEAST_SHARED = 8


def shared(examples: Sequence[Example]) -> list[tuple[int, list[int]]]:
    """Groups of examples that share their first tokens: how many, and the positions of the examples.

    A group has one prompt (what stands before the first learned token) and shares all that is equal after
    it, too; an example that shares nothing is a group of its own with 0 tokens.
    """
    prompts: dict[tuple[int, ...], list[int]] = {}
    for at, example in enumerate(examples):
        start = example.mask.index(True) if True in example.mask else len(example.ids)
        prompts.setdefault(example.ids[:start], []).append(at)
    groups: list[tuple[int, list[int]]] = []
    for prompt, members in prompts.items():
        common = _common([examples[at].ids for at in members], len(prompt))
        if common >= LEAST_SHARED:
            groups.append((common, members))
        else:
            groups += [(0, [at]) for at in members]
    return groups


def computed_tokens(examples: Sequence[Example]) -> int:
    """How many tokens a batch of these examples computes: those that are shared once."""
    return sum(
        common + sum(len(examples[at].ids) - common for at in members) for common, members in shared(examples)
    )


def _common(sequences: Sequence[tuple[int, ...]], known: int) -> int:
    """How many first tokens are equal, of which `known` are known to be; 0 for a single sequence.

    Every sequence keeps its last token for itself, so none is all beginning.
    """
    if len(sequences) < 2:
        return 0
    most = min(map(len, sequences)) - 1
    first = sequences[0]
    at = min(known, most)
    while at < most and all(sequence[at] == first[at] for sequence in sequences):
        at += 1
    return at
