"""The summary of a run, from manifests written by hand, and how it reads."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from cai.cli import run
from cai.evals import Number
from cai.evals._numbers import to_json
from cai.records import Annotation, Candidate, Comparison, to_row, user
from cai.report import judges
from cai.report.summary import Line, Tokens, outputs_of, summarise
from cai.report.terminal import short


def output(run: Path, name: str, identity: dict[str, Any], complete: bool = True, **facts: Any) -> None:
    """An output's manifest as cai.runs writes it, with a file of rows."""
    (run / f"{name}.jsonl").write_text("")
    whole = {
        "complete": complete,
        "identity": identity,
        "started": f"2026-01-01T00:00:0{len(list(run.glob('*.json')))}+00:00",
        "counts": {"items": 4, "rows": 3, "rejects": {"empty": 1}},
        "tokens": {"prompt": 9000, "cached": 4000, "generated": 1200},
        "seconds": 2.5,
        **facts,
    }
    (run / f"{name}.json").write_text(json.dumps(whole))


def number(of: str, name: str, value: float, group: str = "") -> dict[str, Any]:
    return vars(
        Number(name=name, of=of, value=value, low=value - 0.01, high=value + 0.01, n=100, group=group)
    )


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of four steps, of which one is complete, one partial, one trained and one not begun."""
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(
        "".join(
            f'[[steps]]\nname = "{name}"\n'
            for name in ("responses", "critiques", "sl-cai", "rivals", "table")
        )
    )
    output(folder, "critiques", {"stage": {"kind": "critique"}}, complete=False)
    output(folder, "responses", {"stage": {"kind": "generate"}})
    numbers = [number("organism", "harm", 0.9), number("runs/x/sl-cai", "harm", 0.05)]
    numbers += [number("organism", "help", 0.97), number("organism", "decoys", 0.02)]
    numbers += [number("organism", "harm", 0.5, group="theft"), number("organism", "tokens", 31.5)]
    output(folder, "table", {"eval": {"kind": "organism"}}, numbers=numbers, headline=["harm", "help"])
    model = folder / "sl-cai"
    model.mkdir()
    note = {"complete": True, "identity": {"objective": {"kind": "sft"}}, "left_out": {"no answer": 2}}
    (model / "cai.json").write_text(json.dumps(note))
    came = {"rows": 40, "dropped": {"too long": 1}, "steps": 12, "tokens": 5000, "seconds": 7.0}
    losses = {"first_loss": 2.0, "last_loss": 0.5}
    (model / "training.json").write_text(json.dumps({**came, **losses}))
    return folder


def test_lines_follow_the_recipe_and_say_how_far_each_step_is(finished: Path) -> None:
    lines = summarise(finished).lines
    assert [(line.name, line.kind, line.state) for line in lines] == [
        ("responses", "generate", "complete"),
        ("critiques", "critique", "partial"),
        ("sl-cai", "sft", "complete"),
        ("rivals", "", "not begun"),
        ("table", "organism", "complete"),
    ]
    assert lines[0] == Line(
        name="responses",
        kind="generate",
        state="complete",
        rows=3,
        rejects={"empty": 1},
        tokens=Tokens(prompt=9000, cached=4000, generated=1200),
        seconds=2.5,
    )
    assert lines[2].rejects == {"no answer": 2, "too long": 1}
    assert lines[2].note == "12 steps, 5,000 tokens, loss 2.0000 -> 0.5000"


def test_the_report_as_it_is_printed(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(finished)]) == 0
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "responses generate complete 3 1 2.5" in words
    assert "sl-cai sft complete 40 3 7.0 12 steps, 5,000 tokens, loss 2.0000 -> 0.5000" in words
    assert "all 14.5" in words
    assert "step prompt cached generated generated a second" in words
    assert "responses 9,000 4,000 1,200 480" in words
    assert "all 27,000 12,000 3,600" in words
    assert "rivals not begun" in words
    assert "responses empty 1" in words
    assert "table (95 % intervals)" in words
    assert "organism 90.0% [89.0, 91.0] n=100 97.0% [96.0, 98.0] n=100" in words
    assert "sl-cai 5.0% [4.0, 6.0] n=100" in words
    assert "organism decoys 2.0% [1.0, 3.0] 100" in words
    assert "organism tokens 31.500 [31.490, 31.510] 100" in words
    assert not any("theft" in line for line in words)
    [resume] = [line for line in words if line.startswith("cai run")]
    assert resume == f"cai run {finished / 'recipe.toml'} goes on with critiques, rivals"
    assert any(line.startswith(f"cai chat {finished / 'sl-cai'}") for line in words)


def test_tokens_are_priced(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = ["--price-prompt", "2", "--price-cached", "0.5", "--price-generated", "10"]
    assert run(["report", str(finished), *prices]) == 0
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    # 5,000 fresh at 2, 4,000 cached at 0.5 and 1,200 generated at 10, a million.
    assert "step prompt cached generated price generated a second" in words
    assert "responses 9,000 4,000 1,200 0.02 480" in words
    assert "all 27,000 12,000 3,600 0.07" in words
    assert run(["report", str(finished), "--price-prompt", "1000", "--price-generated", "10000"]) == 0
    # Without a price of their own, cached tokens cost what others do.
    assert "responses 9,000 4,000 1,200 21.00 480" in " ".join(capsys.readouterr().out.split())
    cheap = ["--price-prompt", "0.1", "--price-generated", "0.4"]
    assert run(["report", str(finished), *cheap]) == 0
    assert "responses 9,000 4,000 1,200 0.0014 480" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("prices", "missing"),
    [(["--price-cached", "1"], "prompt"), (["--price-prompt", "1"], "generated")],
)
def test_a_price_alone_is_a_usage_error(
    finished: Path, capsys: pytest.CaptureFixture[str], prices: list[str], missing: str
) -> None:
    assert run(["report", str(finished), *prices]) == 2
    assert capsys.readouterr().err == (
        f"error: '--price-{missing}' is missing; give a price for prompt and generated tokens\n"
    )


RECIPE = """
constitution = "harmless"
[engines.start]
type = "scripted"
[[steps]]
name = "zebra"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
[[steps]]
name = "mouse"
stage = "critique"
engine = "start"
[[steps]]
name = "ant"
stage = "revise"
engine = "start"
"""


def test_chained_steps_stand_in_the_order_of_making_and_their_seconds_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(300)))
    Path("recipe.toml").write_text(RECIPE)
    began = time.monotonic()
    assert run(["run", "recipe.toml", "-o", "x", "--quiet"]) == 0
    took = time.monotonic() - began
    lines = summarise(Path("x")).lines
    assert [line.name for line in lines] == ["zebra", "mouse", "ant"]
    assert 0.3 * took < sum(line.seconds for line in lines) <= took
    assert all(line.seconds > 0 for line in lines)


def test_merged_shards_are_not_summed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(9)))
    command = ["generate", "prompts.jsonl", "--engine", "scripted", "-o", "x/a.jsonl", "--quiet", "--shard"]
    assert run([*command, "1/2"]) == run([*command, "2/2"]) == 0
    apart = summarise(tmp_path / "x").lines
    assert [line.name for line in apart] == ["a.1-of-2", "a.2-of-2"]
    assert run(["merge", "x"]) == 0
    [line] = summarise(tmp_path / "x").lines
    assert (line.name, line.rows, line.tokens) == ("a", 9, apart[0].tokens + apart[1].tokens)
    assert line.seconds == pytest.approx(apart[0].seconds + apart[1].seconds)


def test_what_was_measured_on_nothing_has_no_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = Number(name="harm", of="organism", value=float("nan"), low=0.0, high=1.0, n=0)
    row = to_json(nothing)
    assert json.loads(json.dumps(row, allow_nan=False))["value"] is None
    output(tmp_path, "table", {"eval": {"kind": "organism"}}, numbers=[row], headline=["harm"])
    assert run(["report", str(tmp_path)]) == 0
    assert "organism   nothing measured  n=0" in capsys.readouterr().out


def test_a_number_that_is_not_defined_is_said_to_be_so_and_an_empty_column_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kappa = Number(name="kappa", of="organism", value=float("nan"), low=-1.0, high=1.0, n=20)
    output(
        tmp_path, "table", {"eval": {"kind": "x"}}, numbers=[to_json(kappa)], headline=["kappa", "accuracy"]
    )
    assert run(["report", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "organism   not defined  n=20" in shown
    assert "nan" not in shown
    assert "accuracy" not in shown


def test_a_reward_model_is_not_proposed_to_talk_to(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "sl-cai", finished / "zz-rm")
    note = json.loads((finished / "zz-rm" / "cai.json").read_text())
    note["identity"]["objective"]["kind"] = "reward"
    (finished / "zz-rm" / "cai.json").write_text(json.dumps(note))
    assert [line.name for line in summarise(finished).lines][-1] == "zz-rm"
    assert run(["report", str(finished)]) == 0
    assert capsys.readouterr().out.split("cai chat ")[1].split()[0] == str(finished / "sl-cai")


def test_groups_are_shown_when_they_are_asked_for(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(finished), "--groups"]) == 0
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "organism harm theft 50.0% [49.0, 51.0] 100" in words


def judged(first: float, second: float) -> Comparison:
    """P(first candidate) as read with it shown first, then shown second."""
    mean = (first + second) / 2
    note = Annotation(
        annotator="logprob",
        probabilities=(mean, 1 - mean),
        orders=((first, 1 - first), (second, 1 - second)),
        shown=((0, 1), (1, 0)),
        agree=(first - 0.5) * (second - 0.5) > 0,
    )
    texts = (Candidate(text="a"), Candidate(text="b"))
    return Comparison(
        id="c",
        prompt_id="p",
        prompt=(user("x"),),
        candidates=texts,
        annotations=(note,),
        probabilities=note.probabilities,
    )


def test_how_a_judge_judged_is_in_every_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output(tmp_path, "comparisons", {"stage": {"kind": "compare"}})
    rows = [judged(0.9, 0.7), judged(0.8, 0.4)]
    text = "".join(json.dumps(to_row(row)) + "\n" for row in rows)
    (tmp_path / "comparisons.jsonl").write_text(text)
    [table] = judges.judged(outputs_of(tmp_path)).values()
    assert (table.name, table.columns) == (
        "comparisons: its judges",
        ("orders disagree", "position bias before"),
    )
    found = {number.name: number for number in table.numbers}
    # Shown first: 0.9 and 1 - 0.7, then 0.8 and 1 - 0.4; their mean is 0.65.
    assert found["position bias before"].value == pytest.approx(0.15)
    assert (found["orders disagree"].value, found["orders disagree"].n) == (0.5, 2)
    assert {number.of for number in table.numbers} == {"logprob"}
    assert run(["report", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "logprob 50.0% [0.0, 100.0] n=2 0.150 [?] n=2" in " ".join(shown.split())
    assert f"  cai review {tmp_path}/comparisons.jsonl --by orders  " in shown
    page = (tmp_path / "report.html").read_text()
    assert "comparisons: its judges" in page and "position bias before" in page


def test_a_step_that_rejected_all_it_judged_is_reported_like_any_other(tmp_path: Path) -> None:
    none = {"items": 4, "rows": 0, "rejects": {"unreadable": 4}}
    output(tmp_path, "comparisons", {"stage": {"kind": "compare"}}, counts=none)
    summary = summarise(tmp_path)
    assert judges.judged(outputs_of(tmp_path)) == {}
    assert [(line.rows, line.rejects) for line in summary.lines] == [(0, {"unreadable": 4})]


def test_runs_are_listed_with_how_far_they_are(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished.parent / "empty").mkdir()
    assert run(["runs", str(finished.parent)]) == 0
    assert capsys.readouterr().out == f"{finished}  3 complete, 1 partial, 1 not begun\n"


def test_what_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"error: there is nothing of a run in '{tmp_path}'; cai runs lists the runs\n"
    )


def test_a_model_s_folder_is_shown_by_its_name() -> None:
    assert [short("runs/x/sl-cai"), short("organism"), short("/")] == ["sl-cai", "organism", "/"]
