"""Which rows a page shows, how often, and what stands with them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.cli import run
from cai.manifest import fingerprint_of
from cai.report.page import readings, shown
from cai.report.page.rows import Chosen, choose
from cai.report.summary import outputs_of
from cai.runs import runs_in
from tests.reports import compared, made, record, rejected, write_rows


def chosen(folder: Path, most: int = 1000) -> Chosen:
    return choose(runs_in(folder), most)


def test_a_record_is_shown_once_as_far_as_it_came(tmp_path: Path) -> None:
    first = made(tmp_path, "responses", [record("a", "1"), record("b", "1")])
    second = made(tmp_path, "critiques", [record("a", "1", "c"), record("b", "1", "c")], inputs=[first])
    made(tmp_path, "revisions", [record("a", "1", "c", "2"), record("b", "1", "c", "1")], inputs=[second])
    found = chosen(tmp_path)
    assert [(row["step"], row["status"]) for row in found.rows] == [
        ("revisions", ["answer changed"]),
        ("revisions", ["answer kept"]),
    ]
    assert (found.of, found.share) == (2, 1.0)


def test_what_was_rejected_is_shown_with_why_and_where_it_was(tmp_path: Path) -> None:
    bad = record("b", "1", category="bread")
    first = made(tmp_path, "responses", [record("a", "1"), bad])
    reject = rejected(bad, "truncated", raw="half of a", detail="finish: length")
    second = made(tmp_path, "critiques", [record("a", "1", "c")], inputs=[first], rejects=[reject], items=2)
    made(tmp_path, "revisions", [record("a", "1", "c", "2")], inputs=[second])
    rows = chosen(tmp_path).rows
    assert [(row["step"], row["kind"]) for row in rows] == [("critiques", "reject"), ("revisions", "record")]
    assert rows[0]["reject"] == {
        "stage": "revise",
        "reason": "truncated",
        "detail": "finish: length",
        "raw": "half of a",
    }
    assert (rows[0]["prompt"], rows[0]["category"]) == ([["user", "b"]], "bread")
    assert rows[0]["turns"][0]["text"] == "1"
    assert rows[0]["status"] == ["rejected: truncated"]


def test_a_line_that_was_no_row_is_shown_by_itself(tmp_path: Path) -> None:
    bad = {
        "id": "f" * 32,
        "item": "",
        "prompt_id": "",
        "stage": "read",
        "reason": "bad row",
        "line": 7,
        "raw": "{",
    }
    made(tmp_path, "responses", [record("a", "1")], rejects=[{**bad, "detail": "no JSON"}])
    [_, row] = chosen(tmp_path).rows
    assert row["reject"] == {"stage": "read", "reason": "bad row", "line": 7, "raw": "{", "detail": "no JSON"}


def test_answers_of_several_models_to_one_prompt_stay_apart_and_have_their_own_verdicts(
    tmp_path: Path,
) -> None:
    one, two = record("a", "yes", model="m1"), record("a", "no", model="m2")
    inputs = [made(tmp_path, "first", [one]), made(tmp_path, "second", [two])]
    verdicts = [
        {"record": one["id"], "of": model, "request": "a", "answer": answer, "harmful": answer == "yes"}
        for model, answer in (("m2", "no"), ("m1", "yes"))
    ]
    made(tmp_path, "table", verdicts, inputs=inputs, headline=("harm",))
    rows = chosen(tmp_path).rows
    assert [row["verdicts"] for row in rows] == [
        [{"eval": "table", "of": "m1", "harmful": True}],
        [{"eval": "table", "of": "m2", "harmful": False}],
    ]


def test_verdicts_stand_with_the_row_that_grew_from_what_they_are_about(tmp_path: Path) -> None:
    row = record("a", "1", "c")
    first = made(tmp_path, "critiques", [row])
    made(tmp_path, "revisions", [record("a", "1", "c", "2")], inputs=[first])
    made(
        tmp_path, "critic", [{"record": row["id"], "of": "m", "right": True}], inputs=[first], headline=("r",)
    )
    [shown_row] = chosen(tmp_path).rows
    assert shown_row["step"] == "revisions"
    assert shown_row["verdicts"] == [{"eval": "critic", "of": "m", "right": True}]


def test_verdicts_of_what_is_elsewhere_are_rows_of_their_own(tmp_path: Path) -> None:
    made(
        tmp_path,
        "table",
        [{"record": "ab" * 16, "of": "m", "area": "bread", "harmful": True}],
        headline=("h",),
    )
    [row] = chosen(tmp_path).rows
    assert (row["kind"], row["category"], row["verdicts"][0]["harmful"]) == ("verdict", "bread", True)


def test_comparisons_say_whether_their_orders_agree(tmp_path: Path) -> None:
    rows = [compared("a", "x", "y", 0.9), compared("b", "x", "y", 0.5, agree=False)]
    first = made(tmp_path, "comparisons", rows, kind="compare")
    verdict = {"comparison": rows[0]["id"], "of": "reasoned", "better": "one"}
    made(tmp_path, "judge", [verdict], inputs=[first], headline=("right",))
    found = chosen(tmp_path).rows
    assert [row["status"] for row in found] == [["both orders agree"], ["the orders disagree"]]
    assert [one["p"] for one in found[0]["candidates"]] == [0.9, 1 - 0.9]
    assert found[0]["verdicts"] == [{"eval": "judge", "of": "reasoned", "better": "one"}]


def test_merged_shards_are_shown_as_the_whole_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(9)))
    command = ["generate", "prompts.jsonl", "--engine", "scripted", "-o", "x/a.jsonl", "--quiet", "--shard"]
    assert run([*command, "1/2"]) == run([*command, "2/2"]) == 0
    apart = choose(outputs_of(Path("x")), 100)
    assert {row["step"] for row in apart.rows} == {"a.1-of-2", "a.2-of-2"}
    assert run(["merge", "x"]) == 0
    whole = choose(outputs_of(Path("x")), 100)
    assert ([row["step"] for row in whole.rows], whole.of) == (["a"] * 9, 9)


def test_a_comparison_that_was_annotated_again_is_shown_once(tmp_path: Path) -> None:
    row = compared("a", "x", "y", 0.9)
    other = {**row["annotations"][0], "annotator": "human:me", "probabilities": [0.0, 1.0], "orders": []}
    first = made(tmp_path, "comparisons", [row], kind="compare")
    both = {**row, "annotations": [*row["annotations"], other]}
    made(tmp_path, "reviewed", [both], kind="annotate", inputs=[first])
    [found] = chosen(tmp_path).rows
    assert (found["step"], found["status"]) == ("reviewed", ["both orders agree", "annotators disagree"])


@given(most=st.integers(min_value=1, max_value=80))
def test_of_many_rows_whole_prompts_are_drawn(tmp_path_factory, most: int) -> None:
    folder = tmp_path_factory.mktemp("run")
    first = made(folder, "one", [record(f"{n}", "1") for n in range(40)])
    made(folder, "two", [record(f"{n}", "2", model="m2") for n in range(40)])
    made(
        folder, "pairs", [compared(f"{n}", "1", "2", 0.7) for n in range(40)], kind="compare", inputs=[first]
    )
    found = chosen(folder, most)
    assert found.of == 120
    prompts = [row["prompt"][0][1] for row in found.rows]
    assert all(prompts.count(prompt) == 3 for prompt in prompts)
    assert chosen(folder, most) == found
    assert {row["prompt"][0][1] for row in chosen(folder, 2 * most).rows} >= set(prompts)


def test_a_policy_s_samples_are_rows_with_their_verdicts(tmp_path: Path) -> None:
    model = tmp_path / "ppo"
    model.mkdir()
    note = {"complete": True, "identity": {"objective": {"kind": "ppo"}}, "started": "2026-01-01"}
    (model / "cai.json").write_text(json.dumps(note))
    row = record("a", "yes", model="ppo", step=40, score=-1.5)
    write_rows(model / "samples.jsonl", [row])
    verdict = {"record": row["id"], "of": "ppo", "harmful": True}
    made(tmp_path, "proxy", [verdict], inputs=[fingerprint_of(model / "samples.jsonl")], headline=("score",))
    [found] = chosen(tmp_path).rows
    assert (found["step"], found["meta"]) == ("ppo samples", {"step": 40, "score": -1.5})
    assert found["verdicts"] == [{"eval": "proxy", "of": "ppo", "harmful": True}]


def test_rounds_are_read_from_the_answers() -> None:
    rows = [
        shown.record(record("a", "1", "c", "2", "c", "2"), "revisions"),
        shown.record(record("b", "1", "c", "1", "c", "3"), "revisions"),
        shown.comparison(compared("a", "x", "y", 0.9), "comparisons"),
    ]
    assert readings.revised(rows) == {"revisions": {1: [True, False], 2: [False, True]}}
