"""cai's side of bench/train.py: one job, one process, one line of JSON."""

import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cai.chat import load_tokenizer
from cai.objectives import Objective
from cai.plugins import find
from cai.records import Candidate, Comparison, Record, Turn, user
from cai.training.data import Prepared
from cai.training.distributed import ALONE
from cai.training.fit import context_of
from cai.training.loop import accumulate, adamw, train
from cai.training.settings import TrainSettings

Rows = list[dict[str, str]]


def main() -> None:
    job = json.loads(sys.argv[1])
    rows = [json.loads(line) for line in Path(job["rows"]).read_text(encoding="utf-8").splitlines()]
    fields = {"dpo": {"beta": job["beta"], "label": "hard"}, "reward": {"label": "hard"}, "sft": {}}
    objective: Objective = find("objectives", job["task"])(**fields[job["task"]])
    folder = Path(job["model"])
    sources, _ = objective.sources(made(rows, job["task"]))
    settings = TrainSettings(
        lr=job["lr"], batch_size=job["batch"], epochs=1, schedule="constant", warmup=0, checkpoint_every=10**6
    )
    model = objective.trains.load(folder, "cpu", settings)
    data = objective.prepare(sources, load_tokenizer(folder), context_of(model))
    report = check if job["mode"] == "check" else timed
    print(json.dumps(report(objective, model, data, settings, job)))


def made(rows: Rows, task: str) -> list[Record] | list[Comparison]:
    if task == "sft":
        return [
            Record(
                id=str(at),
                prompt_id=str(at),
                prompt=(user(row["prompt"]),),
                turns=(Turn(kind="response", text=row["chosen"]),),
            )
            for at, row in enumerate(rows)
        ]
    return [
        Comparison(
            id=str(at),
            prompt_id=str(at),
            prompt=(user(row["prompt"]),),
            candidates=(Candidate(text=row["chosen"]), Candidate(text=row["rejected"])),
            annotations=(),
            probabilities=(1.0, 0.0),
        )
        for at, row in enumerate(rows)
    ]


def check(
    objective: Objective, model: Any, data: Prepared[Any], settings: TrainSettings, job: dict[str, Any]
) -> dict[str, Any]:
    """The losses of the first steps, on the rows in their order."""
    data = objective.setup(model, data, Path(), ALONE)
    optimizer = adamw(model, settings)
    losses = []
    for at in range(0, job["checked"] * job["batch"], job["batch"]):
        part = replace(data, rows=data.rows[at : at + job["batch"]])
        step = next(iter(objective.batches(model, part, settings, ALONE, 0)))
        done = accumulate(objective, model, step)
        losses.append(sum(float(loss.total) for loss in done) / step.weight)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
    return {"losses": losses}


def timed(
    objective: Objective, model: Any, data: Prepared[Any], settings: TrainSettings, job: dict[str, Any]
) -> dict[str, Any]:
    """The second epoch of two; a step more keeps the saving of the end out of it."""
    epoch = -(-len(data.rows) // settings.batch_size)  # type: ignore[operator]
    settings = replace(settings, epochs=None, steps=2 * epoch + 1)
    clock = {}

    def report(step: int, total: int, metrics: Any) -> None:
        clock[step] = time.perf_counter(), time.process_time()

    train(objective, model, data, settings, Path("run"), report=report)
    wall, cpu = (after - before for before, after in zip(clock[epoch], clock[2 * epoch], strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": len(data.rows), "wall_s": wall, "cpu_s": cpu, "peak_mb": peak}


if __name__ == "__main__":
    main()
