"""Win rates: who meets whom, what a tie is, strengths in closed form, and answers of equal length."""

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import counted
import numpy as np
import pytest
from driving import Model, drive_asked, never
from simulated import League

from cai.cli import run
from cai.constitution import Constitution, Principle
from cai.engines import Reply, Request
from cai.errors import CaiError, RowError
from cai.evals import Number
from cai.evals._bradley_terry import SCALE, strengths
from cai.evals._length_control import Meeting, at_equal_length
from cai.evals._standings import standings
from cai.evals.winrate import Winrate
from cai.judges import Appointed
from cai.judges.logprob import Logprob
from cai.recipe import load
from cai.records import Record, Turn, prompt_from, sibling

KIND = Principle(id="kind", critique="c", revision="r", preference="Choose the kind answer.")
EVAL = Winrate(
    constitution=Constitution(name="one", principles=(KIND,)),
    judge=Appointed(name="logprob", judge=Logprob()),
)


def answer(model: str, text: str, sample: int = 0, weights: str = "w") -> Record:
    record = sibling(prompt_from("How do I pick a lock?", None, "test"), sample)
    return record.then(Turn(kind="response", text=text, model=model, weights=weights))


def by_length() -> Model:
    """P(A) is 0.8 for the longer answer and 0.2 for the shorter."""

    def model(request: Request) -> Reply:
        a, b = request.messages[-1]["content"].split("<answer A>\n")[1].split("\n</answer A>\n<answer B>\n")
        b = b.split("\n</answer B>")[0]
        p = 0.8 if len(a) > len(b) else 0.2
        return Reply(logps=(math.log(p), math.log1p(-p)), model="judge", weights="jw")

    return model


def test_every_two_models_meet_sample_by_sample() -> None:
    records = [
        answer(model, f"{model} {'x' * at}{sample}", sample)
        for at, model in enumerate(("m", "n", "o"))
        for sample in range(2)
    ]
    rows, asked = drive_asked(EVAL.work(records), by_length())
    assert [(row["one"], row["other"]) for row in rows] == [("m", "n"), ("m", "o"), ("n", "o")] * 2
    assert {row["answer_one"][-1] + row["answer_other"][-1] for row in rows} == {"00", "11"}
    assert len(asked) == 12
    assert {row["won"] for row in rows} == {0.0}
    assert rows[0]["p_one"] == pytest.approx(0.2)


def test_identical_answers_are_a_tie_and_nobody_is_asked() -> None:
    [row], _ = drive_asked(EVAL.work([answer("m", "same"), answer("n", " same\n")]), never)
    assert (row["outcome"], row["won"]) == ("identical", 0.5)


def test_orders_that_disagree_are_a_tie_unless_they_are_kept() -> None:
    def slotted(request: Request) -> Reply:
        """Whatever is shown first has 0.9; m's answer 0.05 more."""
        p = 0.95 if "<answer A>\nlonger" in request.messages[-1]["content"] else 0.85
        return Reply(logps=(math.log(p), math.log1p(-p)), model="judge", weights="jw")

    records = [answer("m", "longer answer"), answer("n", "short")]
    [row], _ = drive_asked(EVAL.work(records), slotted)
    assert (row["won"], row["p_one_first"], row["p_one_second"]) == (
        0.5,
        pytest.approx(0.95),
        pytest.approx(0.15),
    )
    [row], _ = drive_asked(replace(EVAL, disagreements="keep").work(records), slotted)
    assert (row["won"], row["p_one"]) == (1.0, pytest.approx(0.55))
    [row], _ = drive_asked(
        replace(EVAL, disagreements="keep", ties="reject", tie_margin=0.06).work(records), slotted
    )
    assert row["won"] == 0.5


def test_what_could_not_be_read_counts_for_nobody() -> None:
    def mute(request: Request) -> Reply:
        return Reply(error="too long")

    rows, _ = drive_asked(EVAL.work([answer("m", "one"), answer("n", "other")]), mute)
    assert (rows[0]["outcome"], rows[0]["why"]) == ("unreadable", "engine: too long; principle 'kind'")
    numbers = EVAL.numbers(rows)
    assert number(numbers, "win rate", "m").n == 0
    assert number(numbers, "unreadable meetings", "logprob").value == 1


