"""SIGKILL at random moments: the real stages, on the scripted and the local engine, end in the same bytes."""

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from forks import Nursery, nursery_of

KILLS = 25
PROMPTS = [
    *({"prompt": f"Question {number}?", "n": number} for number in range(24)),
    "again",
    "again",
    {"no": 1},
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with nursery_of("kill_job.py") as one:
        yield one


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prompts, and a random model that has room for a judge's question."""
    return furnished(tmp_path_factory.mktemp("kill"), width=16)


def furnished(folder: Path, width: int) -> Path:
    """The folder, with the prompts and a model in it."""
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    tiny.folder(folder / "model", width=width)
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    return folder


def outcome(folder: Path) -> dict[str, Any]:
    """Every file: rows and rejects byte for byte, of a manifest all that is not a matter of time."""
    found: dict[str, Any] = {}
    for path in folder.iterdir():
        found[path.name] = path.read_bytes()
        if path.suffix == ".json":
            said = json.loads(found[path.name])
            found[path.name] = [
                said[key] for key in ("complete", "identity", "counts", "tokens", "files", "fingerprint")
            ]
    return found


def life(drawn: random.Random, whole: float) -> float:
    """A moment to be killed at: now and then at once, now and then when nearly everything is done."""
    return whole * drawn.random() * drawn.choice([0.1, 0.4, 1.2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scripted", "local"])
def test_killed_and_gone_on_with_ends_in_the_same_bytes(nursery: Nursery, place: Path, kind: str) -> None:
    unbroken = place / f"{kind}-unbroken"
    began = time.monotonic()
    assert nursery.run(kind=kind, folder=str(unbroken), size=8, life=None) == 0
    whole = time.monotonic() - began
    expected = outcome(unbroken)
    assert len(expected["revisions.jsonl"]) > 5000 and expected["comparisons.jsonl"]

    drawn = random.Random(kind)
    kills = runs = 0
    while kills < KILLS:
        folder = place / f"{kind}-{runs}"
        runs += 1
        job = {"kind": kind, "folder": str(folder)}
        while status := nursery.run(**job, size=drawn.randint(1, 16), life=life(drawn, whole)):
            assert status == -signal.SIGKILL
            kills += 1
        assert outcome(folder) == expected
    print(f"{kind}: {kills} kills over {runs} runs, an unbroken one took {whole:.1f} s")
