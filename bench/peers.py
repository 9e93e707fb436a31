"""Tables of what was measured beside peers: bench/results/train.json, ppo.json and peer.json."""

from collections.abc import Iterator
from typing import Any


def trainers(train: dict[str, Any], ppo: dict[str, Any]) -> Iterator[str]:
    """cai's trainer against TRL's, rounds interleaved: times its rows, and the share of its memory."""
    newest, last = (one["versions"]["trl"]["trl"] for one in (train, ppo))
    yield "| training | rows per CPU-second, times TRL's | wall time | peak memory, of TRL's | aim |"
    yield "|---|---|---|---|---|"
    for name, case in train["cases"].items():
        memory = case["bar"]["memory"]
        aim = f"{case['bar']['cpu']:g}x" + (f", {memory:g} of its memory" if memory else "")
        yield _row(f"{name} (TRL {newest})", case["ratio"], aim)
    for name, case in ppo["cases"].items():
        yield _row(f"ppo, {name} (TRL {last})", case["ratio"], f"{case['bar']:g}x")


def pipelines(peer: dict[str, Any]) -> Iterator[str]:
    """cai's command against distilabel's pipeline."""
    versions, rounds = peer["versions"], peer["rounds"]
    pair = f"distilabel {versions['distilabel']} over cai, vLLM {versions['vllm']}"
    yield f"| {pair} | median (least to most) |"
    yield "|---|---|"
    for what, name in (
        ("seconds", "seconds from the command to the last row"),
        ("cpu_seconds", "CPU-seconds"),
    ):
        ratio = peer["ratio"][what]
        yield f"| {name} | {ratio['median']:.2f}x ({ratio['least']:.2f}-{ratio['most']:.2f}) |"
    last = rounds[-1]
    yield f"| seconds of the last round, cai and distilabel | {_two(last, 'seconds')} |"
    same = last["equal_revisions"]
    yield f"| answers, critiques, revisions that are equal | {_equal(same)} of {same['rows']} |"


def _row(name: str, ratio: dict[str, dict[str, float]], aim: str) -> str:
    return (
        f"| {name} | {_times(ratio['cpu'])} | {_times(ratio['wall'])} | {_share(ratio['memory'])} | {aim} |"
    )


def _times(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f}x ({spread['least']:.2f}-{spread['most']:.2f})"


def _share(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['least']:.2f}-{spread['most']:.2f})"


def _two(one: dict[str, Any], what: str) -> str:
    return f"{one['cai'][what]:.1f} and {one['distilabel'][what]:.1f}"


def _equal(same: dict[str, int]) -> str:
    return ", ".join(str(same[kind]) for kind in ("answer", "critique", "revision"))
