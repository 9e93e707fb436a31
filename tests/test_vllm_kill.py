"""SIGKILL at random moments of runs on vLLM: nothing is lost, nothing is there twice, all is finished."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from forks import nursery_of
from test_kill import furnished, life

pytest.importorskip("vllm", reason="vLLM is not installed")

KILLS = int(os.environ.get("CAI_KILLS", "6"))


def ids(folder: Path) -> dict[str, list[str]]:
    """The ids of every file's rows. A text may hang on a last bit, and that on what ran beside it."""
    return {
        path.name: [json.loads(line)["id"] for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


@pytest.mark.vllm
def test_killed_and_gone_on_with_ends_in_the_same_rows(tmp_path: Path) -> None:
    furnished(tmp_path, width=64)
    with nursery_of("kill_job.py", "vllm") as nursery:
        unbroken = tmp_path / "unbroken"
        began = time.monotonic()
        assert nursery.run(kind="vllm", folder=str(unbroken), size=8, life=None) == 0
        whole = time.monotonic() - began
        expected = ids(unbroken)
        assert set(expected) >= {"responses.jsonl", "revisions.jsonl", "comparisons.jsonl"}
        drawn = random.Random(0)
        kills = runs = 0
        while kills < KILLS:
            folder = tmp_path / str(runs)
            runs += 1
            job = {"kind": "vllm", "folder": str(folder)}
            while status := nursery.run(**job, size=drawn.randint(4, 32), life=life(drawn, whole)):
                assert status == -signal.SIGKILL
                kills += 1
            assert ids(folder) == expected
    print(f"{kills} kills over {runs} runs, an unbroken one took {whole:.1f} s")
