"""Doubt, decisions and the output of a review, without a terminal."""

import json
from dataclasses import replace
from io import StringIO
from math import log
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cai import manifest
from cai.encoding import encode
from cai.errors import CaiError
from cai.records import Annotation, Candidate, Comparison, digest, to_row, user
from cai.review.decisions import Decision, Decisions
from cai.review.desk import drawn_order
from cai.review.doubt import entropy, most_doubtful, orders, panel
from cai.review.output import (
    annotation_of,
    change,
    check_output,
    comparisons_in,
    identity_of,
    reviewed,
    write,
)
from cai.review.session import Sitting, sit
from cai.rows import read_comparisons


def note(*probabilities: float, annotator: str = "reasoned", **facts: object) -> Annotation:
    return Annotation(annotator=annotator, principle="kind", probabilities=probabilities, **facts)  # type: ignore[arg-type]


def comparison(name: str, *annotations: Annotation) -> Comparison:
    first = annotations[0].probabilities
    return Comparison(
        id=digest(name),
        prompt_id=digest("prompt", name),
        prompt=(user(name),),
        candidates=tuple(Candidate(text=f"{name} {at}") for at in range(len(first))),
        annotations=annotations,
        probabilities=first,
    )


def decided(of: Comparison, best: int | None) -> Decision:
    return Decision(comparison=of.id, best=best, shown=(1, 0), at="now")


def file_of(path: Path, *rows: Comparison) -> Path:
    path.write_bytes(b"".join(encode(row) + b"\n" for row in rows))
    return path


def test_doubt_by_hand() -> None:
    sure = comparison("sure", note(1.0, 0.0))
    assert entropy(sure) == 0.0
    assert entropy(comparison("even", note(0.5, 0.5))) == pytest.approx(1.0)
    three = comparison("three", note(0.5, 0.25, 0.25))
    assert entropy(three) == pytest.approx((0.5 * log(2) + 0.5 * log(4)) / log(3))
    turned = note(0.5, 0.5, orders=((0.9, 0.1), (0.2, 0.8)), shown=((0, 1), (1, 0)))
    assert (orders(sure), panel(sure)) == (None, None)
    assert orders(comparison("turned", note(0.5, 0.5), turned)) == pytest.approx(0.7)
    # The standard deviation of 1 and 0.2.
    assert panel(comparison("split", note(1.0, 0.0), note(0.2, 0.8))) == pytest.approx(0.4)


def test_the_most_doubtful_come_first_and_equal_ones_in_a_drawn_order() -> None:
    rows = [comparison(f"{p}", note(p, 1 - p)) for p in (0.9, 0.5, 0.7, 0.55)]
    queue = most_doubtful(iter(rows), "entropy", 3, 0)
    assert [row.probabilities[0] for row in queue] == [0.5, 0.55, 0.7]
    even = [comparison(f"{n}", note(0.5, 0.5)) for n in range(40)]
    one, other = (most_doubtful(even, "entropy", 40, seed) for seed in (0, 1))
    assert one != even and one != other and sorted(row.id for row in one) == sorted(row.id for row in other)
    assert most_doubtful(reversed(even), "entropy", 40, 0) == one


def test_a_measure_that_fits_no_comparison_is_named() -> None:
    with pytest.raises(CaiError) as raised:
        most_doubtful([comparison("a", note(0.5, 0.5))], "panel", 3, 0)
    assert str(raised.value) == "--by panel: no comparison has two annotations; choose one of entropy, orders"
    assert most_doubtful([], "panel", 3, 0) == []


@given(seed=st.integers(0, 99), count=st.integers(2, 9))
def test_answers_are_shown_in_a_drawn_order(seed: int, count: int) -> None:
    row = comparison("x", note(*[1 / count] * count))
    shown = drawn_order(row, seed)
    assert sorted(shown) == list(range(count))
    assert drawn_order(replace(row, probabilities=(1.0, *[0.0] * (count - 1))), seed) == shown


def test_either_answer_comes_first_about_as_often() -> None:
    firsts = [drawn_order(comparison(f"{n}", note(0.9, 0.1)), 0)[0] for n in range(400)]
    # Four standard deviations of a fair coin thrown 400 times.
    assert abs(sum(firsts) - 200) < 40


def test_more_answers_than_keys_are_refused() -> None:
    row = comparison("x", note(*[0.1] * 10))
    with pytest.raises(CaiError) as raised:
        drawn_order(row, 0)
    message = f"comparison {row.id} has 10 answers; review takes comparisons of at most 9"
    assert str(raised.value) == message


