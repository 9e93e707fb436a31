"""How often a judge gave no word on a pair that could be read: that stands among the rejects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai import manifest
from cai.evals import Number
from cai.evals._pairs import named
from cai.evals._shares import share
from cai.records import Comparison, Reject
from cai.rows import made_rows

UNREADABLE = "unreadable"
# Why there is no comparison of a pair that a judge was asked about.
_ASKED = (UNREADABLE, "tie", "orders disagree")


def unread_pairs(files: Sequence[Path]) -> list[Number]:
    """Of the pairs that each judge was asked about, those of which it gave no verdict that could be read.

    `files` are comparisons. Nothing unless a stage that has a judge made each of them: of other files nobody
    knows who was asked about what.
    """
    asked: dict[str, list[tuple[str, bool]]] = {}
    for path in files:
        made = manifest.load(manifest.path_of(path)) or {}
        judge = made.get("identity", {}).get("stage", {}).get("judge")
        if not judge or path.name not in made["files"]:
            return []
        of, pairs = _asked(path, judge)
        asked.setdefault(of, []).extend(pairs.values())
    return [
        share(
            "unreadable pairs", of, [unread for _, unread in pairs], prompts=[prompt for prompt, _ in pairs]
        )
        for of, pairs in asked.items()
    ]


def _asked(path: Path, judge: Mapping[str, Any]) -> tuple[str, dict[str, tuple[str, bool]]]:
    """Who judged, and by each pair's id its prompt and whether it went unread."""
    name = judge.get("name") or judge["type"]
    names: set[str] = set()
    pairs: dict[str, tuple[str, bool]] = {}
    for comparison in made_rows(path, Comparison):
        pairs[comparison.id] = comparison.prompt_id, False
        names |= {named(one) for one in comparison.annotations if one.annotator == name}
    rejects = manifest.rejects_of(path)
    for reject in made_rows(rejects, Reject) if rejects.exists() else ():
        if reject.reason in _ASKED:
            pairs[reject.item] = reject.prompt_id, reject.reason == UNREADABLE
    return names.pop() if len(names) == 1 else name, pairs
