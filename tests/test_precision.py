"""bfloat16 arithmetic over float32 weights: near in loss, and no update is too small to count."""

import math
from dataclasses import replace

import pytest
import tiny
import torch

from cai.objectives.dpo import Dpo
from cai.objectives.sft import Sft
from cai.records import assistant, user
from cai.training.data import Conversation, Preference
from cai.training.fit import fit
from cai.training.models import load_policy, stored_dtype
from cai.training.settings import TrainSettings

SETTINGS = TrainSettings(lr=1e-2, epochs=2, batch_size=4)
TALKS = [
    Conversation(id=f"t{at}", messages=(user(f"say {at}"), assistant("yes " * (1 + at % 3))))
    for at in range(8)
]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A model that is stored in bfloat16."""
    folder = tiny.folder(tmp_path_factory.mktemp("models") / "narrow")
    tiny.model().to(torch.bfloat16).save_pretrained(folder)
    return folder


def test_the_loss_is_near(narrow, tmp_path):
    found = {}
    for dtype in ("float32", "bfloat16"):
        settings = replace(SETTINGS, dtype=dtype)
        found[dtype] = fit(Sft(), settings, model=narrow, sources=TALKS, folder=tmp_path / dtype)
    assert found["bfloat16"]["first_loss"] == pytest.approx(found["float32"]["first_loss"], rel=2e-2)
    assert found["bfloat16"]["last_loss"] == pytest.approx(found["float32"]["last_loss"], rel=5e-2)
    assert found["bfloat16"]["first_loss"] != found["float32"]["first_loss"]


def test_updates_below_the_resolution_of_bfloat16_add_up(narrow, tmp_path):
    """A weight near 1 in bfloat16 has steps of 2^-7; forty updates of 2^-13 are 0.6 of one."""
    start = load_policy(narrow).state_dict()
    rate = 2.0**-13
    settings = replace(
        SETTINGS, dtype="bfloat16", lr=rate, epochs=None, steps=40, schedule="constant", warmup=0.0
    )
    fit(Sft(), replace(settings, save_dtype="float32"), model=narrow, sources=TALKS, folder=tmp_path / "out")
    moved = load_policy(tmp_path / "out").state_dict()
    large = {name: (value.abs() > 0.9) & (value.abs() < 1.9) for name, value in start.items()}
    changed, kept = 0, 0
    for name, here in large.items():
        one = start[name][here]
        # What a step of AdamW would leave of a weight that were bfloat16 itself: nothing, whichever way.
        assert all(torch.equal((one + sign * rate).bfloat16().float(), one) for sign in (-1, 1))
        changed += int((moved[name][here].bfloat16().float() != one).sum())
        kept += int(((moved[name][here] - one).abs() > rate).sum())
    assert changed > 20 and kept > 100


@pytest.mark.parametrize(("save_dtype", "stored"), [(None, torch.bfloat16), ("float32", torch.float32)])
def test_what_weights_are_saved_in(narrow, tmp_path, save_dtype, stored):
    settings = replace(SETTINGS, save_dtype=save_dtype, steps=2, epochs=None)
    fit(Sft(), settings, model=narrow, sources=TALKS, folder=tmp_path / "out")
    assert stored_dtype(tmp_path / "out") == stored


def test_the_reference_is_computed_in_the_same_arithmetic(narrow, tmp_path):
    pairs = [
        Preference(id=f"p{at}", prompt=(user(f"say {at}"),), a="yes" * at, b="no" * at, p_a=1.0)
        for at in range(1, 9)
    ]
    settings = replace(SETTINGS, dtype="bfloat16")
    summary = fit(Dpo(beta=1.0), settings, model=narrow, sources=pairs, folder=tmp_path / "out")
    assert summary["first_loss"] == pytest.approx(math.log(2), abs=2e-3)
