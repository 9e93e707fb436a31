"""A million prompts through cai's own path, on an engine that costs next to nothing: memory, and our time.

Each part is a process of its own, a command line as a user types it. `own` is its wall time less the time in
the engine, over the rows that all its stages wrote. The bare loop reads each prompt's JSON, adds a text and
writes it: what no program that does this in Python can go below.

    python bench/million.py                                   # all parts: a quarter of an hour
    python bench/million.py --rows 100000 --parts generate    # for a look
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai.cli import run
from cai.engines import Reply, Request
from cai.engines.scripted import Scripted, ScriptedSession
from cai.plugins import find

RESULTS = Path(__file__).parent / "results"
ENGINE = f"{Path(__file__).resolve()}:Timed"
MEMORY_BAR_MB, TIME_BAR_US = 300, 100
RECIPE = f"""
constitution = "harmless"
[engines.start]
type = "{ENGINE}"
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "PROMPTS"
[[steps]]
name = "critiques"
stage = "critique"
engine = "start"
"""
GENERATE = f"generate prompts.jsonl --engine {ENGINE} -o one/responses.jsonl --quiet"
SHARD = f"generate prompts.jsonl --engine {ENGINE} -o many/responses.jsonl --quiet --shard"
# Part -> what it is, its commands, and the files of rows that they write.
PARTS: dict[str, tuple[str, list[str], list[str]]] = {
    "generate": ("generate", [GENERATE], ["one/responses.jsonl"]),
    "chain": (
        "generate, then critique, as one stream",
        ["run recipe.toml -o two --quiet"],
        ["two/responses.jsonl", "two/critiques.jsonl"],
    ),
    "shards": (
        "generate, four shards one after the other",
        [f"{SHARD} {number}/4" for number in range(1, 5)],
        [f"many/responses.{number}-of-4.jsonl" for number in range(1, 5)],
    ),
    "merge": ("merge of the four", ["merge many/responses.jsonl --quiet"], ["many/responses.jsonl"]),
    "group": (
        "compare, rows gathered by prompt (one answer each: all rejected)",
        [
            f"compare one/responses.jsonl --engine {ENGINE} --constitution harmless --quiet "
            "-o one/compared.jsonl"
        ],
        ["one/compared.rejects.jsonl"],
    ),
    "pairs": (
        "pairs (asks no model; all rejected)",
        ["pairs one/responses.jsonl -o one/pairs.jsonl --quiet"],
        ["one/pairs.rejects.jsonl"],
    ),
}


class TimedSession(ScriptedSession):
    """Counts the seconds that pass in it."""

    seconds = 0.0

    def submit(self, ticket: int, request: Request) -> None:
        began = time.perf_counter()
        super().submit(ticket, request)
        TimedSession.seconds += time.perf_counter() - began

    def poll(self) -> Any:
        began = time.perf_counter()
        replies: list[tuple[int, Reply]] = list(super().poll())
        TimedSession.seconds += time.perf_counter() - began
        return replies


class Timed(Scripted):
    """The scripted engine with a stop watch."""

    def open(self) -> TimedSession:
        return TimedSession(self.answer, capacity=self.capacity)


def main() -> None:
    options = parse()
    options.load = os.getloadavg()[0]
    if options.child:
        print(json.dumps(child(options.child.split("\n"))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.chdir(folder)
        write_prompts(options.rows)
        result: dict[str, Any] = {"bare": bare(options.rows)}
        print(result, flush=True)
        for name in options.parts.split(","):
            result[name] = measure(name, result["bare"]["us_a_row"])
            print(name, result[name], flush=True)
            write(options, result)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--folder", help="where some gigabytes may lie for a while")
    parser.add_argument("--name", default="million", help="of the file under bench/results/")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def write_prompts(rows: int) -> None:
    with Path("prompts.jsonl").open("w", encoding="utf-8") as file:
        for at in range(rows):
            prompt = f"Request {at}: how do I bake a loaf of bread with {at % 97} grams of salt?"
            file.write(json.dumps({"prompt": prompt, "category": "bread", "n": at}) + "\n")
    Path("recipe.toml").write_text(RECIPE.replace("PROMPTS", str(Path("prompts.jsonl").resolve())))


def bare(rows: int) -> dict[str, Any]:
    began = time.perf_counter()
    with Path("prompts.jsonl").open(encoding="utf-8") as source, Path("bare").open("w") as target:
        for line in source:
            target.write(json.dumps({**json.loads(line), "answer": "This is scripted answer."}) + "\n")
    return {"us_a_row": round(1e6 * (time.perf_counter() - began) / rows, 2)}


def measure(name: str, bare_us: float) -> dict[str, Any]:
    """Run a part's commands, one process for all, and count what they wrote."""
    what, commands, outputs = PARTS[name]
    command = [sys.executable, __file__, "--child", "\n".join(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    rows = sum(lines(Path(path)) for path in outputs)
    own = 1e6 * (found["seconds"] - found["engine_seconds"]) / rows
    return {
        "what": what,
        "commands": [command.replace(ENGINE, "scripted") for command in commands],
        "rows": rows,
        **found,
        "own_us_a_row": round(own, 1),
        "over_bare": round(own / bare_us, 1),
    }


def lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def child(commands: list[str]) -> dict[str, Any]:
    began = time.perf_counter()
    for command in commands:
        # 1 is for a step that rejected all it read, which is what two of the parts are about.
        if run(command.split()) > 1:
            raise SystemExit(1)
    seconds = time.perf_counter() - began
    # The class as the command line loaded it, which is not this module's.
    session = sys.modules[find("engines", ENGINE).__module__].TimedSession
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time(), 2),
        "engine_seconds": round(session.seconds, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def write(options: argparse.Namespace, parts: dict[str, Any]) -> None:
    measured = {name: part for name, part in parts.items() if name != "bare"}
    result = {
        "what": "rows through cai with the scripted engine: peak memory and our own time",
        "command": " ".join(["python", "bench/million.py", *sys.argv[1:]]),
        "rows": options.rows,
        "bars": {"peak_mb": MEMORY_BAR_MB, "own_us_a_row": TIME_BAR_US},
        "missed": {
            "peak_mb": [name for name, part in measured.items() if part["peak_mb"] >= MEMORY_BAR_MB],
            "own_us_a_row": [name for name, part in measured.items() if part["own_us_a_row"] > TIME_BAR_US],
        },
        "parts": parts,
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "load_before_and_after": [options.load, os.getloadavg()[0]],
        },
        "versions": {"cai": version("cai"), "python": platform.python_version()},
    }
    path = RESULTS / f"{options.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: missed {result['missed']}", flush=True)


if __name__ == "__main__":
    main()
