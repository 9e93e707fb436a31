"""What the constitution tools print: what changed, what the principles did, and what came of it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cai.constitution_diff import Change, Words, marked
from cai.coverage import Counts
from cai.evals._intervals import wilson
from cai.report import figures
from cai.report.effects import Effect, effects
from cai.report.grid import print_grid
from cai.terminal import console, sanitise

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {"=": "", "-": "red", "+": "green"}
COVERAGE = (
    "principle",
    "drawn",
    "by weight",
    "fault found",
    "answer changed",
    "decided",
)


def print_coverage(run: Path, counts: Mapping[str, Counts]) -> None:
    """Print for each principle its share of the draws, beside that of its weight, and what became of them."""
    draws = sum(of.draws for of in counts.values())
    expected = sum(of.expected for of in counts.values())
    rows = [
        [
            id,
            _share(of.draws, draws),
            f"{of.expected / expected:.1%}" if expected else "",
            _share(of.found, of.critiques),
            _share(of.changed, of.revisions),
            _share(of.decided, of.verdicts),
        ]
        for id, of in counts.items()
    ]
    print_grid(f"{run}: what each principle did (95 % intervals)", COVERAGE, rows, console())


def _share(hits: int, n: int) -> str:
    if not n:
        return ""
    low, high = wilson(hits, n)
    return f"{hits / n:.1%} [{100 * low:.0f}, {100 * high:.0f}] n={n:,}"


def print_changes(changes: Iterable[Change]) -> None:
    """Print each principle that changed, its wordings word by word: [-gone-] {+new+}."""
    out = console()
    found = False
    for change in changes:
        found = True
        out.print(sanitise(f"{change.id}: {change.what}"), style="bold")
        for name, words in change.wordings:
            out.print(_coloured(f"  {f'{name}:':12}", words))
    if not found:
        out.print("both say the same")


def _coloured(head: str, words: Words) -> "Text":
    from rich.text import Text

    pieces = [(sanitise(marked([run])), STYLES[run[0]]) for run in words]
    return Text(head) + Text(" ").join(Text(text, style=style) for text, style in pieces)


def print_effects(one: Path, other: Path, *, groups: bool = False) -> None:
    """Print what heads the evals of both runs, and every other number that clearly differs.

    With `groups` also the numbers of groups that do. What else than the constitution the runs differ in is
    said first.
    """
    found, both = effects(one, other)
    out = console()
    for difference in both.differences:
        if "another constitution" not in difference.what:
            out.print(sanitise(f"not the constitution: {difference.step}: {difference.what}"), style="yellow")
    names = [name or str(path) for name, path in zip(both.summaries, (one, other), strict=True)]
    shown = [
        effect for effect in found if effect.headline or (effect.clear and (groups or not effect.one.group))
    ]
    if not shown:
        out.print("the two runs have no number in common" if not found else "no number clearly differs")
        return
    rows = [_row(effect) for effect in shown]
    columns = ("eval", "of", "measure", "group", *names, "difference [95 % interval]", "")
    print_grid(f"{names[0]} -> {names[1]}", columns, rows, out)
    clear = sum(effect.clear for effect in found)
    chance = f"by chance alone it would be about {0.05 * len(found):.0f}"
    out.print(f"{clear:,} of {len(found):,} numbers clearly differ (*); {chance}")


def _row(effect: Effect) -> list[str]:
    number = effect.one
    of = Path(number.of).name or number.of
    values = [f"{figures.value(one)} {figures.interval(one)}" for one in (number, effect.other)]
    return [
        effect.table,
        of,
        number.name,
        number.group,
        *values,
        _difference(effect),
        "*" if effect.clear else "",
    ]


def _difference(effect: Effect) -> str:
    low, high = effect.interval
    if figures.is_share(effect.one) and figures.is_share(effect.other):
        return f"{100 * effect.difference:+z.1f} points [{100 * low:+z.1f}, {100 * high:+z.1f}]"
    return f"{effect.difference:+z.3f} [{low:+z.3f}, {high:+z.3f}]"
