"""Write the README's tables from bench/results/*.json, so that no figure in it was typed by hand.

python bench/tables.py            # rewrite what stands between the markers
python bench/tables.py --check    # exit 1 if that would change anything
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peers import pipelines, trainers
from rewards import aligned, hacked
from signs import ablations, signs

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
MODELS = {"organism": "start", "sl-cai": "SL-CAI", "rl-cai": "SL-CAI + DPO"}
MEASURES = ("harm, covered", "benign helpfulness", "borderline refusals")


def main() -> int:
    text = README.read_text(encoding="utf-8")
    written = render(text)
    if "--check" in sys.argv:
        return int(written != text)
    README.write_text(written, encoding="utf-8")
    return 0


def render(text: str) -> str:
    """The README with each `<!-- table NAME -->` ... `<!-- end -->` filled anew."""
    tables = {
        "headline": headline,
        "seeds": seeds,
        "subsets": subsets,
        "feedback": feedback,
        "judges": judges,
        "coverage": coverage,
        "speed": speed,
        "million": million,
        "flow": flow,
        "ablations": lambda: ablations(results("ablations")),
        "signs": lambda: signs(results("ablations")),
        "attacks": attacks,
        "readers": readers,
        "page": page,
        "aligned": lambda: aligned(results("rl")),
        "hacked": lambda: hacked(results("rl")),
        "trainers": lambda: trainers(results("train"), results("ppo")),
        "pipelines": lambda: pipelines(results("peer")),
    }

    def fill(found: re.Match[str]) -> str:
        name = found.group(1)
        return f"<!-- table {name} -->\n" + "\n".join(tables[name]()) + "\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def headline() -> Iterator[str]:
    """The first seed's three models."""
    first = whole()[0]
    yield "| model | harmful compliance | benign helpfulness | refusals of borderline requests |"
    yield "|---|---|---|---|"
    for model, label in MODELS.items():
        cells = " | ".join(interval(number(first, model, name)) for name in MEASURES)
        yield f"| {label} | {cells} |"


def seeds() -> Iterator[str]:
    """All seeds of the whole constitution, least to most."""
    yield "| model | harmful compliance | benign helpfulness | borderline refusals | decoy refusals |"
    yield "|---|---|---|---|---|"
    for model, label in MODELS.items():
        cells = [
            span([number(run, model, name)["value"] for run in whole()])
            for name in (*MEASURES, "decoy refusals")
        ]
        yield f"| {label} | {' | '.join(cells)} |"


def subsets() -> Iterator[str]:
    """Constitutions that name only some harms: compliance in the harms that they name and in the others."""
    yield "| constitution | model | named harms | other harms | benign helpfulness | borderline refusals |"
    yield "|---|---|---|---|---|---|"
    for run in results("organism")["runs"]:
        if run["constitution"] == "organism":
            continue
        name = run["constitution"].removeprefix("organism-")
        for model, label in MODELS.items():
            measures = ("harm, covered", "harm, not covered", "benign helpfulness", "borderline refusals")
            cells = " | ".join(interval(number(run, model, measure)) for measure in measures)
            yield f"| {name} | {label} | {cells} |"


def feedback() -> Iterator[str]:
    """The critic and both judges against the oracle, over the seeds of the whole constitution."""
    yield "| measured against the oracle | value over seeds | n a seed |"
    yield "|---|---|---|"
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in whole():
        for one in run["numbers"]:
            if "eval" in one:
                found.setdefault((one["eval"], one["name"], one["group"]), []).append(one)
    for (which, name, group), values in found.items():
        label = f"{which}: {name}" + (f", {group}" if group else "")
        counts = sorted({value["n"] for value in values})
        listed = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
        shown = [value["value"] for value in values if value["value"] is not None]
        bias = name.startswith("position bias")
        yield f"| {label} | {signed(shown) if bias else span(shown)} | {listed} |"


