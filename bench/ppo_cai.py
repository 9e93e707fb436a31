"""cai's side of bench/ppo.py: one job, one process, one line of JSON."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from cai.chat import load_tokenizer
from cai.config import build
from cai.objectives.ppo import Ppo
from cai.records import prompt_from
from cai.training.fit import context_of
from cai.training.loop import train
from cai.training.settings import TrainSettings


def main() -> None:
    job = json.loads(sys.argv[1])
    keys = {"rollout": job["rollout"], "reuse": job["reuse"], "max_tokens": job["tokens"]}
    objective = build(Ppo, {"reward": job["scorer"], "critic": "reward", **keys}, "bench")
    lines = Path(job["rows"]).read_text(encoding="utf-8").splitlines()
    rows = [prompt_from({"prompt": json.loads(line)["prompt"]}, None, "bench") for line in lines]
    sources, _ = objective.sources(rows)
    steps_a_rollout = job["reuse"] * job["rollout"] // job["batch"]
    settings = TrainSettings(
        lr=job["lr"],
        batch_size=job["batch"],
        # A step more keeps the saving of the end out of it; it needs a rollout more, which is not timed.
        steps=job["rollouts"] * steps_a_rollout + 1,
        epochs=None,
        schedule="constant",
        warmup=0,
        checkpoint_every=10**6,
    )
    folder = Path(job["policy"])
    model = objective.trains.load(folder, "cpu", settings)
    data = objective.prepare(sources, load_tokenizer(folder), context_of(model))
    clock: dict[int, tuple[float, float]] = {}

    def report(step: int, total: int, metrics: Any) -> None:
        clock[step] = time.perf_counter(), time.process_time()

    train(objective, model, data, settings, Path("run"), report=report)
    first, last = clock[steps_a_rollout], clock[job["rollouts"] * steps_a_rollout]
    wall, cpu = (after - before for before, after in zip(first, last, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers = job["rollout"] * (job["rollouts"] - 1)
    print(json.dumps({"answers": answers, "wall_s": wall, "cpu_s": cpu, "peak_mb": peak}))


if __name__ == "__main__":
    main()
