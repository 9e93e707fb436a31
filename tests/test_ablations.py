"""The ablations on the organism: what bench/ablations.py sweeps, and what bench/signs.py says of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cai.commands.sweep import _axis
from cai.sweep.axes import Group, groups_of
from cai.sweep.plan import Sweep, plan_of

ROOT = Path(__file__).parent.parent


def bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "bench" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ABLATIONS, SIGNS = bench("ablations"), bench("signs")


def groups(ablation: Any) -> tuple[Group, ...]:
    return groups_of(tuple(map(_axis, ablation.vary)), each=ablation.each)


def test_the_requests_of_the_ablations_are_the_two_halves_of_the_training_ones() -> None:
    folder = ROOT / "prompts" / "organism"
    whole = (folder / "train.jsonl").read_text().splitlines()
    harmful = [line for line in whole if '"kind": "harmful"' in line]
    assert (folder / "train-harmful.jsonl").read_text().splitlines() == harmful
    harmless = [line for line in whole if line not in harmful]
    assert (folder / "train-harmless.jsonl").read_text().splitlines() == harmless


def test_every_ablation_can_be_planned_and_shares_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made, wanted = set(), 0
    for one in ABLATIONS.ABLATIONS:
        axes = tuple(map(_axis, one.vary))
        place = {"folder": Path("runs/a") / one.name, "store": Path("runs/a/steps")}
        planned = plan_of(Sweep(recipe=Path(one.recipe), axes=axes, each=one.each, seeds=1, **place))
        made |= {step.output for step in planned.steps}
        wanted += planned.wanted
    assert (len(made), wanted) == (99, 226)


def test_every_claim_is_about_what_is_swept() -> None:
    swept = {
        (ablation.name, group.combinations[0].name, one.name)
        for ablation in ABLATIONS.ABLATIONS
        for group in groups(ablation)
        for one in group.combinations
    }
    names = {(ablation, name) for ablation, *both in swept for name in both}
    for claim in SIGNS.CLAIMS:
        assert {(claim.sweep, claim.first), (claim.sweep, claim.then)} <= names, claim.says


@pytest.mark.parametrize(
    "sign, low, high, verdict",
    [
        (-1, -0.4, -0.1, "yes"),
        (-1, -0.4, 0.1, "not seen"),
        (-1, 0.1, 0.4, "**no**: the other way"),
        (1, 0.1, 0.4, "yes"),
        (0, -0.1, 0.4, "not refuted"),
        (0, 0.1, 0.4, "**no**: it does"),
    ],
)
def test_a_sign_holds_where_the_interval_leaves_out_zero(
    sign: int, low: float, high: float, verdict: str
) -> None:
    assert SIGNS._verdict(sign, low, high) == verdict


def test_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = SIGNS.Claim(says="soft is better", sweep="labels", first="label=soft", then="label=hard", sign=1)
    values = {"label=soft": [0.1, 0.2, 0.3], "label=hard": [0.2, 0.31, 0.39]}
    lines = [
        {
            "combination": name,
            "eval": "table",
            "of": "sl-cai",
            "name": measure,
            "group": "",
            "values": [one * scale for one in found],
            "mean": scale * sum(found) / 3,
        }
        for name, found in values.items()
        for measure, scale in ((SIGNS.HARM, 1), (SIGNS.HELP, 2), (SIGNS.REFUSALS, 0))
    ]
    result = {"sweeps": {"labels": {"lines": lines}}}
    monkeypatch.setattr(SIGNS, "CLAIMS", (claim,))
    *_, row = SIGNS.signs(result)
    # Changes of 10, 11 and 9 points: 10 +- 4.3027 * 1 / sqrt(3).
    assert row == (
        "| soft is better | harmful compliance: 20.0 to 30.0 % "
        "(benign helpfulness 40.0 to 60.0, borderline refusals 0.0 to 0.0) | +10.0 [7.5, 12.5] | yes |"
    )
    *_, row = SIGNS.ablations(result)
    assert (
        row == "| labels | label=hard | sl-cai | 30.0 % (20.0-39.0) | 60.0 % (40.0-78.0) | 0.0 % (0.0-0.0) |"
    )