def judges() -> Iterator[str]:
    """Every judge against the oracle on the final split, over seeds; ECE before and after calibration."""
    runs = results("judges")["runs"]
    yield (
        "| judge | right, both orders | right, one order | orders disagree | position bias "
        "| longer answer bias | ECE | ECE, temperature | ECE, isotonic | n a seed |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(one["judge"] for run in runs for one in run["judges"]):
        found = [one for run in runs for one in run["judges"] if one["judge"] == name]
        cells = [
            measured_over(found, "judge right, both orders", span),
            measured_over(found, "judge right, one order", span),
            measured_over(found, "orders disagree", span),
            measured_over(found, "position bias before", signed),
            measured_over(found, "longer answer bias", signed),
            measured_over(found, "calibration error (ECE)", span),
            *(
                span([one["calibrated"][method]["value"] for one in found])
                for method in ("temperature", "isotonic")
            ),
        ]
        counts = sorted(one["calibrated"]["isotonic"]["n"] for one in found)
        yield f"| {name} | {' | '.join(cells)} | {counts[0]}-{counts[-1]} |"


def measured_over(judged: list[dict[str, Any]], name: str, shown: Callable[[list[float]], str]) -> str:
    """The number called so of every seed, "" where there is none: not every judge is shown both orders."""
    values = [
        one["value"]
        for judge in judged
        for one in judge["numbers"]
        if one["name"] == name and not one["group"] and one["n"]
    ]
    return shown(values) if values else ""


def coverage() -> Iterator[str]:
    """How often 95 % intervals held the truth, over simulated judges and leagues."""
    yield "| 95 % interval of | held the truth, over kinds of judges, leagues and sizes | runs of each |"
    yield "|---|---|---|"
    found: dict[str, list[dict[str, Any]]] = {}
    for part in results("intervals")["parts"]:
        found.setdefault(part["number"], []).append(part)
    for name, parts in found.items():
        runs = sorted({part["runs"] for part in parts if "runs" in part})
        counted = f"{runs[0]:,}" if runs else "exact"
        yield f"| {name} | {span([part['coverage'] for part in parts])} | {counted} |"


def speed() -> Iterator[str]:
    """The local engine against `model.generate`."""
    yield "| setting | local engine over `model.generate` (median, least to most) |"
    yield "|---|---|"
    for path in sorted(RESULTS.glob("generate*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        ratio, how = result["ratio"], result["settings"]
        yield (
            f"| batch {how['batch']}, {how['threads']} thread(s) | "
            f"{ratio['median']:.2f}x ({ratio['least']:.2f}-{ratio['most']:.2f}) |"
        )


def flow() -> Iterator[str]:
    """The pipeline on vLLM against vLLM alone."""
    result = results("flow")
    yield "| vLLM on a CPU | median of the rounds (least to most) |"
    yield "|---|---|"
    for part, name, label in (
        ("flows", "steps_streamed_of_raw", "engine steps, streamed, of all requests at once"),
        ("flows", "steps_staged_of_raw", "engine steps, stage by stage, of all requests at once"),
        ("flows", "seconds_streamed_of_staged", "seconds, streamed, of stage by stage"),
        ("flows", "throughput_streamed_of_bare", "throughput, streamed, of a bare loop with the same needs"),
        ("flows", "share_in_engine", "share of the streamed flow's time that passes inside vLLM"),
        ("judging", "throughput_judged_of_bare", "throughput, judging both orders, of a bare loop"),
        ("judging", "share_in_engine", "share of the judging's time that passes inside vLLM"),
        ("caching", "seconds_off_of_on", "seconds without the prefix cache, of those with it"),
    ):
        ratio = result[part][name]
        yield f"| {label} | {ratio['median']:.2f} ({ratio['least']:.2f}-{ratio['most']:.2f}) |"
    exact = result["exactness"]
    what = f"{exact['rows']:,} rows, {exact['missing']} missing"
    yield f"| largest difference of log P from transformers, {what} | {exact['largest_difference']:.1e} |"
    for name, seconds in result["start"].items():
        yield f"| seconds: {name} | {seconds:.1f} |"


def million() -> Iterator[str]:
    """Memory and our own time over many rows."""
    result = results("million")
    yield f"| {result['rows']:,} prompts | rows | peak memory | our time a row | times a bare JSON loop |"
    yield "|---|---|---|---|---|"
    for name, part in result["parts"].items():
        if name != "bare":
            cells = [f"{part['rows']:,}", f"{part['peak_mb']:.0f} MB", f"{part['own_us_a_row']:.0f} µs"]
            yield f"| {part['what']} | {' | '.join(cells)} | {part['over_bare']:.1f}x |"
    before, after = result["machine"]["load_before_and_after"]
    cores, bare = result["machine"]["cores"], result["parts"]["bare"]["us_a_row"]
    yield ""
    yield f"({cores} cores, load {before:.1f} to {after:.1f}; the bare loop took {bare:.1f} µs a row.)"


def attacks() -> Iterator[str]:
    """What attacks talk the models into, and what they do to harmless requests."""
    found = {
        (one["of"], one["name"], one["group"]): one
        for one in results("evals")["evals"]
        if one["eval"] == "robustness"
    }
    yield "| measure | start | SL-CAI | SL-CAI + DPO |"
    yield "|---|---|---|---|"
    harm = "harmful compliance under attack"
    ways = sorted(group for of, name, group in found if (of, name) == ("organism", harm) and group)
    tries = [group for of, name, group in found if (of, name) == ("organism", "attack success within")]
    for label, name, group in (
        ("harmful compliance, no attack", "harmful compliance without attack", ""),
        *((f"harmful compliance, `{way}`", harm, way) for way in ways),
        *((f"attack success within {group}", "attack success within", group) for group in tries),
        ("benign answered, no attack", "benign answered without attack", ""),
        ("benign answered under attack", "benign answered under attack", ""),
        ("borderline refusals, no attack", "borderline refusals without attack", ""),
        ("borderline refusals under attack", "borderline refusals under attack", ""),
    ):
        cells = " | ".join(interval(found[model, name, group]) for model in MODELS)
        yield f"| {label} | {cells} |"


def readers() -> Iterator[str]:
    """How often detectors and the reader of `adherence` are right, by the oracle."""
    yield "| who reads | whole label right | refusal or not right |"
    yield "|---|---|---|"
    found = {(one["of"], one["name"], one["group"]): one for one in results("evals")["detectors"]}
    for of, name, group in found:
        if name == "label right":
            cells = (interval(found[of, one, group]) for one in ("label right", "refusal right"))
            yield f"| detector `{of}`, {f'truly {group}' if group else 'all answers'} | {' | '.join(cells)} |"
    for one in results("evals")["adherence"]:
        answers = f"truly {one['group']}" if one["group"] else "all answers"
        yield f"| `adherence`, {answers} | {interval(one)} | |"


def page() -> Iterator[str]:
    """The HTML report in a browser."""
    result = results("report")
    about = f"{result['rows']:,} rows, {result['page_mb']:.1f} MB, Chromium {result['versions']['chromium']}"
    yield f"| {about} | aim | median | most |"
    yield "|---|---|---|---|"
    for name, label in (
        ("list", "until the first rows can be read"),
        ("open", "until every row can be searched"),
        ("cpu", "of that, work of the page's own thread"),
        ("search", "a search"),
    ):
        aim, took = result["bars"].get(f"{name}_ms"), result[f"{name}_ms"]
        cells = [f"{aim} ms" if aim else "", f"{took['median']:.0f} ms", f"{took['most']:.0f} ms"]
        yield f"| {label} | {' | '.join(cells)} |"
    yield f"| scripts run from model text, console messages, requests | 0 | {len(result['faults'])} | |"
    load = " to ".join(f"{one:.1f}" for one in result["machine"]["load_before_and_after"])
    yield f"\n({result['machine']['cores']} cores, load {load}.)"


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def whole() -> list[dict[str, Any]]:
    """The runs under the whole constitution, one a seed."""
    return [run for run in results("organism")["runs"] if run["constitution"] == "organism"]


def number(run: dict[str, Any], model: str, name: str) -> dict[str, Any]:
    return next(
        one for one in run["numbers"] if "eval" not in one and one["of"] == model and one["name"] == name
    )


def interval(one: dict[str, Any]) -> str:
    return f"{100 * one['value']:.1f} % [{100 * one['low']:.1f}, {100 * one['high']:.1f}] n={one['n']}"


def span(values: list[float]) -> str:
    low, high = 100 * min(values), 100 * max(values)
    return f"{low:.1f} %" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f}-{high:.1f} %"


def signed(values: list[float]) -> str:
    return f"{min(values):+.3f} to {max(values):+.3f}"


if __name__ == "__main__":
    sys.exit(main())
