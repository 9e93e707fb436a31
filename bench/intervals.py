"""How often do the intervals hold the truth? Judges and leagues whose truth is known, many times over.

Every interval of the `judge` and `winrate` evals over simulated rows: those of judges that are position- and
length-biased, better or worse calibrated, with one or more pairs a prompt; of leagues of models with known
Bradley-Terry strengths; and Wilson's interval of a plain share, whose coverage is a sum and no simulation.

    python bench/intervals.py             # 1000 judges of each kind, 1000 leagues: a quarter of an hour
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from math import comb
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from simulated import League, World  # noqa: E402

from cai.evals import Number  # noqa: E402
from cai.evals._bradley_terry import SCALE  # noqa: E402
from cai.evals._intervals import wilson  # noqa: E402
from cai.evals._judging import against_gold, favours, order_effects  # noqa: E402
from cai.evals._standings import ANCHOR, ELO, LENGTH_CONTROLLED, WIN_RATE, standings  # noqa: E402

JUDGES = {
    "150 prompts": (World(), 150),
    "150 prompts, a timid judge": (World(position=0.1, length=0.2, confidence=0.6), 150),
    "400 prompts": (World(), 400),
    "100 prompts of 4 pairs, alike hard": (World(pairs=4, alike=1.2), 100),
    "300 prompts, a good judge with a strong position bias": (World(slope=6.0, position=1.5), 300),
}
LEAGUES = {
    "60 prompts, 4 models": (League(), 60),
    "200 prompts, 4 models": (League(), 200),
    "200 prompts, 4 models, longer answers win": (League(length=0.7), 200),
}
# A value that no sample can miss or that most samples lack is no test of an interval.
LEFT_OUT = ("position bias after", "pairs without a truth", "first wins, orders disagree")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--truth", type=int, default=300_000, help="pairs that the truth is read from")
    options = parser.parse_args()
    began = time.monotonic()
    parts = []
    for part in chain(shares(), leagues(options), judges(options)):
        parts.append(part)
        print(json.dumps(part), flush=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("cai", "numpy")},
        "seconds": round(time.monotonic() - began, 1),
        "parts": parts,
    }
    text = json.dumps(result, indent=1) + "\n"
    (ROOT / "bench" / "results" / "intervals.json").write_text(text, encoding="utf-8")


def judges(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every ungrouped number of the judge eval."""
    for what, (world, prompts) in JUDGES.items():
        truth = {
            name: number.value
            for name, number in judged(world, options.truth // world.pairs, 1 << 32).items()
        }
        held = {name: [0, 0] for name in truth if name not in LEFT_OUT}
        for seed in range(options.runs):
            for name, number in judged(world, prompts, seed).items():
                count(held, name, number, truth)
        yield from listed(what, held, truth)


def judged(world: World, prompts: int, seed: int) -> dict[str, Number]:
    rows = world.rows(prompts, seed)
    numbers = [*against_gold("judge", rows), *order_effects("judge", rows), *favours("judge", rows)]
    return {number.name: number for number in numbers if not number.group}


def leagues(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Elo of each model but the anchor, and win rates of every two; and all of a league's Elo at once."""
    for what, (league, prompts) in LEAGUES.items():
        held: dict[str, list[int]] = {}
        truth = truths(league)
        for seed in range(options.runs):
            rows = league.rows(prompts, seed)
            missed = 0
            for number in standings(rows):
                name = f"{number.name} {number.of} {number.group}".strip()
                if name in truth and not (league.length and number.name != LENGTH_CONTROLLED):
                    count(held, number.name, number, {number.name: truth[name]})
                    missed += number.name == ELO and not number.low <= truth[name] <= number.high
            if not league.length:
                all_held = held.setdefault("Elo, all models at once", [0, 0])
                all_held[0] += missed == 0
                all_held[1] += 1
        yield from listed(what, held, {})


def truths(league: League) -> dict[str, float]:
    models = range(len(league.strengths))
    found = {f"{ELO} m{at}": ANCHOR + SCALE * league.strengths[at] for at in models[1:]}
    for one in models:
        for other in models:
            if one != other:
                for name in (WIN_RATE, LENGTH_CONTROLLED):
                    found[f"{name} m{one} over m{other}"] = league.chance(one, other)
    return found


def count(held: dict[str, list[int]], name: str, number: Number, truth: dict[str, float]) -> None:
    if name in truth and name not in LEFT_OUT:
        entry = held.setdefault(name, [0, 0])
        entry[0] += number.low <= truth[name] <= number.high
        entry[1] += 1


def listed(what: str, held: dict[str, list[int]], truth: dict[str, float]) -> Iterator[dict[str, Any]]:
    for name, (inside, runs) in held.items():
        found = {"what": what, "number": name, "coverage": round(inside / runs, 4), "runs": runs}
        yield {**found, **({"truth": round(truth[name], 4)} if name in truth else {})}


def shares() -> Iterator[dict[str, Any]]:
    """Wilson's interval over shares from 0.02 to 0.98: the mean coverage and the least, exactly."""
    for n in (10, 20, 50, 100, 200, 500, 1000):
        found = [coverage(n, at / 100) for at in range(2, 99)]
        mean = sum(found) / len(found)
        yield {
            "what": f"n = {n}",
            "number": "share",
            "coverage": round(mean, 4),
            "least": round(min(found), 4),
        }


def coverage(n: int, share: float) -> float:
    """P(the Wilson interval of a binomial count holds the share)."""
    found = 0.0
    for hits in range(n + 1):
        low, high = wilson(hits, n)
        if low <= share <= high:
            found += comb(n, hits) * share**hits * (1 - share) ** (n - hits)
    return found


if __name__ == "__main__":
    main()
