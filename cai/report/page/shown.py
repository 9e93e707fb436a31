"""A row as the page has it: the parts of it that a reader looks at, and the words it is found by.

Every shown row has `step`, `kind`, `id`, `status` (what became of it) and `principles`; most have a `prompt`
and a `category`, and `verdicts` once an eval has said something of it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
_TURN = ("kind", "text", "principle", "model", "finish")
_LENT = ("prompt", "category", "meta", "principles", "turns", "candidates", "annotations")


def record(row: Row, step: str) -> Row:
    """A prompt and what was written for it."""
    turns = row["turns"]
    return {
        **_prompted(row, step, "record"),
        "turns": [_told(turn, _TURN) for turn in turns],
        "principles": _distinct(turn["principle"] for turn in turns),
        "status": [_fate(turns)],
    }


def _fate(turns: Sequence[Row]) -> str:
    if not turns:
        return "no answer"
    if turns[-1]["kind"] == "critique":
        return "critiqued"
    answers = [turn["text"] for turn in turns if turn["kind"] != "critique"]
    if turns[-1]["kind"] == "response":
        return "answered"
    return "answer kept" if answers[0] == answers[-1] else "answer changed"


def comparison(row: Row, step: str) -> Row:
    """Answers that were weighed against each other, and who thought what of them."""
    notes = row["annotations"]
    weighed = zip(row["candidates"], row["probabilities"], strict=True)
    return {
        **_prompted(row, step, "comparison"),
        "candidates": [{"text": one["text"], "model": one["model"], "p": p} for one, p in weighed],
        "annotations": [_told(note, [key for key in note if key not in _DIGESTS]) for note in notes],
        "principles": _distinct(note.get("principle") for note in notes),
        "status": _agreement(notes),
    }


_DIGESTS = ("wording", "weights")


def _agreement(notes: Sequence[Row]) -> list[str]:
    found = []
    if any(len(note.get("orders", ())) > 1 for note in notes):
        agree = all(note.get("agree", True) for note in notes)
        found.append("both orders agree" if agree else "the orders disagree")
    if len({_winner(note["probabilities"]) for note in notes}) > 1:
        found.append("annotators disagree")
    return found or ["not judged in two orders"]


def _winner(probabilities: Sequence[float]) -> int:
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def reject(row: Row, step: str) -> Row:
    """What could not be used, and why."""
    return {
        "step": step,
        "kind": "reject",
        "id": row["id"],
        "item": row["item"],
        "reject": _told({**row, "line": row["line"] or None}, ("stage", "reason", "detail", "raw", "line")),
        "status": [f"rejected: {row['reason']}"],
        "principles": [],
    }


def lend(reject: Row, rejected: Row) -> None:
    """Show a reject with what it rejected."""
    reject.update({key: rejected[key] for key in _LENT if key in rejected})


def verdict(row: Row, step: str) -> Row:
    """What an eval said of something that is not in the run."""
    return {
        "step": step,
        "kind": "verdict",
        "id": about(row),
        "verdicts": [{"eval": step, **row}],
        "principles": _distinct([row.get("principle")]),
        "category": str(row.get("area") or row.get("category") or ""),
        "status": ["counted"],
    }


def about(verdict: Row) -> str:
    """The id of the record or comparison that a verdict is about."""
    return str(verdict.get("record") or verdict.get("comparison") or "")


def whose(verdict: Row, rows: Sequence[Row]) -> Row | None:
    """Of the rows with the id that a verdict names, the one written or judged by whom the verdict is of.

    Answers of several models to one prompt share an id. None where no row fits.
    """
    for row in rows:
        writers = {turn.get("model") for turn in row.get("turns", ())}
        judges = {note.get("annotator") for note in row.get("annotations", ())}
        if verdict.get("of") in writers | judges:
            return row
    return rows[0] if len(rows) == 1 else None


def add_verdict(row: Row, verdict: Row, step: str) -> None:
    """Put a verdict to its row, without the texts that stand in the row already."""
    texts = _texts(row)
    facts = {
        key: value
        for key, value in verdict.items()
        if key not in ("record", "comparison", "prompt") and not (isinstance(value, str) and value in texts)
    }
    row.setdefault("verdicts", []).append({"eval": step, **facts})


def _texts(row: Row) -> set[str]:
    parts = [*row.get("turns", ()), *row.get("candidates", ())]
    return {*(text for _, text in row.get("prompt", ())), *(part.get("text", "") for part in parts)} - {""}


def _prompted(row: Row, step: str, kind: str) -> Row:
    meta: Mapping[str, Any] = row.get("meta", {})
    return {
        "step": step,
        "kind": kind,
        "id": row["id"],
        "prompt": [[message["role"], message["content"]] for message in row["prompt"]],
        "category": str(meta.get("category", "")),
        "meta": dict(meta),
    }


def _told(fields: Mapping[str, Any], keys: Collection[str]) -> Row:
    """The fields that say something."""
    return {key: fields[key] for key in keys if fields.get(key) not in ("", None)}


def _distinct(names: Iterable[Any]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name]