def test_a_human_s_word_stands_in_the_judge_s_place_and_the_judge_s_is_kept() -> None:
    row = comparison("x", note(0.6, 0.4))
    human = annotation_of(decided(row, 1), row, "human:ada")
    assert human == note(
        0.0, 1.0, annotator="human:ada", protocol="review", orders=((0.0, 1.0),), shown=((1, 0),)
    )
    both = reviewed(row, human)
    assert (both.annotations, both.probabilities) == ((row.annotations[0], human), (0.0, 1.0))
    tie = annotation_of(decided(row, None), row, "human:ada")
    assert reviewed(row, tie).probabilities == (0.5, 0.5)


def test_what_a_decision_changes() -> None:
    row, even = comparison("x", note(0.6, 0.4)), comparison("y", note(0.5, 0.5))
    changes = [change(row, decided(row, best)) for best in (0, 1, None)]
    assert changes == ["confirmed", "flipped", "made a tie"]
    assert change(even, decided(even, 1)) == "decided"


def test_decisions_outlive_the_process_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "out.decisions.jsonl"
    rows = [comparison(name, note(0.5, 0.5)) for name in "abc"]
    first = Decisions(path, {"who": "ada"})
    assert not path.exists()
    for row in rows:
        first.add(decided(row, 0))
    first.take_back(rows[1].id)
    first.take_back("never decided")
    first.add(decided(rows[0], None))
    standing, mark = dict(first.standing), first.fingerprint
    first.close()
    with path.open("ab") as file:
        file.write(b'{"comparison": "torn')
    again = Decisions(path, {"who": "ada"})
    assert (again.standing, again.fingerprint) == (standing, mark)
    again.add(decided(rows[1], 1))
    again.close()
    assert len(Decisions(path, {"who": "ada"}).standing) == 3
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_decisions_cut_off_at_any_byte_are_those_of_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.decisions.jsonl"
    rows = [comparison(name, note(0.5, 0.5)) for name in "abc"]
    whole = Decisions(path, {"who": "ada"})
    for row in rows:
        whole.add(decided(row, 0))
    whole.close()
    text = path.read_bytes()
    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        again = Decisions(path, {"who": "ada"})
        lines = text[:size].count(b"\n")
        assert list(again.standing) == [row.id for row in rows[: max(0, lines - 1)]]
        again.add(decided(rows[2], 1))
        again.close()
        [*_, last] = Decisions(path, {"who": "ada"}).standing.values()
        assert last == decided(rows[2], 1)


def test_the_fingerprint_is_of_what_stands_not_of_how_it_came_about(tmp_path: Path) -> None:
    one, other = (Decisions(tmp_path / f"{n}.decisions.jsonl", {}) for n in range(2))
    rows = [comparison(name, note(0.5, 0.5)) for name in "ab"]
    one.add(decided(rows[0], 0))
    one.add(decided(rows[1], 0))
    for best in (1, 0):
        other.add(decided(rows[1], best))
    before = other.fingerprint
    other.add(decided(rows[0], 0))
    assert one.fingerprint == other.fingerprint != before
    one.close()
    other.close()


def test_another_s_decisions_are_not_gone_on_with(tmp_path: Path) -> None:
    source = file_of(tmp_path / "in.jsonl", row := comparison("a", note(0.5, 0.5)))
    path = tmp_path / "out.decisions.jsonl"
    decisions = Decisions(path, identity_of(source, "human:ada"))
    decisions.add(decided(row, 0))
    decisions.close()
    with pytest.raises(CaiError) as raised:
        Decisions(path, identity_of(source, "human:bob"))
    assert str(raised.value) == (
        f'{path} was made with other settings (stage annotator: "human:ada" -> "human:bob"); '
        "give another output; no decision is thrown away"
    )
    path.write_text(path.read_text() + "[]\n")
    with pytest.raises(CaiError, match=r":3: this line is no decision of cai review; mend or remove"):
        Decisions(path, identity_of(source, "human:ada"))


