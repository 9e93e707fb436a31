"""How the rows of several files are mixed in training: by a weight for each row, or by each file's share."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai.counts import reasons
from cai.errors import CaiError
from cai.rows import read_rows
from cai.steps import TrainStep


def mixed(step: TrainStep) -> tuple[list[Any], Counter[str]]:
    """What a training step learns from, file after file, and what was left out by reason.

    Raises `CaiError` where that is every row.
    """
    parts: list[list[Any]] = []
    left_out: Counter[str] = Counter()
    for path, weight in zip(step.inputs, step.weights, strict=True):
        rows, dropped = step.objective.sources(read_rows(path, step.objective.takes), weight)
        parts.append(list(rows))
        left_out.update(dropped)
    if left_out and not any(parts):
        what = f"every row was left out ({reasons(left_out)})"
        files = ", ".join(map(str, step.inputs))
        raise CaiError(what, where=files, next="give a file with usable rows")
    if step.shares is not None:
        parts = by_share(parts, step.shares, step.inputs)
    return [row for rows in parts for row in rows], left_out


def by_share(parts: Sequence[list[Any]], shares: Sequence[float], paths: Sequence[Path]) -> list[list[Any]]:
    """The rows of each file with their weights scaled, so that a file's weights come to its share of all.

    Over all rows the mean weight stays what it was. Raises `CaiError` for a file without a row to weigh.
    """
    whole = sum(row.weight for rows in parts for row in rows)
    scaled = []
    for rows, share, path in zip(parts, shares, paths, strict=True):
        own = sum(row.weight for row in rows)
        if not own:
            empty = "none of its rows can be learned from, and it is to have a share"
            raise CaiError(empty, where=str(path), next="take it out, or see why its rows were left out")
        factor = share / sum(shares) * whole / own
        scaled.append([dataclasses.replace(row, weight=row.weight * factor) for row in rows])
    return scaled
