"""How good is every judge on the organism, against the oracle? Over seeds, raw and calibrated.

Answers of the start model and of a seed's SL-CAI model (made by bench/organism.py) to requests of the dev
split and of the final one meet under the constitution. Four requests of five are harmful, for to the others
both answer alike. Calibrations are fitted on dev; all else is of the final split.

    python bench/organism.py --subsets                 # makes runs/bench-organism-SEED, if they are not there
    python bench/judges.py --seeds 0 1 2 --requests 240
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai import shipped
from cai.calibrating import Sample, fit, mapped
from cai.calibration import Calibration, Method
from cai.constitution import load
from cai.evals import VerdictRow
from cai.evals._judging import verdicts_of
from cai.evals._numbers import to_json
from cai.evals._reliability import calibration_error
from cai.evals._shares import by
from cai.evals.organism_judge import OrganismJudge
from cai.rows import read_comparisons

RESULTS = Path(__file__).parent / "results"
SPLITS = ("dev", "final")
# A judge's name -> the engine that it asks, and its keys. The panel's members are judges of the table too.
PANEL = '[{ type = "reasoned", max_tokens = 120 }, { type = "score", question = "organism-rating" }]'
SAMPLES = 'name = "reasoned, 3 samples", samples = 3, temperature = 0.7, max_tokens = 120'
JUDGES = {
    "at-once": ("start", '"logprob"'),
    "panel": ("start", f'{{ type = "panel", judges = {PANEL} }}'),
    "three-samples": ("start", f'{{ type = "reasoned", {SAMPLES} }}'),
    "reward": ("rm", '"reward"'),
}
# Judges that are asked about the first requests only.
SLOW = {"three-samples": 60}
METHODS: tuple[Method, ...] = ("temperature", "isotonic")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--requests", type=int, default=240, help="of each split")
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument("--models", type=Path, default=Path("runs"), help="where bench/organism.py worked")
    parser.add_argument("--judges", nargs="*", default=list(JUDGES))
    parser.add_argument("--name", default="judges", help="of the file under bench/results/")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        runs.append(measured(options, seed))
        write(options, runs)


def measured(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One run of all judges, or what an earlier one left, and its numbers."""
    folder = options.work / f"bench-judges-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "judges.toml"
    recipe.write_text(text(options, seed), encoding="utf-8")
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "cai", "run", str(recipe)], check=True)
    rows = {split: list(verdicts(folder, split, options.judges)) for split in SPLITS}
    found = {"seed": seed, "seconds": round(time.monotonic() - began, 1), "judges": []}
    for of, final in by("of", rows["final"]).items():
        name = "panel" if of == "combined" else of.partition(" by ")[0]
        one = {"judge": name, "numbers": [to_json(one) for one in OrganismJudge.numbers(EVAL, final)]}
        found["judges"].append({**one, "calibrated": calibrated(name, by("of", rows["dev"])[of], final)})
    return {**found, "unread": {name: unread(folder, name) for name in options.judges}}


EVAL = OrganismJudge(constitution=load(shipped.find("constitutions", "organism")))


def verdicts(folder: Path, split: str, judges: Sequence[str]) -> Iterator[VerdictRow]:
    for judge in judges:
        for comparison in read_comparisons(folder / f"{split}-{judge}.jsonl"):
            yield from EVAL.work(comparison)


def calibrated(name: str, dev: Sequence[VerdictRow], final: Sequence[VerdictRow]) -> dict[str, Any]:
    """The calibration error on the final split through maps that were fitted on dev."""
    fitted_on = Sample(annotator=name, weights="", judged=tuple(verdicts_of(dev)))
    judged = verdicts_of(final)
    found: dict[str, Any] = {}
    for method in METHODS:
        made = fit(fitted_on, method, "cai.organism.gold:truth")
        value, (low, high) = calibration_error(mapped(judged, made))
        found[method] = {"value": value, "low": low, "high": high, "n": len(judged), **told(made)}
    return found


def told(made: Calibration) -> dict[str, Any]:
    fields = asdict(made)
    return {
        "fitted on": made.n,
        **({"slope": made.slope} if made.method == "temperature" else {"knots": fields["knots"]}),
    }


def unread(folder: Path, judge: str) -> dict[str, Any]:
    """What came of the pairs of the final split."""
    counts: dict[str, Any] = json.loads((folder / f"final-{judge}.json").read_text(encoding="utf-8"))[
        "counts"
    ]
    return counts


def text(options: argparse.Namespace, seed: int) -> str:
    """The recipe of one seed."""
    trained = options.models / f"bench-organism-{seed}"
    parts = [
        f'seed = {seed}\nconstitution = "constitutions/organism.toml"\n',
        '[engines.start]\ntype = "local"\nmodel = "organism"\n',
        f'[engines.sl-cai]\ntype = "local"\nmodel = "{trained}/sl-cai"\n',
    ]
    if "reward" in options.judges:
        learned = "lr = 4e-4\nepochs = 4\nbatch_size = 16\nwarmup = 0.1"
        parts.append(
            step("rm", f'train = "reward"\nmodel = "sl-cai"\nfrom = "{trained}/comparisons.jsonl"\n{learned}')
        )
    for split in SPLITS:
        source = f'from = "{requests(options, split)}"'
        for engine in ("sl-cai", "start"):
            writing = f'stage = "generate"\nengine = "{engine}"\n{source}\ntemperature = 1.0\nmax_tokens = 80'
            parts.append(step(f"{split}-of-{engine}", writing))
        for judge in options.judges:
            engine, table = JUDGES[judge]
            rivals = f'["{split}-of-sl-cai", "{split}-of-start"]'
            judging = f'stage = "compare"\nengine = "{engine}"\nfrom = {rivals}\njudge = {table}'
            if judge in SLOW:
                judging += f"\nlimit = {SLOW[judge]}"
            parts.append(step(f"{split}-{judge}", judging))
    return "\n".join(parts)


def requests(options: argparse.Namespace, split: str) -> Path:
    """A file of requests of the split, four of five harmful."""
    lines = (shipped.root("prompts/organism") / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    harmful = [line for line in lines if json.loads(line)["kind"] == "harmful"]
    others = [line for line in lines if line not in harmful]
    path = options.work / f"judged-{split}-{options.requests}.jsonl"
    many = 4 * options.requests // 5
    path.write_text("\n".join([*harmful[:many], *others[: options.requests - many]]) + "\n", encoding="utf-8")
    return path


def step(name: str, keys: str) -> str:
    return f'[[steps]]\nname = "{name}"\n{keys}\n'


def write(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("cai", "torch", "transformers")},
        "runs": runs,
    }
    written = json.dumps(result, indent=1) + "\n"
    (RESULTS / f"{options.name}.json").write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
