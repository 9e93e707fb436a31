"""Reward models: made from a policy's folder, exact, plain folders again; whatever is none is an error."""

import json
import math
import multiprocessing

import pytest
import tiny
import torch
from test_objectives import comparison
from test_objectives_family import choice
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForSequenceClassification,
)

from cai.errors import CaiError
from cai.objectives.dpo import Dpo
from cai.objectives.reward import Reward
from cai.objectives.sft import Sft
from cai.records import assistant, user
from cai.training.distributed import ALONE
from cai.training.files import work_folder
from cai.training.fit import fit
from cai.training.loop import accumulate
from cai.training.models import load_policy
from cai.training.scalar import (
    load_scorer,
    pad_apart,
    require_same_tokenizer,
    score_examples,
    scores,
    start_scorer,
)
from cai.training.settings import TrainSettings

TOKENIZER = tiny.tokenizer()
SETTINGS = TrainSettings(lr=3e-3, epochs=12, batch_size=6, checkpoint_every=2)
TALKS = [
    (user("hi"), assistant("yes " * (1 + at % 5))) if at % 2 else (user("go on" * at), assistant("no"))
    for at in range(9)
]
ROWS = [
    comparison(("yes" * (1 + at % 3), "no" * (1 + at % 4)), (0.9, 0.1), name=f"c{at}", request=f"say {at}")
    for at in range(12)
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("models") / "policy")


def learn(policy, folder, report=None, **keys):
    objective = Reward(**keys)
    sources, _ = objective.sources(ROWS)
    return fit(objective, SETTINGS, model=policy, sources=sources, folder=folder, report=report)


