"""Training curves, from the metrics.jsonl of each trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path

import jsonlines

from cai.report.page.shapes import Chart, Point, Series

# A line on a screen shows no more.
MOST_POINTS = 400
# Measures of one kind share a chart; what is not named here has one of its own.
TOGETHER: Mapping[str, tuple[str, ...]] = {
    "loss": ("loss",),
    "reward": ("reward",),
    "KL": ("kl",),
    "accuracy": ("accuracy",),
    "margin": ("margin",),
    "log-ratio to the reference": ("ratio_a", "ratio_b"),
    "scores": ("score_a", "score_b"),
    "policy and value loss": ("policy_loss", "value_loss"),
    "share clipped": ("clipped", "value_clipped"),
}
_COUNTS = ("step", "tokens", "rollout")


def curves(folder: Path, name: str) -> list[Chart]:
    """One chart for each kind of measure of a training, those that stayed as they were named in the first;
    none where it left no metrics."""
    rows = _rows(folder / "metrics.jsonl")
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _COUNTS]
    constant = {
        key: values.pop() for key in keys if len(values := {row[key] for row in rows if key in row}) == 1
    }
    moving = [key for key in keys if key not in constant]
    kinds = {title: [key for key in some if key in moving] for title, some in TOGETHER.items()}
    grouped = {key for some in kinds.values() for key in some}
    kinds |= {key.replace("_", " "): [key] for key in moving if key not in grouped}
    charts = [_chart(name, title, some, rows) for title, some in kinds.items() if some]
    if charts and constant and len(rows) > 1:
        same = ", ".join(f"{key} {value:g}" for key, value in constant.items())
        charts[0] = replace(charts[0], about=f"{charts[0].about} The same at every step: {same}.".strip())
    return charts


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with jsonlines.open(path) as reader:
        rows = list(reader.iter(type=dict, skip_empty=True))
    return [{key: float(value) for key, value in row.items() if _is_measured(value)} for row in rows]


def _is_measured(value: object) -> bool:
    """Whether there is a point to draw: a step may leave a measure out, or have it at nan."""
    return isinstance(value, int | float) and isfinite(value)


def _chart(name: str, title: str, keys: Sequence[str], rows: Sequence[Mapping[str, float]]) -> Chart:
    series = tuple(Series(name=key, points=_thinned(key, rows)) for key in keys)
    stride = _stride(len(rows))
    about = f"Each point is the mean of {stride} steps." if stride > 1 else ""
    return Chart(title=f"{name}: {title}", about=about, kind="line", x="step", y="", series=series)


def _stride(rows: int) -> int:
    return max(1, -(-rows // MOST_POINTS))


def _thinned(key: str, rows: Sequence[Mapping[str, float]]) -> tuple[Point, ...]:
    """The measure over the steps; of a long training the means of equally many steps each."""
    held = [(row["step"], row[key]) for row in rows if key in row and "step" in row]
    stride = _stride(len(rows))
    points = []
    for start in range(0, len(held), stride):
        some = held[start : start + stride]
        points.append(Point(x=some[-1][0], y=sum(value for _, value in some) / len(some)))
    return tuple(points)
