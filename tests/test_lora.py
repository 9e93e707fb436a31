"""LoRA: what learns, what is saved, what it is the same as; resumption; what is wrong with input."""

import json
import math
from dataclasses import replace
from pathlib import Path

import architectures
import pytest
import tiny
import torch
from bandits import prompts, reward_file
from peft import PeftModel
from test_objectives import comparison
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from cai.adapter import base_of, is_adapter, name_of
from cai.chat import encode_prompt, load_tokenizer
from cai.config import build
from cai.engines import Request, Sampling
from cai.engines.local import Local
from cai.errors import CaiError
from cai.objectives.dpo import Dpo
from cai.objectives.ppo import Ppo
from cai.objectives.reward import Reward
from cai.objectives.sft import Sft
from cai.records import assistant, user
from cai.training import lora
from cai.training.batches import collate, completion_logps
from cai.training.data import Conversation, Preference
from cai.training.distributed import ALONE
from cai.training.fit import fit
from cai.training.models import apart, load_policy, start_policy
from cai.training.scalar import load_scorer, scores, start
from cai.training.settings import Lora, TrainSettings
from cai.training.value import PolicyAndValue
from cai.weights import weights_digest

# Of peft, which asks transformers 5.23 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
ADAPTER = Lora(rank=4, alpha=12)
SETTINGS = TrainSettings(lr=1e-2, epochs=3, batch_size=4, checkpoint_every=2, lora=ADAPTER)
TALKS = [
    Conversation(id=f"t{at}", messages=(user(f"say {at}"), assistant("yes " * (1 + at % 3))))
    for at in range(8)
]
PAIRS = [
    Preference(
        id=f"p{at}", prompt=(user(f"say {at}"),), a="yes" * (1 + at % 3), b="no" * (1 + at % 2), p_a=0.9
    )
    for at in range(8)
]
ROWS = [
    comparison(("yes" * (1 + at % 3), "no"), (0.9, 0.1), name=f"c{at}", request=f"say {at}")
    for at in range(8)
]
TEXT = torch.tensor([[1, 30, 40, 50, 60]])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("models") / "start")


@pytest.fixture(scope="module")
def trained(model, tmp_path_factory):
    """The adapter that SFT makes of `model`, and what its training came to."""
    folder = tmp_path_factory.mktemp("models") / "adapter"
    return folder, fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=folder)


def logits(model):
    with torch.no_grad():
        return model(TEXT).logits


def awake(model, settings=SETTINGS, seed=0):
    """A policy with an adapter whose B is not zero."""
    policy = start_policy(model, "cpu", settings)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return policy


def test_a_new_adapter_changes_nothing_at_all(model):
    policy = start_policy(model, "cpu", SETTINGS)
    assert torch.equal(logits(policy), logits(load_policy(model)))
    other = start_policy(model, "cpu", replace(SETTINGS, seed=1))
    for one, two in ((policy, start_policy(model, "cpu", SETTINGS)), (other, other)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    drawn = [
        dict(each.named_parameters())["model.layers.0.mlp.up_proj.lora_A.default.weight"]
        for each in (policy, other)
    ]
    assert not torch.equal(*drawn)


def test_only_the_adapter_learns(model):
    policy = awake(model)
    learning = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert learning and all(".lora_A.default." in name or ".lora_B.default." in name for name in learning)
    # Seven matrices a layer, none of the head's.
    assert len(learning) == 2 * 2 * 7
    row = Sft().prepare(TALKS[:1], tiny.tokenizer(), 128).rows[0]
    (-completion_logps(policy, collate([row.example], ["t"]))[0].sum()).backward()
    assert {name for name, parameter in policy.named_parameters() if parameter.grad is not None} == learning


def test_the_output_is_an_adapter_as_peft_writes_it(model, trained):
    folder, summary = trained
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "base.json",
        "chat_template.jinja",
        "generation_config.json",
        "metrics.jsonl",
        "timing.jsonl",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    ]
    assert summary["last_loss"] < summary["first_loss"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (
        config["target_modules"] == sorted(config["target_modules"]) and len(config["target_modules"]) == 14
    )
    told = {
        key: config[key] for key in ("r", "lora_alpha", "task_type", "base_model_name_or_path", "peft_type")
    }
    assert told == {
        "r": 4,
        "lora_alpha": 12.0,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "peft_type": "LORA",
    }
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), folder).eval()
    torch.testing.assert_close(logits(load_policy(folder)), logits(theirs), rtol=0, atol=1e-5)
    assert (logits(theirs) - logits(load_policy(model))).abs().max() > 0.1


