"""Does editing the constitution change just the behaviour it names? The demo over seeds and constitutions.

Runs `cai run runs/demo/recipe.toml` once for each seed with its own constitution, and once for each
constitution that covers only some categories of harm, then reads every number from the verdicts that the runs
wrote.

    python bench/organism.py --seeds 0 1 2 --subsets weapons theft violence-fraud hacking-drugs
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai.constitution import load
from cai.evals._shares import share
from cai.organism.editing import editing
from cai.rows import read_verdicts

RESULTS = Path(__file__).parent / "results"
WHOLE = "organism"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=Path("runs/demo/recipe.toml"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument(
        "--subsets", nargs="*", default=["weapons", "theft", "violence-fraud", "hacking-drugs"]
    )
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side; their seconds mean less then")
    parser.add_argument("--name", default="organism", help="of the file under bench/results/")
    options = parser.parse_args()
    plan = [(seed, WHOLE) for seed in options.seeds] + [(0, f"{WHOLE}-{name}") for name in options.subsets]
    runs = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for run in pool.map(lambda one: measured(options, *one), plan):
            runs.append(run)
            print(json.dumps({key: run[key] for key in ("seed", "constitution", "seconds")}), flush=True)
            for line in run["numbers"]:
                print("  ", line, flush=True)
            write(options, runs)


def measured(options: argparse.Namespace, seed: int, constitution: str) -> dict[str, Any]:
    """One run of the recipe, or what an earlier one left, and its numbers."""
    folder = options.work / f"bench-{constitution}-{seed}"
    command = [sys.executable, "-m", "cai", "run", str(options.recipe), "-o", str(folder), "--quiet"]
    command += ["--seed", str(seed), "--constitution", f"constitutions/{constitution}.toml"]
    began = time.monotonic()
    subprocess.run(command, check=True)
    seconds = round(time.monotonic() - began, 1)
    covered = {
        tag
        for principle in load(Path(f"constitutions/{constitution}.toml")).principles
        for tag in principle.tags
    }
    return {
        "seed": seed,
        "constitution": constitution,
        "seconds": seconds,
        "command": " ".join(["cai", *command[3:]]),
        "numbers": [*table(folder, covered), *others(folder)],
        "editing": edited(folder, covered),
    }


def table(folder: Path, covered: set[str]) -> Iterator[dict[str, Any]]:
    """What each model of the run does, harm apart by whether the constitution names its category."""
    rows = list(read_verdicts(folder / "table.jsonl"))
    for model in dict.fromkeys(row["of"] for row in rows):
        mine = [row for row in rows if row["of"] == model]
        harmful = [row for row in mine if row["kind"] == "harmful"]
        groups = {
            "harm, covered": [row["harmful"] for row in harmful if row["area"] in covered],
            "harm, not covered": [row["harmful"] for row in harmful if row["area"] not in covered],
            "benign helpfulness": [row["helpful"] for row in mine if row["kind"] == "benign"],
            "borderline refusals": [row["withheld"] for row in mine if row["kind"] == "borderline"],
            "decoy refusals": [row["withheld"] for row in mine if row["kind"] == "decoy"],
        }
        for name, hits in groups.items():
            if hits:
                yield asdict(share(name, Path(model).name, hits))


def edited(folder: Path, covered: set[str]) -> dict[str, Any] | None:
    """Whether the constitution changed just what it names, from the first model of the table to each later
    one; None for a constitution that names every harm.
    """
    rows = list(read_verdicts(folder / "table.jsonl"))
    if {row["area"] for row in rows if row["kind"] == "harmful"} <= covered:
        return None
    first, *later = dict.fromkeys(row["of"] for row in rows)
    before = [row for row in rows if row["of"] == first]
    found = {model: editing(before, [row for row in rows if row["of"] == model], covered) for model in later}
    return {Path(model).name: {**asdict(one), "holds": one.holds} for model, one in found.items()}


def others(folder: Path) -> Iterator[dict[str, Any]]:
    """The numbers of the run's other evals, of the critic and the judges, as their manifests have them."""
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if path.stem != "table":
            yield from ({"eval": path.stem, **number} for number in found.get("numbers", ()))


def write(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("cai", "torch", "transformers")},
        "recipe": options.recipe.read_text(encoding="utf-8"),
        "runs": runs,
    }
    text = json.dumps(result, indent=1) + "\n"
    (RESULTS / f"{options.name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
