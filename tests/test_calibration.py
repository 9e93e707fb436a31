"""Calibration: maps computed by hand, symmetry, what the stage keeps, and the commands from fit to table."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_evals_judge import compared, said

from cai.calibrating import errors, fit, mapped, sample
from cai.calibration import Calibration
from cai.cli import run
from cai.errors import CaiError
from cai.evals._reliability import Judged, calibration_error
from cai.gold import Gold
from cai.records import Annotation, Comparison, Reject, to_row
from cai.stages.calibrate import Calibrate

METHODS = ("temperature", "isotonic")
BETTER = Gold(source="meta:better")


def sampled(*ps: float) -> list[Comparison]:
    """Comparisons whose better candidate was given these probabilities, in turn the first and the second."""
    return [
        compared(at, said(p, p) if at % 2 == 0 else said(1 - p, 1 - p), better=at % 2)
        for at, p in enumerate(ps)
    ]


def fitted(method: str, *ps: float) -> Calibration:
    return fit(sample(sampled(*ps), BETTER), method, "meta:better")  # type: ignore[arg-type]


def test_the_slope_by_hand() -> None:
    # All at 0.8; six of ten are right, and the truth counts as 11/12 likely: 0.6 * 11/12 + 0.4 * 1/12 = 7/12.
    made = fitted("temperature", *[0.8] * 6, *[0.2] * 4)
    assert made.slope == pytest.approx(math.log(7 / 5) / math.log(4))
    assert made.apply((0.8, 0.2)) == pytest.approx((7 / 12, 5 / 12))
    assert (made.annotator, made.n, made.gold, made.knots) == ("judge", 10, "meta:better", ())


def test_a_judge_that_is_always_right_has_a_finite_slope() -> None:
    made = fitted("temperature", *[0.7] * 8)
    assert made.apply((0.7, 0.3))[0] == pytest.approx(0.9)


@pytest.mark.parametrize("method", METHODS)
def test_a_judge_that_is_mostly_wrong_knows_nothing(method: str) -> None:
    made = fitted(method, *[0.9] * 2, *[0.1] * 8)
    assert made.apply((0.9, 0.1)) == pytest.approx((0.5, 0.5))


def test_pools_by_hand() -> None:
    # Confidence 0.6: 1 of 2 right; 0.7: 2 of 2; 0.8: 1 of 2 (pooled with 0.7: 3 of 4); 0.9: all of 4.
    made = fitted("isotonic", 0.6, 0.4, 0.7, 0.7, 0.8, 0.2, 0.9, 0.9, 0.9, 0.9)
    expected = [(0.5, 0.5), (0.6, 0.5), (0.7, 0.75), (0.8, 0.75), (0.9, 11 / 12)]
    assert [tuple(knot) for knot in made.knots] == [pytest.approx(knot) for knot in expected]
    assert made.apply((0.75, 0.25))[0] == pytest.approx(0.75)
    assert made.apply((0.35, 0.65))[1] == pytest.approx(0.625)
    assert made.apply((1.0, 0.0))[0] == pytest.approx(11 / 12)


P = st.floats(0.0, 1.0)


@given(ps=st.lists(P, min_size=1, max_size=30), p=P, method=st.sampled_from(METHODS))
def test_maps_are_symmetric_and_monotone(ps: list[float], p: float, method: str) -> None:
    made = fitted(method, *ps)
    first, second = made.apply((p, 1 - p))
    assert made.apply((1 - p, p)) == pytest.approx((second, first), abs=1e-9)
    assert first + second == pytest.approx(1) and 0 <= first <= 1
    assert (first - 0.5) * (p - 0.5) >= -1e-12
    higher = min(1.0, p + 0.1)
    assert made.apply((higher, 1 - higher))[0] >= first - 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_distorted_judge_is_put_right(method: str) -> None:
    """Its log-odds are three times too large; a map fitted to some of its verdicts mends others."""
    random = np.random.default_rng(5)
    true = random.uniform(0.5, 0.97, 4000)
    right = random.random(4000) < true
    odds = 3 * np.log(true / (1 - true))
    ps = 1 / (1 + np.exp(-np.where(right, odds, -odds)))
    judged = [Judged(prompt=str(at), p=float(p)) for at, p in enumerate(ps)]
    made = fitted(method, *ps[:2000])
    assert calibration_error(judged[2000:])[0] > 0.1
    assert calibration_error(mapped(judged[2000:], made))[0] < 0.04
    if method == "temperature":
        assert made.slope == pytest.approx(1 / 3, abs=0.02)


def test_errors_are_before_and_after() -> None:
    known = sample(sampled(*[0.8] * 6, *[0.2] * 4), BETTER)
    before, after = errors(known, fit(known, "temperature", "meta:better"))
    assert (before.of, before.value) == ("judge, before", pytest.approx(0.2))
    assert (after.of, after.value) == ("judge, after", pytest.approx(0.6 - 7 / 12))


def test_three_candidates_have_a_temperature_only() -> None:
    made = Calibration(method="temperature", annotator="judge", slope=0.5, n=1)
    assert made.apply((0.64, 0.32, 0.04)) == pytest.approx([p / 1.5657 for p in (0.8, 0.5657, 0.2)], abs=1e-4)
    three = compared(
        1,
        Annotation(annotator="judge", probabilities=(0.64, 0.32, 0.04)),
        texts=("a", "b", "c"),
        models=("", "", ""),
    )
    [row] = Calibrate(calibration=made).work(three)
    assert isinstance(row, Comparison) and row.probabilities == made.apply((0.64, 0.32, 0.04))
    [row] = Calibrate(calibration=fitted("isotonic", 0.6)).work(three)
    assert isinstance(row, Reject) and (row.reason, row.detail) == (
        "several candidates",
        "an isotonic map takes two candidates, and there are 3",
    )


def test_the_raw_word_is_kept_without_weight() -> None:
    made = Calibration(method="temperature", annotator="judge", slope=0.0, n=1)
    raw, other = said(0.9, 0.7, weight=2.0), said(0.1, 0.1, annotator="other")
    [row] = Calibrate(calibration=made).work(compared(1, raw, other))
    assert isinstance(row, Comparison)
    kept, beside, new = row.annotations
    assert (kept.probabilities, kept.orders, kept.weight) == (raw.probabilities, raw.orders, 0.0)
    assert beside == other
    assert (new.annotator, new.probabilities, new.weight, new.orders) == (
        "calibrated judge",
        (0.5, 0.5),
        2.0,
        (),
    )
    assert row.probabilities == pytest.approx(((2 * 0.5 + 0.1) / 3, (2 * 0.5 + 0.9) / 3))
    [again] = Calibrate(calibration=made).work(row)
    assert isinstance(again, Reject) and again.reason == "other judge"


def test_which_judge_is_meant() -> None:
    both = [compared(1, said(0.9, 0.9, "one"), said(0.8, 0.8, "other"))]
    with pytest.raises(CaiError) as raised:
        sample(both, BETTER)
    assert str(raised.value) == (
        "several annotated these comparisons ('one', 'other'); name one with --annotator"
    )
    assert sample(both, BETTER, "other").judged == (Judged(prompt="request 1", p=0.8),)
    with pytest.raises(CaiError) as raised:
        sample(both, BETTER, "third")
    assert str(raised.value) == (
        "no verdict of 'third' that 'meta:better' knows the truth of; check both names"
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ps = [*[0.95] * 30, *[0.05] * 20]
    lines = [json.dumps(to_row(comparison)) for comparison in sampled(*ps)]
    Path("dev.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_from_fit_to_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ["calibration", "dev.jsonl", "--gold", "meta:better", "--method", "temperature", "-o", "map.json"]
    assert run(made) == 0
    out = capsys.readouterr().out
    assert "map.json: temperature, on what it was fitted to" in out
    assert "judge, before" in out and "35.0%" in out
    assert run(["calibrate", "dev.jsonl", "--calibration", "map.json", "-o", "made.jsonl", "--quiet"]) == 0
    measure = ["eval", "made.jsonl", "--eval", "judge", "--set", "gold=meta:better", "-o", "table.jsonl"]
    assert run([*measure, "--quiet"]) == 0
    numbers = json.loads(Path("table.json").read_text())["numbers"]
    errors = {one["of"]: one["value"] for one in numbers if one["name"] == "calibration error (ECE)"}
    assert errors == {"judge": pytest.approx(0.35), "calibrated judge": pytest.approx(0.0, abs=0.01)}
    capsys.readouterr()
    assert run(made) == 2
    assert capsys.readouterr().err == "error: map.json: there is a file here already; choose another name\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "map.json: cannot be read (No such file or directory); make it with cai calibration"),
        ("{", "map.json: this is no JSON; make it with cai calibration"),
        ("[]", "map.json: this is no calibration; make it with cai calibration"),
        ('{"n": 1, "method": "platt", "annotator": "a"}',
         "map.json: 'method' is 'platt'; choose one of 'temperature', 'isotonic'"),
    ],
)  # fmt: skip
def test_what_is_no_calibration(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    if text is not None:
        Path("map.json").write_text(text)
    assert run(["calibrate", "dev.jsonl", "--calibration", "map.json", "-o", "made.jsonl"]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