def test_a_merged_model_is_a_plain_folder_and_computes_what_the_adapter_does(model, trained, tmp_path):
    merged = replace(SETTINGS, lora=replace(ADAPTER, merge=True))
    fit(Sft(), merged, model=model, sources=TALKS, folder=tmp_path / "merged")
    assert not is_adapter(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), trained[0]).eval()
    torch.testing.assert_close(logits(plain), logits(theirs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_merging_and_merged_parameters_leave_the_function_as_it_is(name, tmp_path):
    policy = architectures.model(name)
    names = {name for name, _ in policy.named_parameters()}
    lora.attach(policy, ADAPTER, 0, tmp_path)
    with torch.no_grad():
        for parameter_name, parameter in policy.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(std=0.05)
    expected = logits(policy)
    found = dict(lora.merged_parameters(policy))
    lora.merge(policy)
    assert {name for name, _ in policy.named_parameters()} == names == set(found)
    torch.testing.assert_close(logits(policy), expected, rtol=1e-9, atol=1e-9)
    for parameter_name, parameter in policy.named_parameters():
        torch.testing.assert_close(found[parameter_name], parameter.data, rtol=1e-12, atol=1e-12)


def test_packed_batches_are_exact_with_an_adapter(model):
    policy = awake(model)
    data = Dpo().prepare(PAIRS, tiny.tokenizer(), 128)
    examples = [example for row in data.rows for example in row.sequences]
    with torch.no_grad():
        together, _ = completion_logps(policy, collate(examples, [""] * len(examples)))
        alone = [completion_logps(policy, collate([example], [""]))[0][0] for example in examples]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-4)


def test_the_reference_of_dpo_is_the_model_without_its_adapter(model, tmp_path):
    policy = start_policy(model, "cpu", SETTINGS)
    data = Dpo().prepare(PAIRS, tiny.tokenizer(), 128)
    expected = Dpo().setup(load_policy(model), data, tmp_path, ALONE)
    data = Dpo().setup(policy, data, tmp_path, ALONE)
    assert [row.reference for row in data.rows] == [row.reference for row in expected.rows]
    summary = fit(Dpo(), SETTINGS, model=model, sources=PAIRS, folder=tmp_path / "out")
    assert summary["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert summary["last_loss"] < summary["first_loss"]


def test_a_copy_apart_shares_what_does_not_learn(model):
    policy = awake(model)
    copied = apart(policy)
    assert torch.equal(logits(copied), logits(policy))
    for (name, mine), (_, theirs) in zip(policy.named_parameters(), copied.named_parameters(), strict=True):
        assert (mine is theirs) == (not mine.requires_grad), name


def test_an_adapter_learns_on_and_keeps_its_base(model, trained, tmp_path):
    again = fit(Dpo(), SETTINGS, model=trained[0], sources=PAIRS, folder=tmp_path / "dpo")
    assert again["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert base_of(tmp_path / "dpo") == Path(model)
    assert load_policy(tmp_path / "dpo").generation_config.eos_token_id == [2, 4]
    start = start_policy(trained[0], "cpu", SETTINGS)
    torch.testing.assert_close(logits(start), logits(load_policy(trained[0])), rtol=0, atol=1e-5)


def test_full_training_starts_from_an_adapter_as_from_its_merged_model(trained, tmp_path):
    fit(Sft(), replace(SETTINGS, lora=None), model=trained[0], sources=TALKS, folder=tmp_path / "out")
    assert not is_adapter(tmp_path / "out")
    load_policy(tmp_path / "out")


def test_a_reward_model_is_an_adapter_and_a_head(model, tmp_path):
    sources, _ = Reward().sources(ROWS)
    out = tmp_path / "rm"
    summary = fit(Reward(), SETTINGS, model=model, sources=sources, folder=out)
    assert summary["first_loss"] == pytest.approx(math.log(2)) and summary["last_loss"] < 0.6
    talks = [(*row.prompt, assistant(row.candidates[0].text)) for row in ROWS]
    mine = scores(load_scorer(out), tiny.tokenizer(), talks)
    base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    theirs = PeftModel.from_pretrained(base, out).eval()
    assert len(set(mine)) > 1
    for talk, score in zip(talks, mine, strict=True):
        text = tiny.tokenizer().apply_chat_template(list(talk), tokenize=False).removesuffix("\n")
        ids = torch.tensor([tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            assert theirs(ids).logits.item() == pytest.approx(score, abs=1e-5)
    learned_on = start(out, "cpu", SETTINGS)
    assert scores(learned_on, tiny.tokenizer(), talks) == pytest.approx(mine, abs=1e-5)
    with pytest.raises(CaiError, match="gives scores, not text"):
        load_policy(out)


def test_a_reward_model_starts_from_an_adapter(model, trained):
    talks = [talk.messages for talk in TALKS]
    for settings in (SETTINGS, replace(SETTINGS, lora=None)):
        scorer = start(trained[0], "cpu", settings)
        assert scores(scorer, tiny.tokenizer(), talks) == [0.0] * len(talks)
        states = scorer.model(TEXT).last_hidden_state
        expected = load_policy(trained[0]).model(TEXT).last_hidden_state
        torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", ["own", "shared"])
def test_ppo_learns_with_an_adapter(model, tmp_path, value):
    body = "return sum(letter.isalpha() for letter in answer) / 4"
    fields = {
        "reward": reward_file(tmp_path, body),
        "rollout": 16,
        "max_tokens": 5,
        "reuse": 2,
        "value": value,
    }
    objective = build(Ppo, fields, "[ppo]")
    sources, _ = objective.sources(prompts(6))
    settings = TrainSettings(lr=3e-2, steps=40, batch_size=16, schedule="constant", lora=ADAPTER)
    fit(objective, settings, model=model, sources=sources, folder=tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    rewards = [row["reward"] for row in rows]
    assert sum(rewards[-8:]) / 8 > sum(rewards[:4]) / 4 + 0.1
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)
    # Only the policy's adapter is saved.
    load_policy(tmp_path / "out")


def test_ppo_learns_without_dropout(tmp_path):
    objective = build(Ppo, {"reward": reward_file(tmp_path)}, "[ppo]")
    sources, _ = objective.sources(prompts(6))
    with pytest.raises(CaiError) as caught:
        settings = TrainSettings(steps=4, lora=replace(ADAPTER, dropout=0.1))
        objective.steps(objective.prepare(sources, tiny.tokenizer(), 512), settings)
    assert str(caught.value) == (
        "with 'dropout' an answer is learned from under other odds than it was sampled under; "
        "leave it out of 'lora'"
    )


def test_a_value_model_of_its_own_shares_the_base(model):
    both = PolicyAndValue(awake(model))
    policy, value = dict(both.policy.base_model.named_parameters()), dict(both.backbone.named_parameters())
    assert all((policy[name] is value[name]) == (not policy[name].requires_grad) for name in policy)


def test_a_critic_cannot_start_from_a_reward_model_with_an_adapter(model):
    with pytest.raises(CaiError) as caught:
        PolicyAndValue(awake(model)).start_from(model)
    assert str(caught.value) == (
        "with 'lora' the critic has the policy's weights, so it cannot start from a reward model; "
        'set critic = "policy", or train without lora'
    )


def test_dropout_acts_where_there_is_a_gradient_only_and_runs_alike(model, tmp_path):
    settings = replace(SETTINGS, lora=replace(ADAPTER, dropout=0.5))
    policy = awake(model, settings)
    assert torch.equal(logits(policy), logits(policy))
    assert not torch.equal(policy(TEXT).logits, policy(TEXT).logits)
    found = [fit(Sft(), settings, model=model, sources=TALKS, folder=tmp_path / name) for name in "ab"]
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")
    assert found[0]["last_loss"] == found[1]["last_loss"]


def test_the_local_engine_answers_with_an_adapter(model, trained):
    session = Local(model=str(trained[0]), threads=1).open()
    session.submit(0, Request(messages=(user("say 3"),), want=Sampling(max_tokens=8, temperature=0), seed=0))
    [(_, reply)] = session.poll()
    session.close()
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), trained[0]).eval()
    ids = encode_prompt(tiny.tokenizer(), (user("say 3"),))
    start = len(ids)
    with torch.no_grad():
        for _ in reply.tokens:
            ids.append(int(theirs(torch.tensor([ids])).logits[0, -1].argmax()))
    assert reply.tokens == tuple(ids[start:])
    assert reply.weights == weights_digest(trained[0])[:12] != weights_digest(model)[:12]
    assert load_tokenizer(trained[0]).chat_template == tiny.CHATML


def test_weights_under_bfloat16(tmp_path):
    """The base in bfloat16 if it is stored so, the adapter in float32, also when it is saved."""
    tiny.folder(tmp_path / "start")
    tiny.model().to(torch.bfloat16).save_pretrained(tmp_path / "start")
    settings = replace(SETTINGS, dtype="bfloat16")
    policy = start_policy(tmp_path / "start", "cpu", settings)
    kinds = {parameter.requires_grad: parameter.dtype for parameter in policy.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    whole = fit(
        Sft(),
        replace(settings, dtype="float32"),
        model=tmp_path / "start",
        sources=TALKS,
        folder=tmp_path / "wide",
    )
    narrow = fit(Sft(), settings, model=tmp_path / "start", sources=TALKS, folder=tmp_path / "out")
    assert narrow["first_loss"] == pytest.approx(whole["first_loss"], rel=2e-2)
    assert narrow["last_loss"] == pytest.approx(whole["last_loss"], rel=5e-2)
    merged = replace(settings, lora=replace(ADAPTER, merge=True), save_dtype="float32")
    fit(Sft(), merged, model=tmp_path / "start", sources=TALKS, folder=tmp_path / "merged")
    plain, adapted = load_policy(tmp_path / "merged"), load_policy(tmp_path / "out")
    torch.testing.assert_close(logits(plain), logits(adapted), rtol=0, atol=1e-5)


def test_a_hub_download_is_called_by_its_id(tmp_path):
    snapshot = tmp_path / "models--org--some--name" / "snapshots" / "abc"
    assert name_of(snapshot) == ("org/some--name", "abc")
    assert name_of(tmp_path) == (str(tmp_path), None)
