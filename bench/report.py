"""The page of a 10,000-row run in headless Chromium: how long until it is open, how long a search takes.

The rows come from cai's own commands and a scripted engine that writes texts of ordinary length out of a
vocabulary of 4,000 words, so that they compress as language does and not as one sentence a thousand times.
"open" is from the beginning of the navigation until every row is unpacked and can be searched; "list" until
the first rows can be read. "cpu" is what the page's main thread worked until then: it says what "open" would
be on a machine that does nothing else. A search is from the key to the next frame with its result.

    python -m bench.report
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from cai.cli import run
from cai.engines import Reply, Request
from cai.engines.scripted import Scripted, ScriptedSession
from cai.records import digest, draw_seed
from cai.report.page import write_page
from tests import browser

RESULTS = Path(__file__).parent / "results"
ENGINE = f"{Path(__file__).resolve()}:Wordy"
OPEN_BAR_MS, SEARCH_BAR_MS = 2000, 200
VOCABULARY = 4000
ROUNDS = 7
RECIPE = f"""
constitution = "harmless"
[engines.start]
type = "{ENGINE}"
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
part = [0.0, 0.7]
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
rounds = 2
[[steps]]
name = "rivals"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
part = [0.7, 1.0]
samples = 2
[[steps]]
name = "comparisons"
stage = "compare"
engine = "start"
judge = "logprob"
"""
# Rare and common words, phrases, what an eval would say, and what is nowhere.
SEARCHES = (
    "a",
    "the",
    "word17",
    "word17 word3000",
    '"word1 word2"',
    "model:wordy",
    "category:bread",
    "nowhere",
    "",
)
WATCH = """
(function tick() {
  const root = document.documentElement;
  if (root && !window.listed && document.querySelector(".option")) window.listed = performance.now();
  if (root && root.dataset.rows === "ready") window.ready = performance.now();
  else requestAnimationFrame(tick);
})();
"""
# (playwright's own wait_for_function makes code of a text, which the page's policy forbids.)
WAIT = """
() => new Promise((resolve) => {
  const look = () => (window.ready ? resolve([window.listed, window.ready]) : setTimeout(look, 20));
  look();
})
"""
SEARCH = """
async (query) => {
  const field = document.getElementById("search");
  const began = performance.now();
  field.value = query;
  field.dispatchEvent(new Event("input"));
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  return [performance.now() - began, document.getElementById("found").textContent];
}
"""


class WordySession(ScriptedSession):
    """Texts of 60 to 180 words, a few of them frequent, each drawn from its request."""


class Wordy(Scripted):
    """The scripted engine with more to say."""

    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        if not reply.text:
            return reply
        drawn = Random(draw_seed(0, digest(request.messages), reply.text))
        places = (int(VOCABULARY * drawn.random() ** 3) for _ in range(drawn.randint(60, 180)))
        text = " ".join(f"word{place}" for place in places)
        return Reply(text=text, finish="stop", model="wordy", weights="w")

    def open(self) -> WordySession:
        return WordySession(self.answer, capacity=self.capacity)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=6250, help="6,250 make 10,000 rows")
    parser.add_argument("--name", default="report", help="of the file under bench/results/")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_run(options.prompts)
        began = time.perf_counter()
        page = write_page([Path("x")], Path("report.html"), rows=20_000)
        written = time.perf_counter() - began
        with browser.chromium() as chromium:
            opens = [opened(chromium, page.path) for _ in range(ROUNDS)]
            searches, faults = searched(chromium, page.path)
        size = page.path.stat().st_size
        known = {"rows": page.rows, "page_mb": round(size / 1e6, 2), "seconds_to_write": round(written, 2)}
    write(options.name, {**known, **told(opens, searches, faults)}, load)


def make_run(prompts: int) -> None:
    with Path("prompts.jsonl").open("w", encoding="utf-8") as file:
        for at in range(prompts):
            asked = {"prompt": f"Request {at}: how do I bake a loaf with {at % 97} grams of salt?"}
            file.write(json.dumps({**asked, "category": ("bread", "wine", "cheese")[at % 3]}) + "\n")
    Path("recipe.toml").write_text(RECIPE)
    if run(["run", "recipe.toml", "-o", "x", "--quiet"]):
        raise SystemExit(1)


def opened(chromium: Any, path: Path) -> dict[str, float]:
    """Milliseconds of one opening, in a context of its own: nothing is cached."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    counters = context.new_cdp_session(page)
    counters.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(path.resolve().as_uri())
    listed, ready = page.evaluate(WAIT)
    counts = {one["name"]: one["value"] for one in counters.send("Performance.getMetrics")["metrics"]}
    context.close()
    return {"list": listed, "open": ready, "cpu": 1000 * counts["TaskDuration"]}


def searched(chromium: Any, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Milliseconds of each search in several rounds, what it found, and whatever went wrong."""
    found: dict[str, Any] = {query: {"ms": []} for query in SEARCHES}
    with browser.opened(chromium, path) as page:
        for _ in range(ROUNDS):
            for query in SEARCHES:
                took, rows = page.page.evaluate(SEARCH, query)
                found[query]["ms"].append(round(took, 1))
                found[query]["found"] = rows
        return found, list(page.faults)


def told(opens: list[dict[str, float]], searches: dict[str, Any], faults: list[str]) -> dict[str, Any]:
    spans = {key: [round(one[key], 1) for one in opens] for key in ("list", "open", "cpu")}
    every = [ms for one in searches.values() for ms in one["ms"]]
    return {
        "list_ms": {"median": statistics.median(spans["list"]), "most": max(spans["list"])},
        "open_ms": {"median": statistics.median(spans["open"]), "most": max(spans["open"])},
        "cpu_ms": {"median": statistics.median(spans["cpu"]), "most": max(spans["cpu"])},
        "search_ms": {"median": statistics.median(every), "most": max(every)},
        "searches": searches,
        "faults": faults,
    }


def write(name: str, measured: dict[str, Any], load: float) -> None:
    missed = {
        "open_ms": measured["open_ms"]["most"] > OPEN_BAR_MS,
        "search_ms": measured["search_ms"]["most"] > SEARCH_BAR_MS,
        "faults": bool(measured["faults"]),
    }
    result = {
        "what": "the HTML page of a run in headless Chromium: milliseconds until it is open, and of a search",
        "command": " ".join(["python", "-m", "bench.report", *sys.argv[1:]]),
        "rounds": ROUNDS,
        "bars": {"open_ms": OPEN_BAR_MS, "search_ms": SEARCH_BAR_MS, "faults": 0},
        "missed": [key for key, value in missed.items() if value],
        **measured,
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "load_before_and_after": [load, os.getloadavg()[0]],
        },
        "versions": {
            "cai": version("cai"),
            "python": platform.python_version(),
            "chromium": chromium_version(),
        },
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: missed {result['missed']}; open {measured['open_ms']}, search {measured['search_ms']}")


def chromium_version() -> str:
    with browser.chromium() as chromium:
        return str(chromium.version)


if __name__ == "__main__":
    main()
