"""Run folders written by hand, for tests of what is reported of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai import manifest
from cai.evals import Number
from cai.records import digest


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def made(
    run: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    kind: str = "generate",
    inputs: Sequence[str] = (),
    rejects: Sequence[Mapping[str, Any]] = (),
    items: int | None = None,
    numbers: Sequence[Number] = (),
    headline: Sequence[str] = (),
    **keys: Any,
) -> str:
    """A complete output as cai.runs writes it; returns the fingerprint that stands for it in inputs."""
    evals = bool(headline)
    identity = {"eval" if evals else "stage": {"kind": kind, **keys}, "inputs": list(inputs), "name": name}
    run.mkdir(parents=True, exist_ok=True)
    write_rows(run / f"{name}.jsonl", rows)
    if rejects:
        write_rows(run / f"{name}.rejects.jsonl", rejects)
    reasons: dict[str, int] = {}
    for row in rejects:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    whole = {
        "complete": True,
        "fingerprint": manifest.fingerprint(identity),
        "identity": identity,
        "made_by": [{"cai": "0.1.0", "commit": "c" * 40, "dirty": True, "python": "3.11", "libraries": {}}],
        "started": f"2026-01-01T00:00:{len(list(run.glob('*.json'))):02}+00:00",
        "counts": {"items": len(rows) if items is None else items, "rows": len(rows), "rejects": reasons},
        "tokens": {"prompt": 100, "cached": 0, "generated": 50},
        "seconds": 2.0,
        "files": {},
    }
    told = {"numbers": [vars(number) for number in numbers], "headline": list(headline)} if evals else {}
    (run / f"{name}.json").write_text(json.dumps({**whole, **told}))
    return manifest.fingerprint(identity)


def record(prompt: str, *texts: str, model: str = "m", **meta: Any) -> dict[str, Any]:
    """A record of a response and then, two by two, critiques and revisions."""
    kinds = ["response", *["critique", "revision"] * len(texts)]
    turns = [
        {
            "kind": kind,
            "text": text,
            "principle": "" if kind == "response" else "p1",
            "model": model,
            "finish": "stop",
        }
        for kind, text in zip(kinds, texts, strict=False)
    ]
    prompt_id = digest("prompt", prompt)
    said = [{"role": "user", "content": prompt}]
    return {
        "id": digest("record", prompt_id),
        "prompt_id": prompt_id,
        "sample": 0,
        "prompt": said,
        "meta": meta,
        "turns": turns,
    }


def compared(
    prompt: str, first: str, second: str, p: float, *, agree: bool = True, **meta: Any
) -> dict[str, Any]:
    """A comparison of two answers by one judge in both orders."""
    row = record(prompt, **meta)
    note = {
        "annotator": "reasoned",
        "principle": "p1",
        "protocol": "both orders",
        "probabilities": [p, 1 - p],
        "orders": [[p, 1 - p], [p, 1 - p]],
        "shown": [[0, 1], [1, 0]],
        "agree": agree,
        "note": "because",
        "model": "m",
    }
    texts = [{"text": text, "record": row["id"], "model": "m", "weights": ""} for text in (first, second)]
    kept = {key: row[key] for key in ("id", "prompt_id", "prompt", "meta")}
    return {**kept, "candidates": texts, "annotations": [note], "probabilities": [p, 1 - p]}


def rejected(row: Mapping[str, Any], reason: str, **parts: Any) -> dict[str, Any]:
    """The reject of a record."""
    base = {
        "id": digest("reject", row["id"]),
        "item": row["id"],
        "prompt_id": row["prompt_id"],
        "stage": "revise",
    }
    return {**base, "reason": reason, "detail": "", "raw": "", "line": 0, **parts}


def share(of: str, name: str, value: float, group: str = "") -> Number:
    return Number(
        name=name,
        of=of,
        value=value,
        low=max(0.0, value - 0.1),
        high=min(1.0, value + 0.1),
        n=100,
        group=group,
    )
