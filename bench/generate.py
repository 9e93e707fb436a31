"""Tokens per second of `--engine local` against plain `model.generate`, on the same prompts.

Rounds are interleaved, so that a busy machine slows both alike; what counts is the ratio within a round.

    python bench/generate.py --model organism --prompts prompts/organism/dev.jsonl
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cai.chat import encode_prompt, load_tokenizer
from cai.engines import Request, Sampling
from cai.engines.local import Local
from cai.model_folder import resolve
from cai.training.models import load_policy

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = parse()
    requests = read(options)
    ways = {"local": local(options, requests), "generate": generate(options, requests)}
    rounds: list[dict[str, Any]] = []
    for _ in range(options.rounds + 1):
        rounds.append({name: measure(way) for name, way in ways.items()})
        rounds[-1]["ratio"] = rounds[-1]["local"]["tokens_per_s"] / rounds[-1]["generate"]["tokens_per_s"]
        print(
            {name: value["tokens_per_s"] for name, value in rounds[-1].items() if name != "ratio"}, flush=True
        )
    # The first round warms up.
    ratios = [one["ratio"] for one in rounds[1:]]
    summary = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    write(options, summary, rounds[1:])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="organism")
    parser.add_argument("--prompts", type=Path, default=Path("prompts/organism/dev.jsonl"))
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=120)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="generate", help="of the file under bench/results/")
    return parser.parse_args()


def read(options: argparse.Namespace) -> list[Request]:
    lines = options.prompts.read_text(encoding="utf-8").splitlines()[: options.limit]
    sampling = Sampling(max_tokens=options.max_tokens, temperature=options.temperature)
    return [
        Request(messages=({"role": "user", "content": json.loads(line)["prompt"]},), want=sampling, seed=at)
        for at, line in enumerate(lines)
    ]


def local(options: argparse.Namespace, requests: list[Request]) -> Callable[[], int]:
    """Answers all requests with the local engine and counts the new tokens."""
    session = Local(model=options.model, device="cpu", batch=options.batch, threads=options.threads).open()

    def run() -> int:
        for ticket, request in enumerate(requests):
            session.submit(ticket, request)
        new = 0
        while replies := session.poll():
            new += sum(reply.new_tokens for _, reply in replies)
        return new

    return run


def generate(options: argparse.Namespace, requests: list[Request]) -> Callable[[], int]:
    """Answers all in left-padded batches with `model.generate` and counts tokens up to the first end."""
    folder = resolve(options.model)
    tokenizer, model = load_tokenizer(folder), load_policy(folder)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    ends = [end for end in ends if end is not None]

    @torch.inference_mode()
    def batch(part: list[Request]) -> int:
        prompts = [encode_prompt(tokenizer, request.messages) for request in part]
        width = max(map(len, prompts))
        spare = [width - len(prompt) for prompt in prompts]
        output = model.generate(
            torch.tensor([[0] * pad + prompt for pad, prompt in zip(spare, prompts, strict=True)]),
            attention_mask=torch.tensor([[0] * pad + [1] * (width - pad) for pad in spare]),
            do_sample=options.temperature > 0,
            temperature=options.temperature or None,
            top_k=None,
            max_new_tokens=options.max_tokens,
            eos_token_id=ends,
            pad_token_id=0,
        )
        written = [row[width:] for row in output.tolist()]
        return sum(
            next((at + 1 for at, token in enumerate(row) if token in ends), len(row)) for row in written
        )

    def run() -> int:
        torch.set_num_threads(options.threads)
        starts = range(0, len(requests), options.batch)
        return sum(batch(requests[start : start + options.batch]) for start in starts)

    return run


def measure(way: Callable[[], int]) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    tokens = way()
    seconds = time.perf_counter() - start
    used = time.process_time() - cpu
    return {"tokens": tokens, "seconds": seconds, "cpu_s": used, "tokens_per_s": tokens / seconds}


def write(options: argparse.Namespace, ratio: dict[str, float], rounds: list[dict[str, Any]]) -> None:
    settings = {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
    }
    result = {
        "what": "tokens per second of --engine local over model.generate",
        "ratio": ratio,
        "settings": settings,
        "rounds": rounds,
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "load_at_end": os.getloadavg()[0],
        },
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    path = RESULTS / f"{options.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"local / generate: {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f}) -> {path}")


if __name__ == "__main__":
    main()