def number(numbers: list[Number], name: str, of: str, group: str = "") -> Number:
    [found] = [one for one in numbers if (one.name, one.of, one.group) == (name, of, group)]
    return found


def test_numbers_of_two_models_in_closed_form() -> None:
    [row], _ = drive_asked(EVAL.work([answer("runs/m", "long answer"), answer("n", "short")]), by_length())
    won = [1.0] * 6 + [0.5] * 2 + [0.0] * 2
    rows = [{**row, "prompt": str(at), "won": one} for at, one in enumerate(won)]
    numbers = EVAL.numbers(rows)
    assert number(numbers, "win rate", "m").value == 0.7
    assert number(numbers, "win rate", "n", "over m").value == pytest.approx(0.3)
    assert number(numbers, "ties", "m").value == 0.2
    assert number(numbers, "Elo", "m").value == 1000
    elo = number(numbers, "Elo", "n")
    # Half a win to both: odds of 3.5 to 7.5.
    assert elo.value == pytest.approx(1000 + 400 * math.log10(3.5 / 7.5))
    assert elo.low < elo.value < 1000


def test_strengths_in_closed_form_and_at_the_maximum() -> None:
    wins = np.array([[0.0, 30, 25], [10, 0, 12], [5, 20, 0]])
    found = strengths(wins)
    padded = wins + 0.5 * (1 - np.eye(3))
    chance = 1 / (1 + np.exp(found[None, :] - found[:, None]))
    surprise = padded - (padded + padded.T) * chance
    assert found[0] == 0 and surprise.sum(1) == pytest.approx(0, abs=1e-8)
    assert strengths(np.array([[0, 3.0], [5, 0]]))[1] == pytest.approx(math.log(5.5 / 3.5))
    assert strengths(np.array([[0, 0.0], [50, 0]]))[1] == pytest.approx(math.log(50.5 / 0.5))


def test_strengths_of_many_tables_are_those_of_each() -> None:
    tables = np.random.default_rng(3).integers(0, 20, (5, 4, 4)) * (1 - np.eye(4))
    assert strengths(tables) == pytest.approx(np.array([strengths(one) for one in tables]))


def test_models_that_no_games_join_have_no_strengths() -> None:
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[2, 3] = 5
    assert np.isnan(strengths(apart)).all()
    chain = apart.copy()
    chain[1, 2] = 1
    assert np.isfinite(strengths(chain)).all()


def test_two_answers_by_one_model_are_refused() -> None:
    records = [answer("m", "one"), answer("m", "other"), answer("n", "third")]
    with pytest.raises(RowError) as raised:
        drive_asked(EVAL.work(records), by_length())
    assert str(raised.value) == "'m' answers this request twice; give each model's answers once"


def test_a_request_that_one_model_alone_answered_is_counted_as_such() -> None:
    [row], _ = drive_asked(EVAL.work([answer("m", "one")]), never)
    assert (row.reason, row.detail) == ("no rival", "one model alone answered this request")
    with pytest.raises(CaiError) as raised:
        EVAL.numbers([])
    assert str(raised.value) == (
        "no request was answered by two models; "
        "give two models or more, or the answers of each to the same requests"
    )


def test_models_of_one_name_are_told_apart_by_their_weights() -> None:
    rows, _ = drive_asked(
        EVAL.work([answer("m", "one", weights="abcdefghi"), answer("m", "other!", weights="123456789")]),
        by_length(),
    )
    assert [one.of for one in EVAL.numbers(rows) if one.name == "Elo"] == ["m (abcdefgh)", "m (12345678)"]


