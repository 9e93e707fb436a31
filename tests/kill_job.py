"""Starts the pipelines that test_kill kills."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from string import ascii_letters
from typing import Any

from forks import serve
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from cai import config
from cai.constitution import load
from cai.engines import Engine, Reply, _session, local, scripted, vllm
from cai.judges import Appointed
from cai.pipeline import Link, run
from cai.rows import items_for
from cai.stages.compare import Compare
from cai.stages.critique import Critique
from cai.stages.generate import Generate
from cai.stages.revise import Revise
from cai.stages.screen import Screen

# Whatever a run imports is here already, so that it is killed at work.
LOADED = (_session, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM)
CHAIN = ["responses", "critiques", "revisions", "screened"]
ROOT = Path(__file__).parent.parent


class Slow(scripted.ScriptedSession):
    """Takes its time, so that there is a moment to be killed in."""

    def poll(self) -> Sequence[tuple[int, Reply]]:
        time.sleep(0.002)
        return super().poll()


def stages(stop: tuple[str, ...]) -> dict[str, Any]:
    """The real stages, all under `stop`."""
    constitution = load(ROOT / "constitutions" / "harmless.toml")
    writing: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0, "stop": stop, "seed": 7}
    review = {"constitution": constitution, **writing}
    judge = Appointed.from_toml({"type": "logprob", "min_mass": 0.0}, "test")
    return {
        "responses": Generate(samples=2, **writing),
        "critiques": Critique(**review),
        "revisions": Revise(rounds=2, **review),
        "screened": Screen(),
        "comparisons": Compare(constitution=constitution, judge=judge),
    }


def job(kind: str, folder: Path, size: int) -> None:
    """The loop up to the comparisons, with `size` requests at a time."""
    engine: Engine
    if kind in ("local", "vllm"):
        model = str(folder.parent / "model")
        engine = (
            local.Local(model=model, batch=size, threads=1)
            if kind == "local"
            else vllm.Vllm(model=model, batch=size, threads=1, cache=0.1)
        )
        opened: list[Any] = []

        def session() -> Any:
            if not opened:
                opened.append(engine.open())
            return opened[0]
    else:
        engine = scripted.Scripted(capacity=size)
        slow = Slow(scripted.Scripted().answer, capacity=size)

        def session() -> Any:
            return slow

    # A random model seldom ends a text, so a letter does.
    made = stages(() if kind == "scripted" else tuple(ascii_letters))
    links = {
        name: Link(
            stage=stage,
            path=folder / f"{name}.jsonl",
            identity={"stage": config.identity(stage), "engine": engine.identity()},
            session=session,
        )
        for name, stage in made.items()
    }
    source = items_for(made["responses"], [folder.parent / "prompts.jsonl"])
    run([links[name] for name in CHAIN], source)
    answers = [folder / "screened.jsonl"]
    run([links["comparisons"]], items_for(made["comparisons"], answers))


def work(wanted: dict[str, Any]) -> int:
    job(wanted["kind"], Path(wanted["folder"]), wanted["size"])
    return 0


if __name__ == "__main__":
    if "vllm" in sys.argv[1:]:
        vllm.prepare()
        import cai.engines._vllm  # noqa: F401
    serve(work)
