"""pairs and select: which comparisons there are to learn from, and why the others are not among them."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from driving import answered, prompt
from hypothesis import given
from hypothesis import strategies as st

from cai.cli import run
from cai.config import build
from cai.errors import CaiError
from cai.records import Annotation, Candidate, Comparison, Record, Reject, Turn, user
from cai.stages.pairs import Pairs
from cai.stages.select import Select, prefers_longer


def revised(text: str = "better", finish: str = "stop", sample: int = 0, response: str = "worse") -> Record:
    middle = Turn(kind="revision", text="middling", principle="kind")
    last = Turn(
        kind="revision", text=text, principle="short", wording="w", model="m1", weights="w1", finish=finish
    )
    return answered(response, sample).then(middle).then(last)


def reasons(rows: list[object]) -> list[tuple[str, str]]:
    return [(row.reason, row.detail) for row in rows if isinstance(row, Reject)]


def sides(rows: list[object]) -> list[tuple[str, str]]:
    """(preferred, other) of each comparison."""
    kept = [row for row in rows if isinstance(row, Comparison)]
    return [(row.candidates[row.ranking[0]].text, row.candidates[row.ranking[-1]].text) for row in kept]


def test_the_last_revision_is_preferred_to_the_first_response() -> None:
    [row] = Pairs().work([revised()])
    place = [candidate.text for candidate in row.candidates].index("better")
    assert {candidate.text for candidate in row.candidates} == {"worse", "better"}
    assert row.probabilities[place] == 1 and sum(row.probabilities) == 1
    [annotation] = row.annotations
    assert annotation == Annotation(
        annotator="revision",
        principle="short",
        protocol="the last revision over the response",
        probabilities=row.probabilities,
        wording="w",
        model="m1",
        weights="w1",
    )
    [soft] = Pairs(confidence=0.75).work([revised()])
    assert soft.id == row.id and soft.probabilities[place] == 0.75


def test_the_place_of_a_revision_is_drawn() -> None:
    rows = [Pairs(seed=seed).work([revised()])[0] for seed in range(200)]
    ahead = sum(row.candidates[0].text == "better" for row in rows)
    assert abs(ahead - 100) < 36, "five standard deviations of a fair coin"


@pytest.mark.parametrize(
    "record, reason, detail",
    [
        (prompt(), "no revision", "pairs takes what revise wrote"),
        (answered("a"), "no revision", "pairs takes what revise wrote"),
        (revised("worse ", "kept"), "identical", "the response stands (kept)"),
    ],
)
def test_what_makes_no_pair(record: Record, reason: str, detail: str) -> None:
    [row] = Pairs().work([record])
    assert (row.stage, row.reason, row.detail) == ("pairs", reason, detail)


def test_a_response_is_beaten_by_the_revisions_of_its_siblings() -> None:
    one, two = revised("fine"), revised("good", sample=1, response="bad")
    stands = revised("sound", "kept", sample=2, response="sound")
    rows = Pairs(over="siblings").work([one, two, stands])
    assert sides(rows) == [("good", "worse"), ("sound", "worse"), ("fine", "bad"), ("sound", "bad")]
    assert reasons(rows) == [("identical", "the response stands (kept)")]
    assert {row.annotations[0].protocol for row in rows[:4]} == {"a sibling's last revision over it"}
    assert reasons(Pairs(over="siblings").work([one])) == [
        ("no sibling", "over = siblings takes two samples of a prompt or more")
    ]
    same = revised("worse", "kept", sample=1, response="worse")
    assert reasons(Pairs(over="siblings").work([one, same])) == [
        ("identical", f"the revision of {same.id} says the same"),
        ("identical", "the response stands (kept)"),
    ]


def test_the_same_pair_of_texts_is_one_comparison() -> None:
    rows = Pairs().work([revised(), revised(sample=1), revised("other", sample=2)])
    assert sides(rows) == [("better", "worse"), ("other", "worse")]
    assert reasons(rows) == [("duplicate", f"the same answers as {rows[0].id}")]


def test_a_confidence_is_a_preference() -> None:
    with pytest.raises(CaiError) as raised:
        build(Pairs, {"confidence": 0.5}, "t")
    assert str(raised.value) == "t: 'confidence' is 0.5; write a number above 0.5 and at most 1"


# select


def compared(id: str, **probabilities: float) -> Comparison:
    """A comparison of answers (by their text) with these probabilities."""
    ps = tuple(probabilities.values())
    return Comparison(
        id=id,
        prompt_id="p",
        prompt=(user("?"),),
        candidates=tuple(Candidate(text=text) for text in probabilities),
        annotations=(
            Annotation(annotator="j", probabilities=ps, orders=(ps,), shown=(tuple(range(len(ps))),)),
        ),
        probabilities=ps,
    )


def test_what_breaks_no_rule_passes_unchanged() -> None:
    rows = [compared("1", a=0.9, b=0.1), compared("2", a=0.5, c=0.5), compared("3", a=0.2, b=0.1, c=0.7)]
    assert Select().work(rows) == rows


def test_margins_are_differences_of_the_two_sides_probabilities() -> None:
    rows = [compared("1", a=0.95, b=0.05), compared("2", a=0.7, c=0.3), compared("3", a=0.6, d=0.1, e=0.3)]
    kept = Select(min_margin=0.5, max_margin=0.8).work(rows)
    # (0.6 - 0.1) / 0.7 is 0.714: of three candidates the best and the worst count.
    assert [row.id for row in kept if isinstance(row, Comparison)] == ["3"]
    assert reasons(kept) == [("margin too large", "0.900"), ("margin too small", "0.400")]


def test_lengths_that_are_too_unlike_are_left_out() -> None:
    rows = [compared("1", **{"aaaa": 0.9, "b": 0.1}), compared("2", **{"aaa": 0.9, " b ": 0.1})]
    kept = Select(max_length_ratio=3.0).work(rows)
    assert [row.id for row in kept if isinstance(row, Comparison)] == ["2"]
    assert reasons(kept) == [("lengths too unlike", "1 and 4 characters")]


def test_repeated_comparisons_are_one() -> None:
    rows = [compared("1", a=0.9, b=0.1), compared("2", b=0.3, a=0.7), compared("3", a=0.3, c=0.7)]
    kept = Select().work(rows)
    assert [row.id for row in kept if isinstance(row, Comparison)] == ["1", "3"]
    assert reasons(kept) == [("duplicate", "the same answers as 1")]


def test_of_a_prompt_so_many_are_drawn() -> None:
    rows = [compared(str(at), **{"a": 0.9, f"b{at}": 0.1}) for at in range(5)]
    kept = Select(per_prompt=2).work(rows)
    taken = {row.id for row in kept if isinstance(row, Comparison)}
    assert len(taken) == 2 and reasons(kept) == [("over per_prompt", "5 of one prompt")] * 3
    again = Select(per_prompt=2).work(rows[::-1])
    assert {row.id for row in again if isinstance(row, Comparison)} == taken
    drawn = {
        frozenset(row.id for row in Select(per_prompt=2, seed=seed).work(rows) if isinstance(row, Comparison))
        for seed in range(30)
    }
    assert len(drawn) > 5


def test_the_best_answer_meets_the_worst() -> None:
    # Scores: a (0.9 + 0.6) / 2 = 0.75, b (0.4 + 0.8) / 2 = 0.6, c (0.1 + 0.2) / 2 = 0.15.
    rows = [compared("ac", a=0.9, c=0.1), compared("ba", b=0.4, a=0.6), compared("bc", b=0.8, c=0.2)]
    kept = Select(take="best-worst").work(rows)
    assert kept[0] == rows[0]
    assert reasons(kept) == [("other answers", "the best answer meets the worst in ac")] * 2


def test_the_best_and_the_worst_of_k_are_cut_out_of_their_row() -> None:
    row = compared("k", a=0.1, b=0.6, c=0.3)
    [kept] = Select(take="best-worst").work([row])
    assert [candidate.text for candidate in kept.candidates] == ["a", "b"]
    assert kept.probabilities == pytest.approx((1 / 7, 6 / 7), abs=1e-12)
    [annotation] = kept.annotations
    assert annotation.probabilities == kept.probabilities and annotation.orders == (kept.probabilities,)
    assert annotation.shown == ((0, 1),) and annotation.agree
    assert kept.id != row.id


@pytest.mark.parametrize(
    "rows, reason, detail",
    [
        ([compared("1", a=0.5, b=0.5)], "tie", "two answers are the best, at 0.500"),
        (
            [compared("1", a=0.9, c=0.1), compared("2", b=0.9, c=0.1)],
            "tie",
            "two answers are the best, at 0.900",
        ),
        (
            # a 0.9, b (0.1 + 0.7) / 2 = 0.4, c (0.3 + 0.8) / 2 = 0.55, d 0.2.
            [compared("1", a=0.9, b=0.1), compared("2", b=0.7, c=0.3), compared("3", c=0.8, d=0.2)],
            "never met",
            "the best and the worst answer were not compared",
        ),
        (
            # a (0.95 + 0.4) / 2 = 0.675, b (0.05 + 0.95) / 2 = 0.5, c (0.6 + 0.05) / 2 = 0.325.
            [compared("1", a=0.95, b=0.05), compared("2", a=0.4, c=0.6), compared("3", b=0.95, c=0.05)],
            "verdict against scores",
            "P(best) is 0.400 where the two meet",
        ),
    ],
)
def test_what_has_no_best_and_worst(rows: list[Comparison], reason: str, detail: str) -> None:
    assert reasons(Select(take="best-worst").work(rows)) == [(reason, detail)] * len(rows)


LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1)), min_size=1, max_size=40)


@given(LENGTHS, st.integers(0, 5))
def test_balanced_the_longer_side_is_preferred_in_half(
    pairs: list[tuple[int, int, float]], seed: int
) -> None:
    groups = [
        [compared(f"{at}", **{"a" * one: p, "b" * other: 1 - p})] for at, (one, other, p) in enumerate(pairs)
    ]
    stage = Select(balance_length=True, seed=seed)
    before = Counter(prefers_longer(row) for rows in groups for row in stage.work(rows))
    balanced = stage.survey(iter(groups))
    rows = [row for group in groups for row in balanced.work(group)]
    kept = Counter(prefers_longer(row) for row in rows if isinstance(row, Comparison))
    fewer = min(before[True], before[False])
    assert kept == +Counter({True: fewer, False: fewer, None: before[None]})
    assert Counter(reasons(rows)).total() == abs(before[True] - before[False])
    backwards = stage.survey(iter(groups[::-1]))
    assert backwards == balanced


def test_a_balanced_file_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        replace(compared(f"{at}", **{"aaa": 0.9, f"b{at % 10}": 0.1}), prompt_id=f"{at:032x}")
        for at in range(9)
    ]
    rows.append(replace(compared("9", **{"aaa": 0.1, "b": 0.9}), prompt_id=f"{9:032x}"))
    Path("c.jsonl").write_text("".join(json.dumps(row, default=vars) + "\n" for row in rows))
    assert run(["select", "c.jsonl", "--balance-length", "-o", "s.jsonl", "--quiet"]) == 0
    kept = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert len(kept) == 2 and kept[1]["id"] == "9"
    counts = json.loads(Path("s.json").read_text())["counts"]
    assert counts == {"items": 10, "rows": 2, "rejects": {"length balance": 8}}
    reject = json.loads(Path("s.rejects.jsonl").read_text().splitlines()[0])
    assert reject["detail"] == "the longer side is preferred in 90.0%; this one was drawn out"


def test_what_looks_at_all_rows_does_not_work_on_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.jsonl").write_text(json.dumps(compared("1", a=1.0, b=0.0), default=vars) + "\n")
    assert run(["select", "c.jsonl", "--balance-length", "--shard", "1/2", "-o", "s.jsonl", "--quiet"]) == 1
    assert capsys.readouterr().err == (
        "error: s.1-of-2: 'select' looks at all rows before it works on one; "
        "cai merge the shards of what it reads, then run it without --shard\n"
    )


@pytest.mark.parametrize(
    "table, message",
    [
        (
            {"min_margin": 0.6, "max_margin": 0.5},
            "t: 'min_margin' is 0.6 and 'max_margin' 0.5; write 0 <= min_margin <= max_margin <= 1",
        ),
        ({"max_length_ratio": 0.5}, "t: 'max_length_ratio' is 0.5; write 1 or a number above it"),
        ({"per_prompt": -1}, "t: 'per_prompt' is -1; write 0 or a number above it"),
        ({"take": "best"}, "t: 'take' is 'best'; choose one of 'all', 'best-worst'"),
    ],
)
def test_a_bad_key_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(CaiError) as raised:
        build(Select, table, "t")
    assert str(raised.value) == message