def test_the_output_holds_every_row_and_changes_its_identity_with_the_decisions(tmp_path: Path) -> None:
    rows = [comparison(name, note(0.6, 0.4)) for name in "abc"]
    source, output = file_of(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    decisions = Decisions(tmp_path / "out.decisions.jsonl", identity_of(source, "human:ada"))
    decisions.add(decided(rows[1], 1))
    outcome = write(source, output, decisions, "human:ada")
    assert (outcome.rows, dict(outcome.changes)) == (3, {"flipped": 1})
    written = list(read_comparisons(output))
    assert (written[0], written[2]) == (rows[0], rows[2])
    assert written[1].probabilities == (0.0, 1.0)
    before = manifest.fingerprint_of(output)
    assert manifest.fingerprint_of(output) == manifest.fingerprint((manifest.read(output) or {})["identity"])
    decisions.add(decided(rows[0], 0))
    write(source, output, decisions, "human:ada")
    assert manifest.fingerprint_of(output) != before
    decisions.close()
    check_output(output)
    output.write_text(output.read_text() + "\n")
    with pytest.raises(CaiError) as raised:
        check_output(output)
    assert str(raised.value) == (
        f"{output}: this file was changed after cai made it; give another output, or move that file away"
    )


def test_what_no_review_made_is_not_written_over(tmp_path: Path) -> None:
    check_output(tmp_path / "out.jsonl")
    (tmp_path / "out.jsonl").write_text("")
    with pytest.raises(CaiError) as raised:
        check_output(tmp_path / "out.jsonl")
    assert str(raised.value) == (
        f"{tmp_path / 'out.jsonl'}: there is a file here already that no review made; "
        "give another output, or move that file away"
    )


def no_key() -> str:
    raise AssertionError("nothing is to be decided")


def sitting(source: Path, output: Path, **how: Any) -> Sitting:
    asked = {"by": "entropy", "limit": 10, "constitution": None, "seed": 0, **how}
    return Sitting(source=source, output=output, annotator="human:ada", **asked)


def test_what_a_kill_left_of_the_output_is_written_by_the_next_session(tmp_path: Path) -> None:
    row = comparison("a", note(0.6, 0.4))
    source, output = file_of(tmp_path / "in.jsonl", row), tmp_path / "out.jsonl"
    decisions = Decisions(tmp_path / "out.decisions.jsonl", identity_of(source, "human:ada"))
    decisions.add(decided(row, 1))
    decisions.close()
    write(source, output, decisions, "human:ada")
    whole, described = output.read_bytes(), manifest.read(output) or {}
    # Between the manifest's first word and its last; the file may be there, half there, or not.
    manifest.write(output, {**described, "complete": False, "files": {}})
    for left in (whole, whole[:40], None):
        output.unlink(missing_ok=True) if left is None else output.write_bytes(left)
        outcome = sit(sitting(source, output), Console(file=StringIO()), no_key)
        assert outcome is not None and dict(outcome.changes) == {"flipped": 1}
        assert output.read_bytes() == whole and (manifest.read(output) or {})["complete"]
        manifest.write(output, {**described, "complete": False, "files": {}})


def test_a_session_is_one_process_s_and_writes_another_file(tmp_path: Path) -> None:
    source = file_of(tmp_path / "in.jsonl", comparison("a", note(0.6, 0.4)))
    with pytest.raises(CaiError) as raised:
        sit(sitting(source, source), Console(), no_key)
    assert str(raised.value) == (
        f"{source}: this is the file that is reviewed; give the output a name of its own"
    )
    with pytest.raises(CaiError) as raised:
        sit(sitting(tmp_path / "no.jsonl", tmp_path / "out.jsonl"), Console(), no_key)
    assert str(raised.value) == (
        f"{tmp_path / 'no.jsonl'}: there is no such file; give the path of a .jsonl file"
    )


def test_what_the_same_human_decided_before_is_not_asked_again(tmp_path: Path) -> None:
    row = comparison("a", note(0.6, 0.4))
    done = reviewed(row, annotation_of(decided(row, 1), row, "human:ada"))
    source = file_of(tmp_path / "in.jsonl", done)
    screen = StringIO()
    assert sit(sitting(source, tmp_path / "out.jsonl"), Console(file=screen), no_key) is None
    assert screen.getvalue() == "nothing is left to review\n"


def test_a_run_s_only_comparisons_are_found(tmp_path: Path) -> None:
    kinds = {"answers": "generate", "pairs": "pairs", "old": "review"}
    for name, kind in kinds.items():
        found = {"complete": True, "identity": {"stage": {"kind": kind}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    assert comparisons_in(tmp_path) == tmp_path / "pairs.jsonl"
    assert comparisons_in(tmp_path / "old.jsonl") == tmp_path / "old.jsonl"
    (tmp_path / "more.json").write_text((tmp_path / "pairs.json").read_text())
    with pytest.raises(CaiError) as raised:
        comparisons_in(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}: there is not one finished file of comparisons in it (more.jsonl, pairs.jsonl); "
        "give the .jsonl file to review"
    )


def test_a_reviewed_row_reads_back_as_it_was_written() -> None:
    row = comparison("x", note(0.6, 0.4))
    both = reviewed(row, annotation_of(decided(row, 1), row, "human:ada"))
    assert json.loads(encode(both)) == json.loads(json.dumps(to_row(both)))
