"""Perplexity and drift: by hand, against a float64 forward pass of a tiny model, and what is left out."""

import json
import math
from pathlib import Path

import pytest
import tiny
import torch
from driving import answered, drive, never, prompt

from cai.chat import encode_example, encode_prompt
from cai.cli import run
from cai.config import build
from cai.engines import Reply, Score
from cai.errors import CaiError
from cai.evals._intervals import share_interval
from cai.evals.perplexity import Perplexity
from cai.records import Turn, assistant, prompt_from, user
from cai.stages.likelihood import Likelihood


def scores(logp, tokens):
    return lambda request: Reply(logps=(logp,), tokens=tuple(range(tokens)), model="start")


def found(numbers, name):
    [number] = [n for n in numbers if n.name == name]
    return number


def test_numbers_by_hand():
    evaluation = Perplexity(drift="likelihood")
    rows = []
    for request, own, logp, tokens in [("a", -2.0, -4.0, 4), ("b", -3.0, -3.0, 2), ("c", -1.0, -5.0, 6)]:
        record = answered("text", request=request)
        [record] = drive(Likelihood().work(record), lambda request, own=own: Reply(logps=(own,), model="m0"))
        rows += drive(evaluation.work(record), scores(logp, tokens))
    numbers = evaluation.numbers(rows)
    perplexity = found(numbers, "perplexity")
    assert perplexity.value == pytest.approx(math.exp(12 / 12))
    assert perplexity.low < perplexity.value < perplexity.high and perplexity.n == 3
    assert found(numbers, "drift per token").value == pytest.approx(6 / 12)
    assert found(numbers, "drift per answer").value == pytest.approx(2.0)
    assert evaluation.headline == ("perplexity", "drift per token")
    assert rows[0]["of"] == "m0" and rows[0]["by"] == "start"


def test_a_model_that_has_not_changed_has_not_drifted():
    evaluation = Perplexity(drift="likelihood")
    rows = []
    for request in "ab":
        one = answered("text", request=request)
        [one] = drive(Likelihood().work(one), lambda request: Reply(logps=(-3.0,), model="m0"))
        rows += drive(evaluation.work(one), scores(-3.0, 5))
    numbers = evaluation.numbers(rows)
    drift = found(numbers, "drift per token")
    assert (drift.value, drift.low, drift.high) == (0.0, 0.0, 0.0)


def test_what_is_left_out_is_counted():
    evaluation = Perplexity()
    rows = drive(evaluation.work(answered("te", finish="length")), never)
    rows += drive(evaluation.work(answered("text")), lambda request: Reply(error="too long"))
    rows += drive(evaluation.work(answered("text", request="b")), scores(-1.0, 1))
    numbers = evaluation.numbers(rows)
    assert found(numbers, "perplexity").n == 1
    assert found(numbers, "left out: truncated").value == pytest.approx(1 / 3)
    assert found(numbers, "left out: engine").value == pytest.approx(1 / 3)
    # Two prompts, one of them with all that failed.
    left_out = found(numbers, "left out: truncated")
    assert (left_out.low, left_out.high) == share_interval([1, 0, 0], ["a", "a", "b"])
    assert evaluation.headline == ("perplexity",)


def test_given_texts():
    evaluation = Perplexity(text="reply")
    record = prompt_from({"prompt": "Hi", "reply": "Hello."}, None, "test")
    [row] = drive(evaluation.work(record), scores(-3.0, 3))
    assert (row["of"], row["text"]) == ("given texts", "Hello.")
    with pytest.raises(CaiError) as raised:
        drive(evaluation.work(prompt("Hi")), never)
    assert str(raised.value) == (
        '\'reply\' is missing; write "reply": "..." in each line, or set text to the key that has it'
    )


