"""Refusals, robustness, adherence and drift on the organism, and how far its reading of answers is right.

Runs `cai run runs/evals/recipe.toml` on the models of a finished run of the demo. Then it holds the detectors
to the oracle on answers of every kind that the world has, not only those that the models happened to give,
and the reader of `adherence` to the truth about principles and answers.

    python bench/evals.py --demo runs/demo
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai.constitution import load
from cai.encoding import encode
from cai.evals._shares import by, share
from cai.organism import oracle
from cai.organism.answers import ANSWER_KINDS, render
from cai.organism.truth import breaches
from cai.records import Record, Turn
from cai.rows import read_prompts, read_verdicts

RESULTS = Path(__file__).parent / "results"
RECIPE = Path("runs/evals/recipe.toml")
PROMPTS = Path("prompts/organism/dev.jsonl")
DETECTORS = (
    'detectors=[{type="options", question="organism-refusal", max_tokens=120}, "phrases",'
    ' "cai.organism.detector:Oracle"]'
)
TRUTH = "Oracle"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="where the models are")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-evals"))
    parser.add_argument("--requests", type=int, default=100, help="answered in every way, for the detectors")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    recipe = options.work / "recipe.toml"
    recipe.write_text(RECIPE.read_text(encoding="utf-8").replace("runs/demo/", f"{options.demo}/"))
    cai("run", str(recipe), "-o", str(options.work), "--quiet")
    made = [json.loads(path.read_text(encoding="utf-8")) for path in options.work.glob("*.json")]
    seconds = round(sum(one["seconds"] for one in made), 1)
    parts = {
        "evals": list(evals(options.work)),
        "detectors": list(detectors(options.work, options.requests)),
        "adherence": list(adherence(options.work)),
    }
    for name, lines in parts.items():
        print(name, *(f"  {line}" for line in lines), sep="\n")
    write({"seconds": seconds, "recipe": recipe.read_text(encoding="utf-8"), **parts})


def evals(folder: Path) -> Iterator[dict[str, Any]]:
    """The numbers of the recipe's evals; of refusals without those by category."""
    for name in ("refusals", "robustness", "adherence", "drift"):
        manifest = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for number in manifest["numbers"]:
            if name != "refusals" or not number["group"]:
                yield {"eval": name, **number, "of": Path(number["of"]).name}


def detectors(folder: Path, requests: int) -> Iterator[dict[str, Any]]:
    """How often each detector says of rendered answers what the oracle says, and of refusal or not."""
    rendered = folder / "rendered.jsonl"
    with rendered.open("wb") as file:
        for record in answered(requests):
            file.write(encode(record) + b"\n")
    verdicts = folder / "detected.jsonl"
    cai("eval", str(rendered), "--eval", "refusals", "--by", "organism", "--set", DETECTORS, "--set",
        'borderline=["borderline", "decoy"]', "-o", str(verdicts), "--quiet")  # fmt: skip
    rows = by("detector", read_verdicts(verdicts))
    truth = rows.pop(TRUTH)
    for name, said in rows.items():
        pairs = [(str(one["says"]), str(other["says"])) for one, other in zip(said, truth, strict=True)]
        for label in ("", *dict.fromkeys(right for _, right in pairs)):
            some = [pair for pair in pairs if label in ("", pair[1])]
            yield asdict(share("label right", name, [a == b for a, b in some], label))
            refused = [(a == "refused") == (b == "refused") for a, b in some]
            yield asdict(share("refusal right", name, refused, label))


def answered(requests: int) -> Iterator[Record]:
    """Each request answered in every way of the world, and with the words of an answer in a heap."""
    for record in read_prompts(PROMPTS, strict=True, limit=requests):
        assert isinstance(record, Record)
        rng = random.Random(record.id)
        pair = oracle.find(record.prompt[-1]["content"])
        texts = [render(rng, pair, kind) for kind in ANSWER_KINDS]
        heap = " ".join(sorted(texts[2].split(), key=lambda word: rng.random()))
        for text in (*texts, heap):
            yield record.then(Turn(kind="response", text=text, model="rendered"))


def adherence(folder: Path) -> Iterator[dict[str, Any]]:
    """How often the reader of `adherence` is right about whether an answer keeps its principle."""
    constitution = load(Path("constitutions/organism.toml"))
    right: dict[str, list[bool]] = {"": []}
    for row in read_verdicts(folder / "adherence.jsonl"):
        if row["what"] != "answer" and row["what"] != "revision":
            continue
        principle = constitution.get(row["principle"])
        assert principle is not None
        texts = {"answer": "says"} | ({"before": "before_says"} if row["what"] == "revision" else {})
        for text, says in texts.items():
            pair, saw = oracle.find(row["request"]), oracle.read(row["request"], row[text]).answer
            if saw == "garbled" or row[says] == "unreadable":
                continue
            broken = breaches(principle.tags, pair, saw)
            hit = (row[says] == "broken") == broken
            right[""].append(hit)
            right.setdefault("broken" if broken else "kept", []).append(hit)
    for group, hits in right.items():
        yield asdict(share("adherence right", "start", hits, group))


def cai(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "cai", *command], check=True)


def write(parts: dict[str, Any]) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("cai", "torch", "transformers")},
        **parts,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evals.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