@pytest.fixture(scope="module")
def trained(policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "rm"
    learn(policy, folder)
    return folder


def awake(policy, dtype=torch.float64):
    """A reward model of random head."""
    model = start_scorer(policy, dtype)
    torch.manual_seed(3)
    torch.nn.init.normal_(model.score.weight)
    return model


def through_turn(messages):
    text = TOKENIZER.apply_chat_template(list(messages), tokenize=False)
    return TOKENIZER(text.removesuffix("\n"), add_special_tokens=False)["input_ids"]


def by_transformers(model, messages):
    """The score of one conversation from transformers' own forward pass."""
    with torch.no_grad():
        return model(torch.tensor([through_turn(messages)])).logits.item()


def test_a_reward_model_starts_at_zero_with_the_policys_backbone(policy):
    model = start_scorer(policy)
    assert isinstance(model, LlamaForSequenceClassification) and not model.training
    assert scores(model, TOKENIZER, TALKS) == [0.0] * len(TALKS)
    backbone = load_policy(policy).model.state_dict()
    assert all(torch.equal(value, backbone[name]) for name, value in model.model.state_dict().items())


def test_scores_in_batches_are_those_of_each_alone_and_transformers_own(policy):
    model = awake(policy)
    together = scores(model, TOKENIZER, TALKS)
    alone = [scores(model, TOKENIZER, [talk])[0] for talk in TALKS]
    assert together == pytest.approx(alone, rel=1e-12)
    assert together == pytest.approx([by_transformers(model, talk) for talk in TALKS], rel=1e-12)
    assert len(set(together)) > 5


@pytest.mark.parametrize("label", ["soft", "hard"])
def test_the_loss_by_hand(policy, label):
    model = awake(policy)
    sources = [
        choice("one", ("yes", "no"), (0.7, 0.3)),
        choice("two", ("k", "never mind", "maybe"), (0.5, 0.3, 0.2), weight=2.0),
    ]
    objective = Reward(label=label, centring=0.2)
    data = objective.prepare(sources, TOKENIZER, 128)
    (step,) = objective.batches(model, data, TrainSettings(steps=1, batch_size=4), ALONE, 0)
    loss = objective.loss(model, step.micros[0])
    found = [
        [by_transformers(model, (*source.prompt, assistant(text))) for text in source.answers]
        for source in sources
    ]
    expected = 0.0
    for source, values in zip(sources, found, strict=True):
        target = source.probabilities if label == "soft" else [1.0] + [0.0] * (len(values) - 1)
        total = math.log(sum(math.exp(value) for value in values))
        each = -sum(p * (value - total) for p, value in zip(target, values, strict=True))
        expected += source.weight * (each + 0.2 * (sum(values) / len(values)) ** 2)
    assert loss.total.item() == pytest.approx(expected, rel=1e-9)
    assert step.weight == 3.0
    assert loss.metrics["score_a"] == pytest.approx(found[0][0] + 2 * found[1][0], rel=1e-9)


def test_accumulation_leaves_the_gradient_as_it_is(policy):
    gradients = []
    sources, _ = Reward().sources(ROWS)
    for settings in (
        TrainSettings(epochs=1, batch_size=12),
        TrainSettings(epochs=1, batch_size=1, accumulate=12),
    ):
        model = awake(policy)
        data = Reward().prepare(sources, TOKENIZER, 128)
        (step,) = Reward().batches(model, data, settings, ALONE, 0)
        accumulate(Reward(), model, step)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    # transformers computes its norms in float32 whatever the model's dtype.
    assert (gradients[1] - gradients[0]).abs().max() < 1e-6 * gradients[0].abs().max()


def test_a_trained_reward_model_is_a_plain_folder_with_equal_scores(trained):
    again = AutoModelForSequenceClassification.from_pretrained(trained)
    assert again.config.num_labels == 1
    found = scores(load_scorer(trained), TOKENIZER, TALKS)
    assert found == pytest.approx([by_transformers(again.eval(), talk) for talk in TALKS], rel=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    padded = tokenizer.pad(
        {"input_ids": [through_turn(talk) for talk in TALKS]}, padding_side="right", return_tensors="pt"
    )
    with torch.no_grad():
        assert again(**padded).logits.squeeze(1).tolist() == pytest.approx(found, rel=1e-4, abs=1e-5)
    logged = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert logged[0]["loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert logged[-1]["accuracy"] == 1.0


def test_a_reward_model_is_trained_further(trained, tmp_path):
    objective = Reward()
    sources, _ = objective.sources(ROWS)
    summary = fit(objective, SETTINGS, model=trained, sources=sources, folder=tmp_path / "more")
    assert summary["first_loss"] < 0.6


def test_padding_that_ends_the_turn_is_replaced(policy):
    model, tokenizer = awake(policy), tiny.tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.pad_token = "<|im_end|>"
    pad_apart(model, tokenizer, {end})
    assert model.config.pad_token_id == tokenizer.pad_token_id != end
    long, short = (through_turn(talk) for talk in (TALKS[8], TALKS[1]))
    padded = torch.tensor([long, short + [tokenizer.pad_token_id] * (len(long) - len(short))])
    with torch.no_grad():
        found = model(padded).logits.squeeze(1).tolist()
    assert found == pytest.approx(scores(model, TOKENIZER, [TALKS[8], TALKS[1]]), rel=1e-9)


def test_gpt2_has_a_scalar_head_too(tmp_path):
    config = GPT2Config(vocab_size=262, n_embd=16, n_layer=2, n_head=2, n_positions=128)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    model = awake(tmp_path)
    expected = [by_transformers(model, talk) for talk in TALKS]
    assert scores(model, TOKENIZER, TALKS) == pytest.approx(expected, rel=1e-9)


def test_scores_are_not_rounded_to_bfloat16(policy):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model = awake(policy, torch.float32)
        found = scores(model, TOKENIZER, TALKS)
    assert torch.tensor(found).to(torch.bfloat16).tolist() != found


def train_to_the_end(policy, folder, gate):
    gate.wait()
    learn(policy, folder)


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(policy, trained, tmp_path):
    folder, context = tmp_path / "rm", multiprocessing.get_context("fork")
    kills, delay = 0, 0.05
    while not folder.exists():
        gate = context.Event()
        process = context.Process(target=train_to_the_end, args=(policy, folder, gate))
        process.start()
        gate.set()
        process.join(delay)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        delay *= 1.3
    assert kills >= 2
    for name in ("model.safetensors", "metrics.jsonl", "config.json"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()


def stop_at_three(step, total, metrics):
    if step == 3:
        raise KeyboardInterrupt


def test_a_broken_run_goes_on(policy, trained, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        learn(policy, tmp_path / "rm", report=stop_at_three)
    assert work_folder(tmp_path / "rm").exists()
    learn(policy, tmp_path / "rm")
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "rm" / name).read_bytes() == (trained / name).read_bytes()


def labels(folder, count):
    """A classifier's folder."""
    model = LlamaForSequenceClassification(tiny.model().config)
    model.score = torch.nn.Linear(16, count, bias=False)
    model.config.num_labels = count
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def bert(folder):
    config = BertConfig(
        vocab_size=262, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_a_reward_model_is_no_policy(trained, tmp_path):
    for objective in (Sft(), Dpo()):
        with pytest.raises(CaiError) as caught:
            fit(objective, SETTINGS, model=trained, sources=[], folder=tmp_path / "out")
        assert str(caught.value) == (
            f"model '{trained}' gives scores, not text: it is a reward model or a classifier; "
            "give a language model, or use it where a reward model is read"
        )


def test_a_policy_is_no_reward_model(policy):
    with pytest.raises(CaiError) as caught:
        load_scorer(policy)
    assert str(caught.value) == (
        f"model '{policy}' is no reward model; train one with 'cai train reward', and give its folder"
    )


@pytest.mark.parametrize("load", [load_scorer, start_scorer])
def test_a_classifier_of_several_labels_is_no_reward_model(load, tmp_path):
    with pytest.raises(CaiError) as caught:
        load(labels(tmp_path / "three", 3))
    assert str(caught.value) == (
        f"model '{tmp_path}/three' gives 3 scores, and a reward model gives one; start from a language model"
    )


def test_a_model_whose_head_cai_does_not_know(tmp_path):
    with pytest.raises(CaiError) as caught:
        start_scorer(bert(tmp_path))
    assert str(caught.value) == (
        f"model '{tmp_path}' (BertForSequenceClassification) has no linear head called 'score'; "
        "start from a decoder model: Llama, Qwen, Mistral, Gemma, GPT-2, ..."
    )


def test_no_folder_and_no_weights(tmp_path, trained):
    for load in (load_scorer, start_scorer):
        with pytest.raises(CaiError) as caught:
            load("nowhere")
        assert str(caught.value) == (
            "there is no model folder 'nowhere'; give the path of a Hugging Face model folder"
        )
        (tmp_path / "config.json").write_text((trained / "config.json").read_text())
        with pytest.raises(CaiError, match="does not load as a reward model"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (
            (user("hi"), assistant("x" * 200)),
            "conversation 2: 222 tokens are more than the reward model's context of 128; "
            "shorten it, or use a reward model with a longer context",
        ),
        (
            (user("hi"), assistant("<|im_end|>")),
            "conversation 2: its text spells out the control token '<|im_end|>'; take it out",
        ),
        (
            (user("hi"),),
            "conversation 2: the conversation ends with role 'user'; end it with the assistant's answer",
        ),
    ],
)
def test_what_cannot_be_scored(policy, talk, message):
    with pytest.raises(CaiError) as caught:
        scores(start_scorer(policy), TOKENIZER, [TALKS[0], talk])
    assert str(caught.value) == message


def test_another_models_tokenizer(policy):
    other = tiny.tokenizer(merges=(("y", "e"), ("ye", "s")))
    with pytest.raises(CaiError) as caught:
        scores(start_scorer(policy), other, [(user("hi"), assistant("yes"))])
    assert str(caught.value) == (
        "conversation 1: token 263 is none of the reward model's 262: another tokenizer's; "
        "use the tokenizer in the reward model's own folder"
    )
    require_same_tokenizer(tiny.tokenizer(), TOKENIZER)
    with pytest.raises(CaiError) as caught:
        require_same_tokenizer(TOKENIZER, other)
    assert str(caught.value) == (
        "reward model 'tiny' has another tokenizer than model 'tiny' "
        "(264 and 262 tokens, 2 of them different); "
        "train a reward model from a model of the same family"
    )


def test_scores_of_nothing(policy):
    assert score_examples(start_scorer(policy), []) == []
