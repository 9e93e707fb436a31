"""How often do the intervals hold the truth? Judges and leagues whose truth is known, many times over.

Every interval of the `judge` and `winrate` evals over simulated rows: those of judges that are position- and
length-biased, better or worse calibrated, with one or more pairs a prompt; of leagues of models with known
Bradley-Terry strengths; and Wilson's interval of a plain share, whose coverage is a sum and no simulation.
Each coverage has a 95 % interval of its own, over runs; "outside" lists those beyond the bar of 93 to 97 %.

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
from cai.evals._shares import share  # noqa: E402
from cai.evals._standings import ANCHOR, ELO, LENGTH_CONTROLLED, WIN_RATE, standings  # noqa: E402

JUDGES = {
    "150 prompts": (World(), 150),
    "150 prompts, a timid judge": (World(position=0.1, length=0.2, confidence=0.6), 150),
    "400 prompts": (World(), 400),
    "100 prompts of 4 pairs, alike hard": (World(pairs=4, alike=1.2), 100),
    "300 prompts, a good judge with a strong position bias": (World(slope=6.0, position=1.5), 300),
    "200 prompts, a judge too sure of itself": (World(confidence=4.0), 200),
}
LEAGUES = {
    "60 prompts, 4 models": (League(), 60),
    "200 prompts, 4 models": (League(), 200),
    "200 prompts, 4 models, longer answers win": (League(length=0.7), 200),
}
# A value that no sample can miss or that most samples lack is no test of an interval.
LEFT_OUT = ("position bias after", "pairs without a truth", "first wins, orders disagree")
BAR = (0.93, 0.97)
FIELDS = {"coverage": "value", "low": "low", "high": "high"}
AT_ONCE = "Elo, all of a league at once"
NOTES = {
    "low, high": "the 95 % interval of the coverage, runs being the independent draws",
    "bar": f"on 'coverage', of every part but '{AT_ONCE}'",
    "least": "the least coverage of Wilson's interval at any one share from 0.02 to 0.98: a count is whole, "
    "so that it swings about 95 % with n and share (Brown, Cai and DasGupta 2001); the bar is on the mean",
    AT_ONCE: "each interval is of one model, at 95 %: several are inside together less often than each is. "
    "Ones that are jointly 95 % would widen with every model that joins a league, and a model's own line "
    "would depend on who else was measured",
}

# Of each number, interval by interval: whether it held the truth, and the run that it is of.
Held = dict[str, list[tuple[bool, str]]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--truth", type=int, default=150_000, help="pairs that the truth is read from")
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
        "bar": BAR,
        "outside": [part for part in parts if outside(part)],
        "notes": NOTES,
        "parts": parts,
    }
    text = json.dumps(result, indent=1) + "\n"
    (ROOT / "bench" / "results" / "intervals.json").write_text(text, encoding="utf-8")


def judges(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every ungrouped number of the judge eval."""
    for at, (what, (world, prompts)) in enumerate(JUDGES.items()):
        truth = {
            name: number.value
            for name, number in judged(world, options.truth // world.pairs, 1 << 32).items()
            if name not in LEFT_OUT
        }
        held: Held = {}
        for seed in seeds(at, options.runs):
            for name, number in judged(world, prompts, seed).items():
                if name in truth:
                    held.setdefault(name, []).append((holds(number, truth[name]), str(seed)))
        yield from listed(what, held, truth)


def judged(world: World, prompts: int, seed: int) -> dict[str, Number]:
    rows = world.rows(prompts, seed)
    numbers = [*against_gold("judge", rows), *order_effects("judge", rows), *favours("judge", rows)]
    return {number.name: number for number in numbers if not number.group}


def leagues(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Elo of each model but the anchor, and win rates of every two; and all of a league's Elo at once."""
    for at, (what, (league, prompts)) in enumerate(LEAGUES.items()):
        held: Held = {}
        truth = truths(league)
        for seed in seeds(at, options.runs):
            elo = []
            for number in standings(league.rows(prompts, seed)):
                name = f"{number.name} {number.of} {number.group}".strip()
                if name in truth and not (league.length and number.name != LENGTH_CONTROLLED):
                    held.setdefault(number.name, []).append((holds(number, truth[name]), str(seed)))
                    elo += [holds(number, truth[name])] if number.name == ELO else []
            if elo:
                held.setdefault(AT_ONCE, []).append((all(elo), str(seed)))
        yield from listed(what, held, {})


def seeds(part: int, runs: int) -> range:
    """Other ones for each part, so that what is luck in one is not luck in all."""
    return range(part * 1_000_000, part * 1_000_000 + runs)


def truths(league: League) -> dict[str, float]:
    models = range(len(league.strengths))
    found = {f"{ELO} m{at}": ANCHOR + SCALE * league.strengths[at] for at in models[1:]}
    for one in models:
        for other in models:
            if one != other:
                for name in (WIN_RATE, LENGTH_CONTROLLED):
                    found[f"{name} m{one} over m{other}"] = league.chance(one, other)
    return found


def holds(number: Number, truth: float) -> bool:
    return number.low <= truth <= number.high


def listed(what: str, held: Held, truth: dict[str, float]) -> Iterator[dict[str, Any]]:
    for name, found in held.items():
        runs = [run for _, run in found]
        found_to_hold = share(name, what, [inside for inside, _ in found], prompts=runs)
        yield {
            "what": what,
            "number": name,
            **{key: round(getattr(found_to_hold, field), 4) for key, field in FIELDS.items()},
            "runs": len(set(runs)),
            **({"truth": round(truth[name], 4)} if name in truth else {}),
        }


def outside(part: dict[str, Any]) -> bool:
    """Whether the coverage is beyond the bar, be it by the luck that `low` and `high` tell of."""
    return part["number"] != AT_ONCE and not BAR[0] <= part["coverage"] <= BAR[1]


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
