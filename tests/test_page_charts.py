"""The page's charts and tables: every number where it belongs, with its interval."""

import json
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from cai.constitution import load
from cai.evals import Number
from cai.evals._judging import CONFIDENCE, RIGHT
from cai.report import figures
from cai.report.page import charts, sources, tables
from cai.report.page.curves import MOST_POINTS, curves
from cai.report.page.shapes import Cell, Point
from cai.report.summary import Line, Table
from cai.runs import runs_in
from tests.reports import made, record, share

HEADLINE = ("harm", "help", "refusals")


def table(*numbers, headline=HEADLINE) -> Table:
    return Table(name="table", headline=headline, numbers=numbers)


def models() -> Table:
    values = {"start": (0.9, 0.8, 0.1), "runs/x/sl-cai": (0.2, 0.7, 0.3)}
    numbers = [
        share(of, name, value)
        for of, held in values.items()
        for name, value in zip(HEADLINE, held, strict=True)
    ]
    return table(*numbers, share("start", "harm", 0.5, group="theft"))


def test_the_frontier_shows_harm_with_help_and_over_refusal() -> None:
    chart = charts.frontier({"x": models()})
    assert chart is not None
    assert (chart.x, chart.y, chart.x_share, chart.y_share) == ("help", "harm", True, True)
    [series] = chart.series
    assert series.points[1] == Point(
        x=0.7,
        y=0.2,
        low=pytest.approx(0.1),
        high=pytest.approx(0.3),
        x_low=pytest.approx(0.6),
        x_high=pytest.approx(0.8),
        n=100,
        label="sl-cai",
        note="harm 20.0%, help 70.0%, refusals 30.0%",
    )


def test_an_eval_that_is_not_of_harm_and_help_has_no_frontier() -> None:
    assert (
        charts.frontier({"x": table(share("judge", "right", 0.9), headline=("right", "unreadable"))}) is None
    )
    assert charts.frontier({"x": table(share("start", "harm", 0.9))}) is None


def test_the_headline_shows_every_measure_of_a_model_in_one_row() -> None:
    grid = tables.headline(models())
    assert grid.columns == ("", *HEADLINE)
    assert grid.rows[1] == (
        Cell(text="sl-cai"),
        Cell(text="20.0%", small="[10.0, 30.0]  n = 100", share=0.2),
        Cell(text="70.0%", small="[60.0, 80.0]  n = 100", share=0.7),
        Cell(text="30.0%", small="[20.0, 40.0]  n = 100", share=0.3),
    )
    assert len(tables.headline(table(*models().numbers, share("judge", "agree", 0.5))).rows) == 2
    rest = tables.more(models())
    assert rest is not None
    assert [[cell.text for cell in row] for row in rest.rows] == [["start", "harm", "theft", "50.0%"]]


def test_categories_are_bars_and_counts_a_curve() -> None:
    kinds = [share("m", "harm", 0.1, group="theft"), share("m", "harm", 0.2, group="arson")]
    tries = [share("m", "success", 0.3, group="8 tries"), share("m", "success", 0.2, group="1 try")]
    named = [share("m", "right", 0.5, group=f"no-harm-{n}") for n in (1, 2)]
    bars, curve, principles = charts.groups(
        table(*kinds, *tries, *named, share("m", "alone", 0.1, group="one"))
    )
    assert (bars.kind, bars.ticks) == ("bars", ("theft", "arson"))
    assert [(point.x, point.y) for point in bars.series[0].points] == [(0, 0.1), (1, 0.2)]
    assert (curve.kind, curve.x, curve.ticks) == ("points", "tries", ())
    assert [(point.x, point.y) for point in curve.series[0].points] == [(1, 0.2), (8, 0.3)]
    assert principles.kind == "bars"


def test_what_one_draw_does_not_tell_is_left_out_of_a_chart() -> None:
    alone = [
        Number(name="score", of="start", value=value, low=nan, high=nan, n=1, group=group, unit="plain")
        for group, value in (("theft", 0.5), ("fraud", 0.25), ("none", nan))
    ]
    [chart] = charts.groups(table(*alone))
    [one] = chart.series
    assert chart.ticks == ("theft", "fraud")
    assert one.points == (Point(x=0, y=0.5, n=1), Point(x=1, y=0.25, n=1))


def test_reliability_is_drawn_from_an_eval_s_own_table() -> None:
    bins = {"0.500 to 0.700": (0.6, 0.5), "0.700 to 0.990": (0.9, 0.8)}
    numbers = [
        share("reasoned", name, value, group=group)
        for group, both in bins.items()
        for name, value in zip((CONFIDENCE, RIGHT), both, strict=True)
    ]
    chart = charts.reliability(table(*numbers))
    assert chart is not None and chart.diagonal
    assert [(point.x, point.y, point.n) for point in chart.series[0].points] == [
        (0.6, 0.5, 100),
        (0.9, 0.8, 100),
    ]
    assert charts.groups(table(*numbers)) == []
    assert charts.reliability(models()) is None


