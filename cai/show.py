"""The rows about one id, whole: what was asked, answered, criticised, compared, rejected, and by whom."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.errors import CaiError
from cai.shards import whole_of
from cai.terminal import console, sanitise

# Fewer digits than this would name half a run.
SHORTEST = 4
IDS = ("id", "prompt_id", "item", "record", "comparison")


def print_rows(run: Path, id: str) -> None:
    """Print every row of a run's files with an id that begins with `id`; `CaiError` when there is none."""
    if len(id) < SHORTEST:
        raise CaiError(f"'{id}' is too short for an id", next=f"give at least {SHORTEST} of its characters")
    out = console()
    found = 0
    shown: dict[str, int] = {}
    for path, row in _rows(run):
        if any(str(row.get(key, "")).startswith(id) for key in IDS):
            found += 1
            out.rule(f"{path.name}  {row.get('id', row.get('record', ''))}", align="left")
            out.print(rendered(row, shown.get(str(row.get("id")), 0)))
            shown[str(row.get("id"))] = len(row.get("turns", ()))
    if not found:
        raise CaiError(
            f"no row of '{run}' has an id that begins with '{id}'", next="ids are in its .jsonl files"
        )


def _rows(run: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    if not run.exists():
        raise CaiError(f"there is no run '{run}'", next="cai runs lists them")
    paths = sorted(run.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns) if run.is_dir() else [run]
    for path in paths:
        if whole_of(path) != path and whole_of(path).exists():
            # A shard that was merged.
            continue
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise CaiError(
                        "this is no JSON", where=f"{path}:{number}", next="give a run's folder"
                    ) from error
                if isinstance(row, dict):
                    yield path, row


def rendered(row: Mapping[str, Any], skip: int = 0) -> str:
    """A row for a reader; of a record's turns the first `skip` are left out, as shown before."""
    if "turns" in row:
        parts = [] if skip else [_message(message) for message in row["prompt"]]
        parts += [_turn(turn) for turn in row["turns"][skip:]]
    elif "candidates" in row:
        parts = [_message(message) for message in row["prompt"]]
        parts += [_candidate(at, row) for at in range(len(row["candidates"]))]
        parts += [_annotation(annotation) for annotation in row["annotations"]]
    else:
        parts = [f"{key}: {_text(str(value))}" for key, value in row.items()]
    return "\n".join(parts)


def _message(message: Mapping[str, str]) -> str:
    return f"{message['role']}: {_text(message['content'])}"


def _turn(turn: Mapping[str, str]) -> str:
    facts = [turn["model"], turn["principle"] and f"principle {turn['principle']}", turn["finish"]]
    return f"{turn['kind']} ({sanitise(', '.join(filter(None, facts)))}): {_text(turn['text'])}"


def _candidate(at: int, row: Mapping[str, Any]) -> str:
    candidate = row["candidates"][at]
    head = f"candidate {at + 1}, probability {row['probabilities'][at]:.3f}"
    return f"{head} ({sanitise(candidate['model'])}): {_text(candidate['text'])}"


def _annotation(annotation: Mapping[str, Any]) -> str:
    facts = [annotation["annotator"], annotation["principle"] and f"principle {annotation['principle']}"]
    if annotation["orders"]:
        orders = "; ".join(_numbers(order) for order in annotation["orders"])
        facts.append(f"orders {'agree' if annotation['agree'] else 'disagree'} ({orders})")
    if annotation.get("scores"):
        facts.append(f"scores {_numbers(annotation['scores'])}")
    note = f": {_text(annotation['note'])}" if annotation["note"] else ""
    return f"judged by {sanitise(', '.join(filter(None, facts)))}{note}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _text(text: str) -> str:
    return sanitise(text).replace("\n", "\n  ")
