"""What each choice of the method does, on the model organism, over seeds: the ablations of Bai et al. 2022.

One `cai sweep` a question, all with the same store, so that what they have in common is made once.

    python bench/ablations.py --seeds 3 --jobs 4
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SUPERVISED, FEEDBACK = "runs/ablations-sl/recipe.toml", "runs/ablations-rl/recipe.toml"
NARROW, GENERAL = "constitutions/organism-narrow.toml", "constitutions/organism.toml"
FEWER = ",".join(
    f"constitutions/organism-{name}.toml" for name in ("1-principle", "2-principles", "4-principles")
)


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A question, the recipe that answers it, and what is varied in it."""

    name: str
    recipe: str
    vary: Sequence[str]
    each: bool = False


ABLATIONS = (
    Ablation(name="rounds", recipe=SUPERVISED, vary=("steps.revisions.rounds=0,1,2,3,4",)),
    Ablation(
        name="rounds-general",
        recipe=SUPERVISED,
        vary=(f"constitution={GENERAL}", "steps.revisions.rounds=0,1,4"),
    ),
    Ablation(
        name="critique",
        recipe=SUPERVISED,
        vary=(f"constitution={NARROW},{GENERAL}", "steps.revisions.critique=true,false"),
    ),
    Ablation(name="principles", recipe=SUPERVISED, vary=(f"constitution={GENERAL},{FEWER}",)),
    Ablation(name="learn-from", recipe=SUPERVISED, vary=("steps.sl-cai.learn_from=last,all",)),
    Ablation(name="mix", recipe=SUPERVISED, vary=("steps.sl-cai.shares=[1,1],[1,0.02],[1,0.25],[1,4]",)),
    Ablation(
        name="labels",
        recipe=FEEDBACK,
        vary=("steps.rl-cai.label=soft,hard", "steps.comparisons.judge.clamp=,[0.4,0.6]"),
        each=True,
    ),
    Ablation(name="orders", recipe=FEEDBACK, vary=("steps.comparisons.judge.orders=both,first",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", nargs="*", default=[one.name for one in ABLATIONS])
    parser.add_argument("--limit", type=int, help="rows of each request set, for a trial")
    parser.add_argument("--name", default="ablations", help="of the file under bench/results/")
    options = parser.parse_args()
    load = [os.getloadavg()[0]]
    sweeps = {one.name: swept(one, options) for one in ABLATIONS if one.name in options.only}
    load.append(os.getloadavg()[0])
    write(options, sweeps, load)


def swept(ablation: Ablation, options: argparse.Namespace) -> dict[str, Any]:
    """One sweep, or what is left of it, and what it came to."""
    folder = options.work / ablation.name
    command = ["cai", "sweep", ablation.recipe, "-o", str(folder), "--store", str(options.work / "steps")]
    command += [part for one in ablation.vary for part in ("--set", one)]
    command += ["--seeds", str(options.seeds), "--jobs", str(options.jobs)]
    command += ["--each"] if ablation.each else []
    command += ["--limit", str(options.limit)] if options.limit else []
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", *command], check=True)
    seconds = round(time.monotonic() - began, 1)
    found = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    kept = {part: [line for line in found[part] if not line["group"]] for part in ("lines", "changes")}
    whole = {key: found[key] for key in ("recipe", "seeds", "axes", "groups", "headline", "steps")}
    return {"command": " ".join(command), "seconds": seconds, **whole, **kept}


def write(options: argparse.Namespace, sweeps: dict[str, Any], load: list[float]) -> None:
    RESULTS.mkdir(exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    seconds = round(sum(sweep["seconds"] for sweep in sweeps.values()), 1)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "load_before_and_after": load,
        },
        "versions": {name: version(name) for name in ("cai", "torch", "transformers")},
        "seconds": seconds,
        "sweeps": sweeps,
    }
    text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    (RESULTS / f"{options.name}.json").write_text(text, encoding="utf-8")
    print(f"{seconds:.0f} seconds in all")


if __name__ == "__main__":
    main()
