"""PPO: cai against TRL 1.12, the last that had it. Same models, prompts and numbers, one thread.

A rollout is 64 answers of 64 tokens, learned from in minibatches of 16, in one pass or in four. Rounds are
interleaved; what counts is the ratio within a round, by CPU time. Sampled answers differ, so their losses
cannot be compared; that both do PPO is what tests/test_ppo.py is for (float64, an answer at a time). TRL's
answers are all of 64 tokens; ours may end before, which the random policy does once in 8192 tokens.

    python -m venv /tmp/trl && /tmp/trl/bin/pip install torch==2.13.0 transformers==5.23.0 trl==1.12.0
    python bench/ppo.py --trl /tmp/trl/bin/python
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from train import SHAPES, make_models, make_rows, spread, versions

HERE = Path(__file__).parent
BAR = 1.5
JOB = {"rollout": 64, "batch": 16, "tokens": 64, "rollouts": 3, "lr": 1e-5}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl", required=True, help="the Python of an environment with TRL 1.12")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["long", "short"])
    parser.add_argument("--passes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cases = {
        f"{shape}, {passes} pass{'es' * (passes > 1)}": (shape, passes)
        for shape in options.shapes
        for passes in options.passes
    }
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make_models(home)
        for shape in options.shapes:
            make_rows(home / f"{shape}.jsonl", JOB["rollout"], *SHAPES[shape])
        for _ in range(options.rounds):
            for name, (shape, passes) in cases.items():
                rounds[name].append(both(options, home, shape, passes, len(rounds[name])))
                print(name, rounds[name][-1], flush=True)
                write(options, {name: some for name, some in rounds.items() if some})


def both(options: argparse.Namespace, home: Path, shape: str, passes: int, at: int) -> dict[str, Any]:
    job = {
        **JOB,
        "reuse": passes,
        "policy": str(home / "policy"),
        "scorer": str(home / "scorer"),
        "rows": str(home / f"{shape}.jsonl"),
    }
    sides = ("cai", "trl") if at % 2 == 0 else ("trl", "cai")
    seen = {side: took(sys.executable if side == "cai" else options.trl, side, job) for side in sides}
    ratio = {what: seen["trl"][f"{what}_s"] / seen["cai"][f"{what}_s"] for what in ("cpu", "wall")}
    ratio["memory"] = seen["cai"]["peak_mb"] / seen["trl"]["peak_mb"]
    return {**seen, "ratio": ratio, "load": os.getloadavg()[0]}


def took(python: str, side: str, job: dict[str, Any]) -> Any:
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(HERE.parent)}
    command = [python, str(HERE / f"ppo_{side}.py"), json.dumps(job)]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            command, cwd=scratch, env={**os.environ, **alone}, capture_output=True, text=True
        )
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def write(options: argparse.Namespace, rounds: dict[str, list[dict[str, Any]]]) -> None:
    def summary(some: list[dict[str, Any]]) -> dict[str, Any]:
        kinds = ("cpu", "wall", "memory")
        ratios = {kind: spread([one["ratio"][kind] for one in some]) for kind in kinds}
        return {"ratio": ratios, "bar": BAR, "met": ratios["cpu"]["median"] >= BAR, "rounds": some}

    result = {
        "what": "answers sampled and learned from per CPU-second of cai over TRL 1.12, and peak memory",
        "command": f"python bench/ppo.py {' '.join(sys.argv[1:])}",
        "cases": {name: summary(some) for name, some in rounds.items()},
        "model": "Llama, 4 layers of 192, 8192 words, float32, random weights; one thread",
        "job": JOB,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "versions": {
            side: versions(python) for side, python in (("cai", sys.executable), ("trl", options.trl))
        },
    }
    (HERE / "results" / "ppo.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
