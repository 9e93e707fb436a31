"""cai's trainer against TRL's: the same model, rows and numbers, one thread, each run a process of its own.

Before anything is timed both take the same steps on the same rows: the first losses must be equal to 1e-5.
Then each trains for two epochs as a user would have it and the second is timed. Rounds are interleaved, so
that a busy machine slows both alike; what counts is the ratio within a round, by CPU time.

TRL has an environment of its own:

    python -m venv /tmp/trl && /tmp/trl/bin/pip install torch==2.13.0 transformers==5.23.0 trl
    python bench/train.py --trl /tmp/trl/bin/python
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

HERE = Path(__file__).parent
SPECIAL = ["<pad>", "</s>", "<unk>"]
WORDS = 8192
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
# Fewest and most tokens of a prompt, and of an answer.
SHAPES = {
    "long": ((100, 300), (30, 90)),
    "short": ((10, 40), (30, 90)),
    "equal": ((200, 200), (60, 60)),
}
# What is asked of us: how many times TRL's rows per CPU-second, and how much of its peak memory at most.
BARS = {"dpo": (2.5, 0.7), "sft": (1.5, None), "reward": (1.8, None)}
CHECKED, TOLERANCE = 2, 1e-5


def main() -> None:
    options = parse()
    cases = [(task, shape) for task in options.tasks for shape in options.shapes]
    results = {f"{task}, {shape}": Case(task=task, shape=shape) for task, shape in cases}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make_models(home)
        for shape in options.shapes:
            make_rows(home / f"{shape}.jsonl", options.rows, *SHAPES[shape])
        for case in results.values():
            case.check(options, home)
        for _ in range(options.rounds):
            for name, case in results.items():
                case.round(options, home)
                print(name, case.rounds[-1], flush=True)
                # After every case, so that a run that is stopped has said what it saw.
                write(options, {name: case.summary() for name, case in results.items() if case.rounds})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl", required=True, help="the Python of TRL's environment")
    parser.add_argument("--tasks", nargs="+", choices=BARS, default=list(BARS))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rows", type=int, default=64, help="at least two batches")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="train", help="of the file under bench/results/")
    return parser.parse_args()


class Case:
    """One task on rows of one shape."""

    def __init__(self, *, task: str, shape: str) -> None:
        self.task, self.shape = task, shape
        self.losses: dict[str, list[float]] = {}
        self.rounds: list[dict[str, Any]] = []

    def check(self, options: argparse.Namespace, home: Path) -> None:
        """Both sides' first losses on the same rows in the same order. Ends the bench if they differ."""
        self.losses = {side: self._run(options, home, side, "check")["losses"] for side in ("cai", "trl")}
        print(self.task, self.shape, self.losses, flush=True)
        first = [losses[0] for losses in self.losses.values()]
        if abs(first[0] - first[1]) > TOLERANCE:
            sys.exit(f"{self.task}, {self.shape}: the first losses differ: {self.losses}")

    def round(self, options: argparse.Namespace, home: Path) -> None:
        sides = ("cai", "trl") if len(self.rounds) % 2 == 0 else ("trl", "cai")
        seen = {side: self._run(options, home, side, "time") for side in sides}
        ratio = {
            "cpu": seen["trl"]["cpu_s"] / seen["cai"]["cpu_s"],
            "wall": seen["trl"]["wall_s"] / seen["cai"]["wall_s"],
            "memory": seen["cai"]["peak_mb"] / seen["trl"]["peak_mb"],
        }
        self.rounds.append({**seen, "ratio": ratio, "load": os.getloadavg()[0]})

    def summary(self) -> dict[str, Any]:
        ratios = {
            kind: spread([one["ratio"][kind] for one in self.rounds]) for kind in ("cpu", "wall", "memory")
        }
        faster, smaller = BARS[self.task]
        met = {"cpu": ratios["cpu"]["median"] >= faster}
        if smaller is not None:
            met["memory"] = ratios["memory"]["median"] <= smaller
        rates = {
            side: spread([one[side]["rows"] / one[side]["cpu_s"] for one in self.rounds])
            for side in ("cai", "trl")
        }
        return {
            "rows_per_cpu_second": rates,
            "ratio": ratios,
            "bar": {"cpu": faster, "memory": smaller},
            "met": met,
            "first_losses": self.losses,
            "rounds": self.rounds,
        }

    def _run(self, options: argparse.Namespace, home: Path, side: str, mode: str) -> Any:
        job = {
            "mode": mode,
            "task": self.task,
            "model": str(home / ("scorer" if self.task == "reward" else "policy")),
            "rows": str(home / f"{self.shape}.jsonl"),
            "batch": options.batch,
            "checked": CHECKED,
            "lr": 1e-4,
            "beta": 0.1,
        }
        python = sys.executable if side == "cai" else options.trl
        command = [python, str(HERE / f"train_{side}.py"), json.dumps(job)]
        alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(HERE.parent)}
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run(
                command, cwd=scratch, env={**os.environ, **alone}, capture_output=True, text=True
            )
        if done.returncode:
            sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def make_models(home: Path) -> None:
    """A policy and a reward model of random weights, 3.3 million parameters each, and their tokenizer."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "max_position_embeddings": 1024,
        "initializer_range": 0.05,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    words = {word: at for at, word in enumerate([*SPECIAL, *(f"w{at}" for at in range(3, WORDS))])}
    raw = Tokenizer(WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    for name, made in {
        "policy": LlamaForCausalLM(LlamaConfig(**sizes)),
        "scorer": LlamaForSequenceClassification(LlamaConfig(**sizes, num_labels=1)),
    }.items():
        made.save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)


def make_rows(path: Path, count: int, prompt: tuple[int, int], answer: tuple[int, int]) -> None:
    """Pairs of random words, lengths drawn evenly; the end of turn is one of an answer's tokens."""
    rng = random.Random(path.stem)

    def words(least: int, most: int) -> str:
        return " ".join(f"w{rng.randrange(3, WORDS)}" for _ in range(rng.randint(least, most)))

    def row() -> dict[str, str]:
        least, most = answer
        sides = {side: words(least - 1, most - 1) for side in ("chosen", "rejected")}
        return {"prompt": words(*prompt), **sides}

    path.write_text("".join(json.dumps(row()) + "\n" for _ in range(count)), encoding="utf-8")


def write(options: argparse.Namespace, cases: dict[str, Any]) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout
    result = {
        "what": "training rows per CPU-second of cai over TRL, and peak memory (ru_maxrss) of cai over TRL's",
        "command": f"python bench/train.py {' '.join(sys.argv[1:])}",
        "commit": commit.strip(),
        "cases": cases,
        "model": "Llama, 4 layers of 192, 8192 words, float32, random weights; one thread",
        "tokens": {name: dict(zip(("prompt", "answer"), SHAPES[name], strict=True)) for name in SHAPES},
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "versions": {
            side: versions(python) for side, python in (("cai", sys.executable), ("trl", options.trl))
        },
    }
    path = HERE / "results" / f"{options.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def versions(python: str) -> Any:
    ask = (
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps({d.name: d.version for d in distributions() "
        "if d.name in ('torch', 'transformers', 'trl', 'accelerate')}))"
    )
    return json.loads(subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
