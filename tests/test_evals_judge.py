"""The judge eval: numbers counted by hand, where the truth comes from, and biases put in and found again."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from driving import answered, drive

from cai.cli import run
from cai.constitution import Constitution, Principle
from cai.engines import Reply, Request
from cai.errors import CaiError
from cai.evals import Number
from cai.evals.judge import Judge
from cai.gold import Gold
from cai.judges import Appointed
from cai.judges.logprob import Logprob
from cai.records import Annotation, Candidate, Comparison, digest, draw, to_row, user
from cai.stages.compare import Compare

Probabilities = tuple[float, float]


def said(
    p_first: float,
    p_second: float,
    annotator: str = "judge",
    principle: str = "kind",
    model: str = "",
    weight: float = 1.0,
) -> Annotation:
    """Read as P(first candidate) = p_first when it is shown first, p_second when it is shown second."""
    mean = (p_first + p_second) / 2
    return Annotation(
        annotator=annotator,
        principle=principle,
        probabilities=(mean, 1 - mean),
        orders=((p_first, 1 - p_first), (p_second, 1 - p_second)),
        shown=((0, 1), (1, 0)),
        weight=weight,
        model=model,
    )


def compared(
    number: int,
    *annotations: Annotation,
    better: int | str = 0,
    texts: Sequence[str] = ("aa", "b"),
    models: Sequence[str] = ("", ""),
    prompt: str = "",
) -> Comparison:
    request = prompt or f"request {number}"
    return Comparison(
        id=f"c{number}",
        prompt_id=request,
        prompt=(user(request),),
        meta={"better": better},
        candidates=tuple(Candidate(text=text, model=by) for text, by in zip(texts, models, strict=True)),
        annotations=annotations,
        probabilities=annotations[0].probabilities,
    )


def measured(comparisons: Sequence[Comparison], gold: str = "meta:better") -> list[Number]:
    evaluation = Judge(gold=Gold.from_toml(gold, "gold") if gold else None)
    rows = [row for comparison in comparisons for row in evaluation.work(comparison)]
    return evaluation.numbers(rows)


def found(numbers: Sequence[Number], name: str, group: str = "", of: str = "judge") -> Number:
    [number] = [one for one in numbers if (one.name, one.group, one.of) == (name, group, of)]
    return number


FOUR = [
    compared(1, said(0.9, 0.7)),  # right in both orders, 0.8
    compared(2, said(0.6, 0.2), better=1),  # wrong, then right; 0.6 for the better
    compared(3, said(0.9, 0.7), better=1),  # wrong, 0.2
    compared(4, said(0.8, 0.2), better="tie"),
]


def test_accuracy_and_calibration_by_hand() -> None:
    numbers = measured(FOUR)
    assert found(numbers, "judge right, one order").value == 3 / 6
    assert found(numbers, "judge right, both orders").value == pytest.approx(2 / 3)
    # To the better: 0.8, 0.6, 0.2.
    assert found(numbers, "Brier score").value == pytest.approx((0.04 + 0.16 + 0.64) / 3)
    # Confidences 0.6 (right), 0.8 (right and wrong), too few for more than one bin.
    assert found(numbers, "calibration error (ECE)").value == pytest.approx(2.2 / 3 - 2 / 3)
    assert found(numbers, "pairs of equal truth").value == 0.25
    group = "01: 0.600 to 0.800"
    assert found(numbers, "reliability: right", group).value == pytest.approx(2 / 3)
    assert found(numbers, "reliability: confidence", group).value == pytest.approx(2.2 / 3)


def test_the_order_of_the_answers_needs_no_truth() -> None:
    numbers = measured(FOUR, gold="")
    assert {one.name for one in numbers} == {
        "position bias before",
        "position bias after",
        "orders disagree",
        "first wins, orders disagree",
        "longer answer wins",
    }
    # Half the difference of P(first candidate) between the orders: 0.1, 0.2, 0.1, 0.3.
    assert found(numbers, "position bias before").value == pytest.approx(0.7 / 4)
    assert found(numbers, "position bias after").value == 0
    assert found(numbers, "orders disagree").value == 0.5
    assert found(numbers, "first wins, orders disagree").value == 1
    # The first candidate is longer: 0.8, 0.4, 0.8, 0.5.
    assert found(numbers, "longer answer wins").value == 2.5 / 4


def test_length_bias_is_what_is_left_at_equal_truth() -> None:
    rows = []
    for at in range(20):
        # The longer one wins 9 of 10 when it is better, 3 of 10 when it is worse.
        better, wins = at % 2, (9 if at % 2 == 0 else 3) > at // 2
        rows.append(compared(at, said(0.8, 0.8) if wins else said(0.2, 0.2), better=better))
    bias = found(measured(rows), "longer answer bias")
    assert (bias.value, bias.n) == (pytest.approx((0.9 + 0.3) / 2 - 0.5), 20)
    assert bias.low < 0 < bias.high < 0.5
    assert found(measured(rows), "longer answer wins", "truly worse").value == 0.3


def test_its_own_hand() -> None:
    mine = said(0.8, 0.8, model="m")
    rows = [
        compared(1, mine, models=("m", "n")),
        compared(2, mine, models=("m", "n"), better=1),
        compared(3, mine, models=("m", "m")),
        compared(4, mine, models=("n", "o")),
    ]
    own = [one for one in measured(rows) if one.name.startswith("own answer") and not one.group]
    assert [(one.name, one.of, one.value, one.n) for one in own] == [
        ("own answer wins", "judge by m", 1.0, 2),
        ("own answer bias", "judge by m", 0.5, 2),
    ]


def test_every_annotator_and_all_together() -> None:
    one, other = said(0.9, 0.9, "one"), said(0.3, 0.3, "other")
    both = [compared(at, one, other) for at in range(3)]
    numbers = measured(both)
    right = {number.of: number.value for number in numbers if number.name == "judge right, both orders"}
    assert right == {"one": 1.0, "other": 0.0, "combined": 1.0}
    calibrated = [compared(at, said(0.9, 0.9, "one", weight=0.0), other) for at in range(3)]
    assert {number.of for number in measured(calibrated)} == {"one", "other"}


def test_an_annotator_can_be_the_truth() -> None:
    human = Annotation(annotator="human:ann", probabilities=(0.0, 1.0))
    numbers = measured([compared(at, said(0.9, 0.9), human) for at in range(3)], "annotator:human")
    assert found(numbers, "judge right, both orders").value == 0
    assert {number.of for number in numbers} == {"judge"}


def test_a_human_was_shown_one_order() -> None:
    human = Annotation(annotator="human:ann", probabilities=(1.0, 0.0), orders=((1.0, 0.0),), shown=((0, 1),))
    numbers = measured([compared(at, human) for at in range(3)])
    assert found(numbers, "judge right, both orders", of="human:ann").value == 1
    assert found(numbers, "judge right, one order", of="human:ann").n == 0
    assert not [number for number in numbers if "position" in number.name]


def test_per_principle() -> None:
    rows = [compared(1, said(0.9, 0.9, principle="kind")), compared(2, said(0.1, 0.1, principle="true"))]
    numbers = measured(rows)
    assert found(numbers, "judge right, both orders", "kind").value == 1
    assert found(numbers, "judge right, both orders", "true").value == 0
    assert found(numbers, "orders disagree", "true").value == 0


def test_three_candidates_are_three_pairs() -> None:
    listwise = Annotation(annotator="judge", probabilities=(0.5, 0.5, 0.0))
    comparison = compared(1, listwise, texts=("a", "b", "c"), models=("", "", ""), better=1)
    rows = Judge(gold=Gold(source="meta:better")).work(comparison)
    assert [(row["p_one"], row["better"]) for row in rows] == [(0.5, "other"), (1.0, "tie"), (1.0, "one")]


def test_a_function_is_the_truth(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def shorter(comparison, principle):\n"
        "    return [-len(one.text) for one in comparison.candidates] if principle == 'kind' else None\n"
        "def three(comparison, principle):\n"
        "    return [1, 2, 3]\n"
    )
    numbers = measured(FOUR, f"{file}:shorter")
    assert found(numbers, "judge right, both orders").value == 0.25
    with pytest.raises(CaiError) as raised:
        measured(FOUR, f"{file}:three")
    assert str(raised.value) == (
        f"'{file}:three' gave 3 numbers for 2 candidates; return one number a candidate, or None"
    )


FORMS = "names no source of truth; write meta:KEY, annotator:NAME or file.py:function"


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ("better", f"gold: 'better' {FORMS}"),
        ("meta:", f"gold: 'meta:' {FORMS}"),
        (
            "meta:other",
            "gold: 'meta:other' knows the truth of none of the comparisons; "
            "name another source, or leave 'gold' out",
        ),
        ("nowhere.py:f", "gold: there is no file 'nowhere.py'; give the path of a Python file"),
    ],
)
def test_no_truth(gold: str, message: str) -> None:
    with pytest.raises(CaiError) as raised:
        measured(FOUR, gold)
    assert str(raised.value) == message


def test_a_label_that_is_no_position() -> None:
    with pytest.raises(CaiError) as raised:
        measured([compared(7, said(0.9, 0.9), better=2)])
    assert str(raised.value) == (
        "'better' is 2; write the position of the best candidate, 0 to 1, or \"tie\""
    )


@pytest.mark.parametrize("bias", [-0.15, 0.0, 0.25])
def test_an_injected_position_bias_is_recovered(bias: float) -> None:
    """A scripted judge adds `bias` to P(A), whatever is shown, to a noise of its own."""

    def biased(request: Request) -> Reply:
        noise = 0.4 * (draw(1, request.messages[-1]["content"]) - 0.5)
        p_a = 0.5 + bias + noise
        return Reply(logps=(math.log(p_a), math.log1p(-p_a)), model="m", weights="w")

    kind = Principle(id="kind", critique="c", revision="r", preference="Choose the kind answer.")
    judge = Appointed(name="logprob", judge=Logprob())
    stage = Compare(constitution=Constitution(name="one", principles=(kind,)), judge=judge)
    comparisons = []
    for at in range(200):
        request = f"request {digest(at)}"
        pair = [answered(f"answer {sample}", sample, request=request) for sample in range(2)]
        comparisons += drive(stage.work(pair), biased)
    numbers = measured(comparisons, gold="")
    before = found(numbers, "position bias before", of="logprob by m")
    assert before.low <= bias <= before.high and before.high - before.low < 0.05
    assert found(numbers, "position bias after", of="logprob by m").value == 0


COMPARED = [
    *("compare", "answers.jsonl", "--engine", "scripted", "--constitution", "harmless", "--quiet"),
    *("--judge", '{type = "reasoned", max_tokens = 5}', "-o", "comparisons.jsonl"),
    # Too many words for the judge's reasoning.
    *("--engine-set", 'rules=[{contains = "request 3", text = "one two three four five six"}]'),
]
MEASURED = ["eval", "comparisons.jsonl", "--eval", "judge", "-o", "judge.jsonl"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two answers to each of five requests."""
    monkeypatch.chdir(tmp_path)
    rows = [answered(f"answer {at}", at, request=f"request {n}") for n in range(5) for at in range(2)]
    Path("answers.jsonl").write_text("".join(json.dumps(to_row(row)) + "\n" for row in rows))
    assert run(COMPARED) == 0
    return tmp_path