def test_at_equal_length_a_win_by_length_alone_is_even() -> None:
    """The first answer is longer in three of four, and the longer one wins three of four."""
    meetings = [
        Meeting(prompt=str(at), won=float((at % 4 != 0) == longer), longer=100.0 if longer else -100.0)
        for at in range(80)
        for longer in [at // 4 % 4 != 0]
    ]
    value, (low, high) = at_equal_length(meetings)
    assert sum(one.won for one in meetings) / 80 == 0.625
    assert low < 0.5 < high and value == pytest.approx(0.5, abs=0.02)


def test_at_equal_length_nothing_changes_where_lengths_are_equal() -> None:
    meetings = [Meeting(prompt=str(at), won=float(at < 70), longer=0.0) for at in range(100)]
    value, (low, high) = at_equal_length(meetings)
    # The prior's half win and half loss at both ends: 71 of 102.
    assert value == pytest.approx(71 / 102, abs=1e-9)
    assert (low, high) == pytest.approx((0.60, 0.78), abs=0.02)


def test_length_control_finds_the_strengths_under_a_length_bias() -> None:
    league = League(strengths=(0.0, 0.5), length=1.0)
    held = []
    for seed in range(40):
        [found] = [
            one
            for one in standings(league.rows(150, seed))
            if (one.name, one.of) == ("length-controlled win rate", "m1")
        ]
        held.append(found.low <= league.chance(1, 0) <= found.high)
    assert sum(held) >= 33


def test_a_scripted_judge_with_known_strengths() -> None:
    """Judged through the eval itself: the strengths that a judge draws its verdicts from are found again."""
    truth = {"m": 0.0, "n": 0.6, "o": -0.5}

    def judge(request: Request) -> Reply:
        content = request.messages[-1]["content"]
        a, b = content.split("<answer A>\n")[1].split("\n</answer A>\n<answer B>\n")
        (one, prompt, _), (other, _, _) = a.split(), b.split("\n</answer B>")[0].split()
        first, second = sorted((one, other))
        drawn = np.random.default_rng([int(prompt), *map(ord, first + second)]).random()
        wins = first if drawn < 1 / (1 + math.exp(truth[second] - truth[first])) else second
        p = 0.9 if wins == one else 0.1
        return Reply(logps=(math.log(p), math.log1p(-p)), model="judge", weights="jw")

    rows = []
    for at in range(150):
        record = prompt_from(f"request {at}", None, "test")
        answers = [record.then(Turn(kind="response", text=f"{name} {at} .", model=name)) for name in truth]
        rows += drive_asked(EVAL.work(answers), judge)[0]
    numbers = EVAL.numbers(rows)
    for name, strength in truth.items():
        elo = number(numbers, "Elo", name)
        assert elo.low <= 1000 + SCALE * strength <= elo.high
    for one, other in combinations(truth, 2):
        rate = number(numbers, "win rate", one, f"over {other}")
        assert rate.low <= 1 / (1 + math.exp(truth[other] - truth[one])) <= rate.high


def test_from_models_to_elo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one command: each model answers, the judge asks another, the table shows both."""
    monkeypatch.chdir(tmp_path)
    counted.reset()
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(6)))
    models = ["eval", "one", "other", "--eval", "winrate", "--by", "third", "--engine", "counted:Counted"]
    keys = ["--set", "constitution=harmless", "--set", 'judge={type="logprob"}']
    assert run([*models, *keys, "--prompts", "prompts.jsonl", "-o", "wins.jsonl"]) == 0
    assert counted.Counted.opened == ["one", "other", "third"]
    rows = [json.loads(line) for line in Path("wins.jsonl").read_text().splitlines()]
    assert [(row["one"], row["other"], row["outcome"]) for row in rows] == [("one", "other", "judged")] * 6
    numbers = {(one["name"], one["of"]): one for one in json.loads(Path("wins.json").read_text())["numbers"]}
    assert numbers["Elo", "one"]["value"] == 1000
    assert numbers["win rate", "one"]["value"] == sum(row["won"] for row in rows) / 6
    assert "Elo" in capsys.readouterr().out


RECIPE = """
constitution = "harmless"
[engines.one]
type = "scripted"
[engines.other]
type = "scripted"
[[steps]]
name = "wins"
eval = "winrate"
engine = "one"
judge = "logprob"
models = ["one", "other"]
from = "prompts.jsonl"
max_tokens = 9
"""


def test_as_a_step_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "request"}\n')
    Path("recipe.toml").write_text(RECIPE)
    *_, step = load(Path("recipe.toml")).steps
    assert step.name == "wins" and [path.name for path in step.inputs] == [
        "wins-one.jsonl",
        "wins-other.jsonl",
    ]
    Path("recipe.toml").write_text(RECIPE.replace('constitution = "harmless"', ""))
    with pytest.raises(CaiError) as raised:
        load(Path("recipe.toml"))
    assert str(raised.value) == "recipe.toml [steps.1]: 'constitution' is missing; add constitution = ..."