def test_likelihood_is_written_beside_its_model():
    record = answered("text")
    [row] = drive(Likelihood(to="own").work(record), lambda request: Reply(logps=(-2.5,), model="m0"))
    assert row.meta == {"own": -2.5, "own_by": "m0"}
    assert (row.id, row.turns) == (record.id, record.turns)
    [again] = drive(Likelihood(to="own").work(row), never)
    assert (again.reason, again.detail) == ("key taken", "'own' is there; set another 'to'")
    [none] = drive(Likelihood().work(prompt()), never)
    assert none.reason == "no answer"
    [cut] = drive(Likelihood().work(answered("te", finish="length")), never)
    assert cut.reason == "truncated"


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "'likelihood' is missing"),
        (
            {"likelihood": -1.0, "likelihood_by": "other"},
            "'likelihood' was written under other, and m gave the answer",
        ),
    ],
)
def test_drift_needs_the_answers_own_model(meta, message):
    record = prompt_from({"prompt": "Hi", **meta}, None, "test")
    record = record.then(Turn(kind="response", text="Hello.", model="m"))
    with pytest.raises(CaiError) as raised:
        drive(Perplexity(drift="likelihood").work(record), never)
    way = "give what the stage likelihood wrote, asking the model that gave the answers"
    assert str(raised.value) == f"{message}; {way}"


def test_drift_is_of_a_models_own_answers():
    with pytest.raises(CaiError) as raised:
        build(Perplexity, {"text": "reply", "drift": "likelihood"}, "test")
    assert str(raised.value) == (
        "test: 'drift' is of a model's own answers, 'text' names given ones; take one out"
    )


def test_an_engine_that_counts_no_tokens_is_an_error():
    with pytest.raises(CaiError) as raised:
        drive(Perplexity().work(answered("text")), lambda request: Reply(logps=(-1.0,)))
    assert str(raised.value) == "this engine does not say how many tokens a text has; use local or vllm"


def test_against_a_forward_pass_in_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """generate, likelihood and perplexity on two tiny models, against their logits."""
    monkeypatch.chdir(tmp_path)
    policy, start = tiny.folder(tmp_path / "policy", seed=1), tiny.folder(tmp_path / "start", seed=2)
    Path("texts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Hi {at}", "reply": f"Oh {at}!"}) + "\n" for at in range(5))
    )
    local = "--engine-set threads=1 --quiet"
    given = f"eval texts.jsonl --eval perplexity --by start --set text=reply -o given.jsonl {local}"
    assert run(given.split()) == 0
    assert run(f"generate texts.jsonl --model policy --max-tokens 64 -o answers.jsonl {local}".split()) == 0
    assert run(f"likelihood answers.jsonl --model policy -o own.jsonl {local}".split()) == 0
    drift = f"eval own.jsonl --eval perplexity --by start --set drift=likelihood -o drift.jsonl {local}"
    assert run(drift.split()) == 0

    tokenizer = tiny.tokenizer()
    models = {path.name: tiny.model(seed).double() for seed, path in ((1, policy), (2, start))}

    def logp(model: str, request: str, text: str) -> tuple[float, int]:
        ids = encode_example(tokenizer, (user(request), assistant(text))).ids
        begin = len(encode_prompt(tokenizer, (user(request),)))
        with torch.no_grad():
            each = models[model](torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(each[at - 1, ids[at]]) for at in range(begin, len(ids))), len(ids) - begin

    truth = [logp("start", f"Hi {at}", f"Oh {at}!") for at in range(5)]
    [perplexity, *_] = json.loads(Path("given.json").read_text())["numbers"]
    assert perplexity["value"] == pytest.approx(
        math.exp(-sum(one for one, _ in truth) / sum(count for _, count in truth)), rel=1e-4
    )
    rows = [json.loads(line) for line in Path("drift.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        assert row["own"] == pytest.approx(logp("policy", row["request"], row["text"])[0], rel=1e-4)
        assert (row["logp"], row["tokens"]) == (
            pytest.approx(logp("start", row["request"], row["text"])[0], rel=1e-4),
            logp("start", row["request"], row["text"])[1],
        )


def test_score_asks_for_the_whole_answer():
    asked = []

    def model(request):
        asked.append(request)
        return Reply(logps=(-1.0,), tokens=(1, 2))

    drive(Perplexity().work(answered("Like this.")), model)
    assert [request.want for request in asked] == [Score(completion="Like this.")]