def unread(table: str = "judge.json") -> list[tuple[str, float, int]]:
    numbers = json.loads(Path(table).read_text())["numbers"]
    return [(one["of"], one["value"], one["n"]) for one in numbers if one["name"] == "unreadable pairs"]


def test_pairs_that_could_not_be_read_are_counted_from_the_rejects(folder: Path) -> None:
    assert Path("comparisons.rejects.jsonl").read_text().count('"unreadable"') == 1
    assert run(MEASURED) == 0
    assert unread() == [("reasoned by scripted", 0.2, 5)]
    assert run(["eval", "comparisons.jsonl", "--eval", "judge", "--limit", "2", "-o", "two.jsonl"]) == 0
    assert unread("two.json") == [], "of a part of them, nobody knows which rejects belong to it"
    # Of a file that no judge made, nobody knows who was asked.
    Path("mine.jsonl").write_bytes(Path("comparisons.jsonl").read_bytes())
    assert run(["eval", "mine.jsonl", "--eval", "judge", "-o", "mine-judged.jsonl"]) == 0
    assert unread("mine-judged.json") == []


def test_pairs_that_were_all_read_are_counted_too(folder: Path) -> None:
    assert run(["annotate", "comparisons.jsonl", *COMPARED[2:9], "-o", "comparisons-2.jsonl"]) == 0
    assert run(["eval", "comparisons-2.jsonl", "--eval", "judge", "-o", "judge.jsonl"]) == 0
    assert unread() == [("reasoned by scripted", 0.0, 4)]


def test_verdicts_without_numbers_are_said_to_be_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for _ in range(2):
        assert run([*MEASURED, "--quiet", "--set", "gold=meta:better"]) == 1
        assert capsys.readouterr().err == (
            "error: judge.jsonl: these verdicts have no numbers: 'meta:better' knows the truth of none of "
            "the comparisons; name another source, or leave 'gold' out, and give --redo (of cai run: --redo "
            "judge)\n"
        )
    assert run([*MEASURED, "--quiet", "--redo"]) == 0
