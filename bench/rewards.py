"""Tables of reinforcement learning on the organism: bench/results/rl.json."""

from collections.abc import Iterator
from typing import Any

HARM, HELP, OVER = "harmful compliance", "benign helpfulness", "borderline refusals"
PROXY = "proxy reward"


def aligned(rl: dict[str, Any]) -> Iterator[str]:
    """What PPO and GRPO make of the SL-CAI model."""
    yield f"| model | {HARM} | {HELP} | {OVER} |"
    yield "|---|---|---|---|"
    seen = set()
    for name in ("ppo", "grpo"):
        numbers = _by(rl["runs"][name]["table"]["numbers"])
        for of in dict.fromkeys(of for of, _, _ in numbers):
            if _short(of) not in seen:
                seen.add(_short(of))
                cells = [_share(numbers[of, measure, ""]) for measure in (HARM, HELP, OVER)]
                yield f"| {_short(of)} | {' | '.join(cells)} |"


def hacked(rl: dict[str, Any]) -> Iterator[str]:
    """What the reward saw and what was true, as training went on, for each KL coefficient."""
    numbers = _by(rl["runs"]["hacking"]["hacking"]["numbers"])
    yield f"| trained with | rollouts before | {PROXY} | {HARM} | {HELP} | {OVER} |"
    yield "|---|---|---|---|---|---|"
    for of in dict.fromkeys(of for of, _, _ in numbers):
        groups = list(dict.fromkeys(group for one, _, group in numbers if one == of and group))
        for group in (groups[0], groups[len(groups) // 2], groups[-1]):
            cells = [_share(numbers[of, measure, group]) for measure in (HARM, HELP, OVER)]
            proxy = numbers[of, PROXY, group]["value"]
            yield f"| {_short(of)} | {group} | {proxy:+.2f} | {' | '.join(cells)} |"


def _by(numbers: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(one["of"], one["name"], one["group"]): one for one in numbers}


def _short(of: str) -> str:
    return of.rstrip("/").rpartition("/")[2]


def _share(one: dict[str, Any]) -> str:
    if one["value"] is None:
        return f"n={one['n']}"
    return f"{one['value']:.1%} [{one['low']:.0%}, {one['high']:.0%}] n={one['n']}".replace("%", " %")