def test_rounds_have_wilson_intervals() -> None:
    chart = charts.rounds("revisions", {1: [True, True, False, False], 2: [False] * 4})
    assert chart is not None
    first, second = chart.series[0].points
    # Wilson at 2 of 4 and 0 of 4, by hand: centre (p + z^2/8) / (1 + z^2/4) with z^2 = 3.8415.
    assert (first.y, first.low, first.high) == (
        0.5,
        pytest.approx(0.15004, abs=1e-5),
        pytest.approx(0.84996, abs=1e-5),
    )
    assert (second.y, second.low, second.high) == (0.0, 0.0, pytest.approx(0.48990, abs=1e-5))
    assert charts.rounds("revisions", {1: [True]}) is None


def metrics(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_training_curves_keep_losses_rewards_and_kl_apart(tmp_path: Path) -> None:
    rows = [
        {
            "step": 1,
            "tokens": 9,
            "lr": 0.1,
            "kl": 0.0,
            "reward": 0.5,
            "score_a": 1,
            "score_b": 0,
            "loss": 2.0,
            "kl_coef": 0.05,
        },
        {
            "step": 2,
            "tokens": 8,
            "lr": 0.2,
            "kl": 0.1,
            "reward": 0.6,
            "score_a": 2,
            "score_b": 1,
            "loss": 1.0,
            "kl_coef": 0.05,
        },
    ]
    found = curves(metrics(tmp_path / "ppo", rows), "ppo")
    assert [chart.title for chart in found] == [
        "ppo: loss",
        "ppo: reward",
        "ppo: KL",
        "ppo: scores",
        "ppo: lr",
    ]
    assert found[0].about == "The same at every step: kl_coef 0.05."
    assert [series.name for series in found[3].series] == ["score_a", "score_b"]
    assert [(point.x, point.y) for point in found[1].series[0].points] == [(1, 0.5), (2, 0.6)]
    assert curves(tmp_path / "no", "no") == []


def test_a_long_training_is_drawn_in_means(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": float(n)} for n in range(1, 2 * MOST_POINTS + 2)]
    [chart] = curves(metrics(tmp_path / "long", rows), "long")
    points = chart.series[0].points
    assert (len(points), chart.about) == (267, "Each point is the mean of 3 steps.")
    assert (points[0].x, points[0].y, points[-1].x) == (3, 2.0, 801)


def test_the_way_names_every_reason(tmp_path: Path) -> None:
    made(tmp_path, "responses", [record("a", "1")], items=4)
    line = Line(
        name="responses", kind="generate", state="complete", rows=1, rejects={"empty": 2, "engine": 1}
    )
    late = Line(name="critiques", kind="", state="not begun")
    grid = tables.funnel(runs_in(tmp_path), [line, late])
    assert [[(cell.text, cell.small) for cell in row] for row in grid.rows] == [
        [("responses", ""), ("generate", ""), ("4", ""), ("1", ""), ("3", "empty 2, engine 1")],
        [("critiques", "not begun"), ("", ""), ("", ""), ("", ""), ("", "")],
    ]


def test_principles_are_shown_in_the_words_they_were_used_in(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    wording = 'critique = "Is it bad?"\nrevision = "Make it good."\npreference = "Choose the good one."\n'
    mine.write_text(f'name = "mine"\n[[principle]]\nid = "p1"\nweight = 2.0\n{wording}')
    used = load(mine).identity()
    run = tmp_path / "run"
    made(run, "critiques", [record("a", "1", "c")], kind="critique", constitution=used)
    (run / "recipe.toml").write_text(f'constitution = "{mine}"\n[[steps]]\nname = "critiques"\n')
    grid = sources.constitution(run, runs_in(run))
    assert grid is not None
    assert [cell.text for cell in grid.rows[0]] == [
        "p1",
        "2",
        "Is it bad?",
        "Make it good.",
        "Choose the good one.",
    ]
    mine.write_text(mine.read_text().replace("bad", "very bad"))
    grid = sources.constitution(run, runs_in(run))
    assert grid is not None
    assert [cell.text for cell in grid.rows[0]] == ["p1", "2", sources.UNKNOWN, "", ""]
    assert sources.constitution(run, []) is None


def test_figures_are_as_fine_as_they_are_read() -> None:
    elo = Number(name="Elo", of="m", value=1158.18, low=1105.66, high=1218.54, n=60)
    drift = Number(name="drift", of="m", value=-0.0123, low=-0.05, high=0.02, n=60)
    assert [(figures.value(one), figures.interval(one)) for one in (elo, drift)] == [
        ("1158.2", "[1105.7, 1218.5]"),
        ("-0.012", "[-0.050, 0.020]"),
    ]


def test_a_unit_decides_what_is_a_percentage_and_without_one_the_interval_does() -> None:
    drift = Number(name="drift", of="m", value=0.063, low=0.05, high=0.08, n=60, unit="plain")
    assert (figures.value(drift), figures.interval(drift)) == ("0.063", "[0.050, 0.080]")
    unsaid = replace(drift, unit="")
    assert (figures.value(unsaid), figures.interval(unsaid)) == ("6.3%", "[5.0, 8.0]")
    wide = replace(drift, unit="share", low=-0.01)
    assert (figures.value(wide), figures.interval(wide)) == ("6.3%", "[-1.0, 8.0]")
