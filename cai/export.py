"""Rows in the shapes that other libraries train on, written whole or not at all."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonlines

from cai.counts import reasons
from cai.encoding import encode
from cai.errors import CaiError
from cai.records import Comparison, Record, assistant
from cai.training.data import conversations, preferences

Exported = Iterable[Mapping[str, Any] | str]


def trl(comparisons: Iterable[Comparison]) -> Exported:
    """Conversational preference rows {prompt, chosen, rejected, probability}, best candidate against worst.

    `probability` is that of the chosen one among the two, in [0.5, 1]. What makes no row comes as the reason.
    """
    for comparison in comparisons:
        pairs, left_out = preferences([comparison])
        yield from left_out
        for pair in pairs:
            if pair.p_a == 0.5:
                yield "tie"
                continue
            yield {
                "prompt": list(pair.prompt),
                "chosen": [assistant(pair.a)],
                "rejected": [assistant(pair.b)],
                "probability": pair.p_a,
            }


def sft(records: Iterable[Record]) -> Exported:
    """Conversations {messages} ending with the newest answer. What makes no row comes as the reason."""
    for record in records:
        rows, left_out = conversations([record])
        yield from left_out
        for row in rows:
            yield {"messages": list(row.messages)}


FORMATS: Mapping[str, tuple[type, Callable[[Iterable[Any]], Exported]]] = {
    "trl": (Comparison, trl),
    "sft": (Record, sft),
}


def write(rows: Exported, path: Path) -> tuple[int, dict[str, int]]:
    """Write the rows; how many they are, and how many were left out by reason. `CaiError` if that is all."""
    count = 0
    left_out: Counter[str] = Counter()
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file, jsonlines.Writer(file, dumps=encode) as writer:
        for row in rows:
            if isinstance(row, str):
                left_out[row] += 1
                continue
            writer.write(row)
            count += 1
    if left_out and not count:
        temporary.unlink()
        what = f"nothing to write: every row was left out ({reasons(left_out)})"
        raise CaiError(what, where=str(path), next="give a file with other rows")
    os.replace(temporary, path)
    return count, dict(left_out)
