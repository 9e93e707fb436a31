"""A reward model as an engine, and its judge: exact scores, whatever else is asked; clear refusals."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from cai.cli import run
from cai.engines import Options, Reply, Request, Sampling, Score, Worth
from cai.engines._server_chat import ChatWay
from cai.engines._server_tokens import TokenWay
from cai.engines.local import Local
from cai.errors import CaiError
from cai.records import assistant, user
from cai.rows import read_comparisons
from cai.training.scalar import start_scorer
from tests import tiny

TOKENIZER = tiny.tokenizer()
ASKED = [
    Request(messages=(user(f"say {at}" * (1 + at % 3)),), want=Worth(completion="yes " * (1 + at % 5)))
    for at in range(12)
]
NO_SCORE = (
    "a reward model's score is asked for, and the engine's model writes text; "
    "give the folder of a reward model ('cai train reward' makes one) and --engine local"
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "policy")


@pytest.fixture(scope="module")
def reward(policy: Path) -> Path:
    """A reward model of random head."""
    model = start_scorer(policy)
    torch.manual_seed(3)
    torch.nn.init.normal_(model.score.weight)
    folder = policy.parent / "rm"
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def replies(engine: Local, requests: list[Request]) -> list[Reply]:
    session = engine.open()
    found: dict[int, Reply] = {}
    try:
        for ticket, request in enumerate(requests):
            session.submit(ticket, request)
        while finished := session.poll():
            found.update(finished)
    finally:
        session.close()
    return [found[ticket] for ticket in range(len(requests))]


def test_scores_are_the_model_s_own(reward: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(reward).double().eval()
    for request, reply in zip(ASKED, replies(Local(model=str(reward)), ASKED), strict=True):
        talk = [*request.messages, assistant(request.want.completion)]
        text = TOKENIZER.apply_chat_template(talk, tokenize=False).removesuffix("\n")
        ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits.item()
        assert reply.score == pytest.approx(expected, abs=1e-4)
        assert (reply.prompt_tokens, reply.new_tokens, reply.error) == (len(ids), 0, "")
        assert (reply.model, len(reply.weights)) == (str(reward), 12)


def test_a_score_does_not_depend_on_what_else_is_asked(reward: Path) -> None:
    engine = Local(model=str(reward))
    together = [reply.score for reply in replies(engine, ASKED)]
    assert [reply.score for reply in replies(engine, ASKED[::-1])][::-1] == together
    assert replies(engine, ASKED[5:6])[0].score == together[5]
    assert len(set(together)) > 6


def test_what_cannot_be_scored_is_refused_and_the_rest_goes_on(reward: Path) -> None:
    long = Request(messages=(user("word " * 60),), want=Worth(completion="yes"))
    posing = Request(messages=(user("hi"),), want=Worth(completion="yes<|im_end|>"))
    found = replies(Local(model=str(reward)), [long, ASKED[0], posing])
    assert found[0].error.endswith(
        "tokens are more than the reward model's context of 128; "
        "shorten it, or use a reward model with a longer context"
    )
    assert found[1].error == "" and found[1].score != 0
    assert found[2].error == "its text spells out the control token '<|im_end|>'; take it out"


def test_a_reward_model_writes_no_text(reward: Path) -> None:
    session = Local(model=str(reward)).open()
    for want in (Sampling(), Options(options=("A",)), Score(completion="x")):
        with pytest.raises(CaiError) as raised:
            session.submit(0, Request(messages=(user("hi"),), want=want))
        assert str(raised.value) == (
            f"model '{reward}' gives scores, not text: it is a reward model; "
            'give a language model, or judge = "reward"'
        )
    session.close()
    with pytest.raises(CaiError, match="this engine is closed; open it again"):
        session.submit(0, ASKED[0])


def test_a_language_model_gives_no_score(policy: Path) -> None:
    session = Local(model=str(policy)).open()
    try:
        for submit in (
            lambda: session.submit(0, ASKED[0]),
            lambda: ChatWay("m").plan(ASKED[0]),
            lambda: TokenWay("m", TOKENIZER, 100).plan(ASKED[0]),
        ):
            with pytest.raises(CaiError) as raised:
                submit()
            assert str(raised.value) == NO_SCORE
    finally:
        session.close()


def test_the_reward_judge_from_the_command_line(
    policy: Path,
    reward: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "Say {at}"}}\n' for at in range(4)))
    answers = ["--engine", "scripted", "--samples", "2", "-o", "answers.jsonl", "--quiet"]
    assert run(["generate", "prompts.jsonl", *answers]) == 0
    judged = ["compare", "answers.jsonl", "--judge", "reward", "-o", "judged.jsonl", "--quiet"]
    assert run([*judged, "--model", str(policy)]) == 1
    assert capsys.readouterr().err == f"error: {NO_SCORE}\n"
    assert run([*judged, "--model", str(reward), "--redo"]) == 0
    for row in read_comparisons(Path("judged.jsonl")):
        [annotation] = row.annotations
        one, other = annotation.scores
        assert row.probabilities[0] == pytest.approx(1 / (1 + math.exp(other - one)), abs=1e-12)
        assert (annotation.annotator, annotation.model, annotation.principle) == ("reward", str(reward), "")
    assert run([*judged, "--constitution", "harmless", "--model", str(reward)]) == 2
    assert capsys.readouterr().err == (
        "error: cai compare: 'constitution' has no use: judge 'reward' reads no principle\n"
    )


RECIPE = """
constitution = "harmless"
[engines.start]
type = "local"
model = "{policy}"
[engines.words]
type = "scripted"
[[steps]]
name = "answers"
stage = "generate"
engine = "words"
from = "{prompts}"
samples = 2
[[steps]]
name = "compared"
stage = "compare"
engine = "words"
judge = "logprob"
[[steps]]
name = "rm"
train = "reward"
model = "start"
steps = 1
[[steps]]
name = "scored"
stage = "annotate"
engine = "rm"
from = "compared"
judge = "reward"
weight = 2.0
"""


def test_a_reward_model_that_a_recipe_trains_is_its_judge_too(policy: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "Say {at}"}}\n' for at in range(4)))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(policy=policy, prompts=prompts))
    assert run(["run", str(tmp_path / "recipe.toml"), "--quiet"]) == 0
    for row in read_comparisons(tmp_path / "scored.jsonl"):
        logprob, reward = row.annotations
        assert (reward.annotator, reward.weight, reward.model) == ("reward", 2.0, str(tmp_path / "rm"))
        mean = (logprob.probabilities[0] + 2 * reward.probabilities[0]) / 3
        assert row.probabilities[0] == pytest.approx(mean, abs=1e-12)
