"""LoRA: which layers get an adapter, and what is wrong with settings, an adapter or its base."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from test_lora import ADAPTER, SETTINGS, TALKS

from cai.config import build
from cai.errors import CaiError
from cai.model_folder import resolve
from cai.objectives.sft import Sft
from cai.training.fit import fit
from cai.training.models import load_policy, start_policy
from cai.training.settings import Lora, TrainSettings

# Of peft, which asks transformers 5.23 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("models") / "start")


@pytest.fixture(scope="module")
def trained(model, tmp_path_factory):
    """The adapter that SFT makes of `model`."""
    folder = tmp_path_factory.mktemp("models") / "adapter"
    fit(Sft(), replace(SETTINGS, epochs=1), model=model, sources=TALKS, folder=folder)
    return folder


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"lora": 8}, "train: 'lora' is 8; write a table: {rank = 16}"),
        ({"lora": {"rnk": 8}}, "train lora: unknown key 'rnk'; did you mean 'rank'?"),
        ({"lora": {"rank": 0}}, "train lora: 'rank' is 0; it must be at least 1"),
        ({"lora": {"alpha": 0}}, "train lora: 'alpha' is 0.0; it must be above 0"),
        ({"lora": {"dropout": 1}}, "train lora: 'dropout' is 1.0; it must lie in [0, 1)"),
        (
            {"lora": {}, "save_dtype": "float32"},
            "train: 'save_dtype' has no effect on an adapter, which is float32; leave it out, or merge",
        ),
    ],
)
def test_settings_that_are_wrong(table, message):
    with pytest.raises(CaiError) as caught:
        build(TrainSettings, table, "train")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "query",
            "no layer of the model is called 'query'; "
            "known: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
        ),
        ("lm_head", "'lm_head' is the head, which gets no adapter; take it out of 'targets'"),
    ],
)
def test_targets_that_are_wrong(model, target, message):
    with pytest.raises(CaiError) as caught:
        start_policy(model, "cpu", replace(SETTINGS, lora=Lora(targets=(target,))))
    assert str(caught.value) == message


def test_targets_by_name(model):
    policy = start_policy(
        model, "cpu", replace(SETTINGS, lora=Lora(targets=("q_proj", "1.self_attn.v_proj")))
    )
    learning = {name.split(".lora")[0] for name, each in policy.named_parameters() if each.requires_grad}
    assert learning == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
    }


def test_another_adapter_than_the_start_is_an_error(trained):
    folder = trained
    for changed, message in (
        (
            Lora(rank=8, alpha=12),
            f"adapter '{folder}' was trained with r = 4; "
            "set 'lora' to the same to train it further, or train from a merged model",
        ),
        (
            replace(ADAPTER, targets=("q_proj",)),
            f"adapter '{folder}' is on other layers than 'lora' asks for; "
            "set its 'targets' to the same, or train from a merged model",
        ),
    ):
        with pytest.raises(CaiError) as caught:
            start_policy(folder, "cpu", replace(SETTINGS, lora=changed))
        assert str(caught.value) == message


def test_a_base_that_has_gone_or_changed_is_an_error(trained, tmp_path):
    base = tiny.folder(tmp_path / "base")
    folder = Path(shutil.copytree(trained, tmp_path / "adapter"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    assert resolve(str(folder)) == folder
    tiny.folder(base, seed=5)
    with pytest.raises(CaiError) as caught:
        resolve(str(folder))
    assert str(caught.value) == (
        f"adapter '{folder}': its base '{base}' has other weights than it was trained on; "
        "put the old ones back, or train it anew"
    )
    shutil.rmtree(base)
    with pytest.raises(CaiError) as caught:
        load_policy(folder)
    assert str(caught.value) == (
        f"adapter '{folder}': there is no model '{base}'; "
        "put its base back, or correct base_model_name_or_path in its adapter_config.json"
    )
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CaiError) as caught:
        load_policy(folder)
    assert str(caught.value) == (
        f"{folder}/adapter_config.json: this is no LoRA adapter; give what peft's save_pretrained() wrote"
    )


def test_peft_that_is_missing_is_an_error(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(CaiError) as caught:
        start_policy(model, "cpu", SETTINGS)
    assert str(caught.value) == 'peft is not installed; pip install "cai[lora]"'
