"""PPO and GRPO on the organism, and a reward being hacked: runs the three recipes, gathers their numbers.

python bench/rl.py --folder runs        # runs/bench-ppo, runs/bench-grpo, runs/bench-hacking
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TABLES = {"ppo": ("table",), "grpo": ("table",), "hacking": ("table", "hacking")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where the runs lie")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in options.only:
        folder = options.folder / f"bench-{name}"
        command = [sys.executable, "-m", "cai", "run", f"runs/{name}/recipe.toml", "-o", str(folder)]
        subprocess.run(command, check=True)
        found[name] = {table: manifest(folder, table) for table in TABLES[name]}
    result = {
        "what": "the organism, seed 0, read by the oracle; ppo and grpo on the final split, hacking on dev",
        "command": " ".join(["python", *sys.argv]),
        "machine": {"cores": len(os.sched_getaffinity(0)), "platform": platform.platform()},
        "versions": {name: version(name) for name in ("cai", "torch", "transformers")},
        "runs": found,
    }
    (RESULTS / "rl.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def manifest(folder: Path, table: str) -> dict[str, Any]:
    made = json.loads((folder / f"{table}.json").read_text(encoding="utf-8"))
    return {"headline": made["headline"], "numbers": [one for one in made["numbers"] if _is_shown(one)]}


def _is_shown(number: dict[str, Any]) -> bool:
    return not number["group"] or number["group"].startswith("step ")


if __name__ == "__main__":
    main()
