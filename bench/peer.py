"""Answer, critique, revise: cai's one command against distilabel's pipeline, same model, prompts and words.

Each run is a process of its own from its start to its last row, models loaded and all, since that is what a
user waits for; rounds are interleaved. Greedy, so that both write the same texts, which is checked. Every
engine gets one CPU thread; distilabel has three engines, one a step, cai one.

    python bench/peer.py --distilabel /path/to/an/environment/with/distilabel/and/vllm/bin/python
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai.chat import load_tokenizer
from cai.constitution import load
from cai.engines._requests import end_tokens
from cai.frames import default_review
from cai.model_folder import resolve
from cai.rows import read_records

HERE = Path(__file__).parent
RECIPE = """
constitution = "one.toml"
[engines.start]
type = "vllm"
model = "organism"
dtype = "float32"
threads = 1
batch = {batch}
cache = {cache}
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
max_tokens = {max_tokens}
temperature = 0
[[steps]]
name = "critiques"
stage = "critique"
engine = "start"
max_tokens = {max_tokens}
temperature = 0
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
max_tokens = {max_tokens}
temperature = 0
skip_clear = false
"""
CONSTITUTION = """
name = "one"
[[principle]]
id = "{id}"
critique = {critique}
revision = {revision}
preference = {preference}
"""


def main() -> None:
    options = parse()
    principle = load(Path("constitutions/organism.toml")).principles[0]
    frames = default_review()
    folder = resolve("organism")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        prompts = [record.prompt for record in read_records(options.prompts)][: options.rows]
        lines = [json.dumps({"prompt": prompt}) for prompt in prompts]
        (home / "prompts.jsonl").write_text("\n".join(lines) + "\n")
        words = {key: json.dumps(getattr(principle, key)) for key in ("critique", "revision", "preference")}
        (home / "one.toml").write_text(CONSTITUTION.format(id=principle.id, **words))
        keys = {"batch": options.batch, "cache": options.cache, "max_tokens": options.max_tokens}
        (home / "recipe.toml").write_text(RECIPE.format(**keys))
        plan = {
            "model": str(folder),
            "prompts": prompts,
            "critique": frames.critique.ask(principle.critique),
            "revision": frames.revision.ask(principle.revision),
            "window": json.loads((folder / "config.json").read_text())["max_position_embeddings"],
            "cache_bytes": int(options.cache * (1 << 30)),
            "ends": sorted(end_tokens(load_tokenizer(folder), None)),
            **keys,
        }
        (home / "plan.json").write_text(json.dumps(plan))
        rounds = []
        for at in range(options.rounds):
            one = {"cai": cai(home, at), "distilabel": distilabel(options.distilabel, home)}
            one["equal_revisions"] = equal(home, at)
            rounds.append(one)
            print(one, flush=True)
            write(options, rounds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--distilabel", required=True, help="the Python of distilabel's environment")
    parser.add_argument("--prompts", type=Path, default=Path("prompts/organism/train.jsonl"))
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--cache", type=float, default=1.0, help="GiB of keys and values, of each engine")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def cai(home: Path, at: int) -> dict[str, float]:
    return took([sys.executable, "-m", "cai", "run", "recipe.toml", "-o", f"cai-{at}", "--quiet"], home)


def distilabel(python: str, home: Path) -> dict[str, float]:
    return took([python, str(HERE.resolve() / "flow_distilabel.py"), "plan.json", "theirs.json"], home)


def took(command: list[str], home: Path) -> dict[str, float]:
    """Wall and CPU seconds of a command and all its children."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        # With a child process for each of its engines distilabel never came to its first answer here.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}


def equal(home: Path, at: int) -> dict[str, int]:
    """How many rows of each kind both wrote alike; a row that one did not finish counts as unlike."""
    ours: dict[str, dict[str, str]] = {}
    for record in read_records(home / f"cai-{at}" / "revisions.jsonl"):
        texts = {turn.kind: turn.text for turn in record.turns}
        ours[json.dumps(record.prompt[-1]["content"])] = texts
    plan = json.loads((home / "plan.json").read_text())
    theirs = json.loads((home / "theirs.json").read_text())
    found = {"rows": len(theirs), "ours": len(ours), "answer": 0, "critique": 0, "revision": 0}
    for prompt, row in zip(plan["prompts"], theirs, strict=True):
        mine = ours.get(json.dumps(prompt[-1]["content"]), {})
        for kind, key in (("response", "answer"), ("critique", "critique"), ("revision", "revision")):
            found[key] += (mine.get(kind) or "").strip() == (row[key] or "").strip()
    return found


def write(options: argparse.Namespace, rounds: list[dict[str, Any]]) -> None:
    def spread(what: str) -> dict[str, float]:
        ratios = [one["distilabel"][what] / one["cai"][what] for one in rounds]
        return {
            "median": round(statistics.median(ratios), 2),
            "least": round(min(ratios), 2),
            "most": round(max(ratios), 2),
        }

    theirs = "import importlib.metadata as m; print(m.version('distilabel'), m.version('vllm-cpu'))"
    named = subprocess.run([options.distilabel, "-c", theirs], capture_output=True, text=True).stdout.split()
    result = {
        "what": "answer, critique, revise from the command to the last row: distilabel's seconds over cai's",
        "command": " ".join(["python", *sys.argv]),
        "machine": {"cores": len(os.sched_getaffinity(0)), "platform": platform.platform()},
        "load_after": os.getloadavg()[0],
        "versions": {"cai": version("cai"), "distilabel": named[0], "vllm": named[1]},
        "bar": {"seconds": 1.5},
        "ratio": {"seconds": spread("seconds"), "cpu_seconds": spread("cpu_seconds")},
        "rounds": rounds,
    }
    (HERE / "results" / "peer.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
