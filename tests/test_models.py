"""Model folders in and out, digests of them, and a whole training run from folder to folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from cai.errors import CaiError
from cai.objectives.dpo import Dpo
from cai.objectives.sft import Sft
from cai.records import assistant, user
from cai.training.data import Conversation, Preference
from cai.training.distributed import ALONE
from cai.training.files import work_folder
from cai.training.fit import device_of, fit
from cai.training.models import load_policy, save_model, stored_dtype
from cai.training.reference import reference_logps
from cai.training.settings import TrainSettings
from cai.weights import weights_digest

TALKS = [
    Conversation(id=f"t{at}", messages=(user(f"say {at}"), assistant("yes " * (1 + at % 3))))
    for at in range(8)
]
SETTINGS = TrainSettings(lr=1e-2, epochs=2, batch_size=4, checkpoint_every=1)
TEXT = torch.tensor([[1, 30, 40, 50]])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("models") / "start")


def copy(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "copy"))


def logits(model):
    with torch.no_grad():
        return model(TEXT).logits


def test_a_saved_model_is_a_plain_folder_with_the_same_logits(tmp_path):
    policy = tiny.model()
    save_model(policy, tiny.tokenizer(), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(again), logits(policy))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == tiny.CHATML
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


def test_a_folder_is_never_written_over(tmp_path):
    with pytest.raises(CaiError) as caught:
        save_model(tiny.model(), tiny.tokenizer(), tmp_path)
    assert str(caught.value) == f"{tmp_path}: there is something here already; choose another name"


def test_a_policy_is_float32_and_has_no_dropout(tmp_path):
    tiny.model().to(torch.bfloat16).save_pretrained(tmp_path)
    policy = load_policy(tmp_path)
    assert policy.dtype == torch.float32 and not policy.training
    assert stored_dtype(tmp_path) == torch.bfloat16


def test_what_is_no_model_is_an_error(tmp_path):
    with pytest.raises(CaiError, match="there is no model folder 'nowhere'; give the path of a Hugging Face"):
        load_policy("nowhere")
    with pytest.raises(CaiError, match="does not load as a causal language model"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CaiError, match="does not load as a causal language model"):
        load_policy(tmp_path)


def test_torn_and_missing_weights_are_errors(model, tmp_path):
    folder = copy(model, tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CaiError, match="does not load as a causal language model"):
        load_policy(folder)
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CaiError) as caught:
        load_policy(folder)
    assert str(caught.value) == (
        f"model '{folder}' lacks 1 weights (model.norm.weight, ...); "
        "its safetensors files do not belong to its config.json"
    )


def test_the_digest_changes_with_weights_tokenizer_and_config_only(model, tmp_path):
    folder = copy(model, tmp_path)
    before = weights_digest(folder)
    assert before == weights_digest(model) and len(before) == 32
    (folder / "metrics.jsonl").write_text("{}\n")
    assert weights_digest(folder) == before
    for name in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + b"!")
        assert weights_digest(folder) != before
        (folder / name).write_bytes(content)
    assert weights_digest(folder) == before


def test_big_files_count_by_size_and_samples(model, tmp_path, monkeypatch):
    folder = copy(model, tmp_path)
    monkeypatch.setattr("cai.weights.WHOLE_UP_TO", 1 << 10)
    monkeypatch.setattr("cai.weights.SAMPLE_BYTES", 1 << 8)
    before = weights_digest(folder)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + b"!")
    assert weights_digest(folder) != before


def test_a_digest_needs_a_model_folder(tmp_path):
    with pytest.raises(CaiError) as caught:
        weights_digest(tmp_path)
    message = f"'{tmp_path}' is no model folder; a model folder holds config.json and *.safetensors"
    assert str(caught.value) == message


def test_fit_goes_from_folder_to_folder(model, tmp_path):
    out = tmp_path / "out"
    about = {"identity": {"step": "sft"}}
    summary = fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=out, about=about)
    assert json.loads((out / "training.json").read_text()) == summary
    assert json.loads((out / "cai.json").read_text()) == about
    assert (summary["rows"], summary["dropped"], summary["steps"]) == (8, {}, 4)
    assert summary["last_loss"] < summary["first_loss"]
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 4
    assert not work_folder(out).exists()
    trained = AutoModelForCausalLM.from_pretrained(out)
    assert not torch.equal(logits(trained), logits(AutoModelForCausalLM.from_pretrained(model)))


def test_generation_stops_at_the_end_of_turn_that_was_learned(model, tmp_path):
    assert load_policy(model).generation_config.eos_token_id == 2
    fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=tmp_path / "out")
    end = tiny.tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert load_policy(tmp_path / "out").generation_config.eos_token_id == [2, end]


def test_a_device_that_is_not_there_is_an_error(model, tmp_path):
    settings = replace(SETTINGS, device="cuda:99")
    with pytest.raises(CaiError) as caught:
        fit(Sft(), settings, model=model, sources=TALKS, folder=tmp_path / "out")
    assert str(caught.value) == 'there is no device \'cuda:99\' here; use device = "cpu" or "auto"'


def test_several_processes_mean_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(replace(SETTINGS, processes=2)) == "cpu"
    assert device_of(SETTINGS) == "cuda"


def test_a_stopped_fit_goes_on_and_ends_alike(model, tmp_path):
    fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=tmp_path / "whole")

    def stop(step, total, metrics):
        if step == 3:
            raise KeyboardInterrupt

    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=broken, report=stop)
    assert not broken.exists()
    fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=broken)
    assert weights_digest(broken) == weights_digest(tmp_path / "whole")
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]


def test_weights_are_stored_in_the_dtype_they_came_in(tmp_path):
    tiny.folder(tmp_path / "start")
    tiny.model().to(torch.bfloat16).save_pretrained(tmp_path / "start")
    fit(Sft(), SETTINGS, model=tmp_path / "start", sources=TALKS, folder=tmp_path / "out")
    assert stored_dtype(tmp_path / "out") == torch.bfloat16


def test_fit_refuses_another_start_for_a_stopped_run(model, tmp_path):
    def stop(step, total, metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Sft(), SETTINGS, model=model, sources=TALKS, folder=tmp_path / "out", report=stop)
    other = tiny.folder(tmp_path / "other", seed=7)
    with pytest.raises(CaiError) as caught:
        fit(Sft(), SETTINGS, model=other, sources=TALKS, folder=tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path}/out.training: a training run with other settings stopped here (weights changed); "
        "restore them to go on, or delete the folder to start anew"
    )


def test_reference_log_probabilities_are_computed_once(tmp_path, monkeypatch):
    pairs = [Preference(id=f"{at}", prompt=(user("hi"),), a="a" * at, b="b", p_a=1.0) for at in range(1, 6)]
    data = Dpo().prepare(pairs, tiny.tokenizer(), 128)
    examples = [example for row in data.rows for example in row.sequences]
    policy = tiny.model()
    one = reference_logps(policy, examples, tmp_path, ALONE)
    (cached,) = tmp_path.glob("reference-*.pt")

    def never(*_):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr("cai.training.reference.completion_logps", never)
        assert reference_logps(policy, examples, tmp_path, ALONE) == one
        with pytest.raises(AssertionError, match="computed again"):
            reference_logps(tiny.model(1), examples, tmp_path, ALONE)
        with pytest.raises(AssertionError, match="computed again"):
            reference_logps(policy, examples[:-1], tmp_path, ALONE)
    torch.save(torch.zeros(3), cached)
    assert reference_logps(policy, examples, tmp_path, ALONE) == one


def test_a_start_that_is_not_finite_is_an_error(tmp_path):
    policy = tiny.model()
    with torch.no_grad():
        policy.lm_head.weight[5] = float("nan")
    pair = Preference(id="x", prompt=(user("hi"),), a="a", b="b", p_a=1.0)
    data = Dpo().prepare([pair], tiny.tokenizer(), 128)
    with pytest.raises(CaiError) as caught:
        Dpo().setup(policy, data, tmp_path, ALONE)
    assert str(caught.value) == (
        "the starting model gives answer 1 of pair 1 log-probability nan; check the model's weights"
    )
