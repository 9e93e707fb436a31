"""PPO, GRPO and RLOO of a model in parts learn what one process learns, and go on with any number of them."""

import multiprocessing
from dataclasses import replace

import architectures
import bandits
import pytest
import tiny
import torch
from bandits import TOKENIZER
from test_distributed import TIGHT, Stop, assert_equal, learn, stop, stop_at
from test_grpo import grouped
from test_ppo import demonstrations, ppo

from cai.config import build
from cai.errors import CaiError
from cai.objectives.grpo import Grpo
from cai.objectives.ppo import Ppo
from cai.objectives.rloo import Rloo
from cai.training.distributed import ALONE, Group
from cai.training.models import save_model, start_policy
from cai.training.scalar import start_scorer
from cai.training.settings import Lora, TrainSettings
from cai.training.value import PolicyAndValue

# Six answers a rollout, in steps of five and one, to three prompts: of four processes one answers nothing,
# and three learn from one answer fewer than the first, or from none.
SETTINGS = TrainSettings(lr=1e-2, steps=6, batch_size=5, checkpoint_every=2, warmup=0.2)
SIZES = {"rollout": 3, "samples": 2, "max_tokens": 5, "reuse": 2}


def policy(folder):
    return architectures.model("gpt2")


def valued(model, **keys):
    """With a value head that is not zero."""
    both = PolicyAndValue(model, **keys)
    torch.manual_seed(0)
    torch.nn.init.normal_(both.head.weight, std=0.3)
    return both


def own(folder):
    return valued(policy(folder))


def shared(folder):
    return valued(policy(folder), shared=True)


def reward_model(folder):
    """The folder of a reward model that is built as the policy is, with a head that is not zero."""
    made = folder / "rm"
    if not made.exists():
        policy(folder).save_pretrained(folder / "base")
        model = start_scorer(folder / "base", torch.float64)
        torch.manual_seed(1)
        torch.nn.init.normal_(model.score.weight)
        save_model(model, TOKENIZER, made)
    return made


def by_reward_model(folder):
    return build(Ppo, {"reward": str(reward_model(folder)), "critic": "reward", **SIZES}, "[ppo]")


CASES = {
    "own": (lambda folder: ppo(folder, sft=0.5, **SIZES), own),
    "shared": (lambda folder: ppo(folder, value="shared", stop_kl=1e-6, **SIZES), shared),
    "critic": (by_reward_model, own),
    "grpo": (lambda folder: grouped(folder, Grpo, sft=0.5, **SIZES), policy),
    "rloo": (lambda folder: grouped(folder, Rloo, **SIZES), policy),
}


def prepared(objective):
    rows = [*bandits.prompts(6), *(demonstrations(5) if objective.sft else ())]
    return objective.prepare(objective.sources(rows)[0], TOKENIZER, 128)


def run(case, root, name, **changes):
    """Weights and metrics of a run in a folder of its own; `changes` are of how it is executed."""
    make, start = CASES[case]
    objective = make(root)
    return learn(objective, start(root), prepared(objective), root / name, SETTINGS, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("nproc", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_several_processes_learn_what_one_does(tmp_path, case, nproc):
    one = run(case, tmp_path, "one")
    several = run(case, tmp_path, "several", nproc=nproc)
    # A reward model scores in float32, whatever it is batched with.
    assert_equal(one, several, 1e-5 if case == "critic" else TIGHT)
    assert max(row["rollout"] for row in one[1]) >= 1


def test_two_processes_learn_what_one_does(tmp_path):
    """In float32, as it is used."""
    objective = ppo(tmp_path, value="shared", **SIZES)
    settings = replace(SETTINGS, steps=3, lr=1e-3)
    one, two = (
        learn(
            objective,
            valued(tiny.model(), shared=True),
            prepared(objective),
            tmp_path / str(nproc),
            settings,
            nproc=nproc,
        )
        for nproc in (1, 2)
    )
    assert_equal(one, two, 1e-4)
    samples = [(tmp_path / name / "samples" / "00000000.jsonl").read_text() for name in "12"]
    assert samples[0].replace('"model":"1"', '"model":"2"') == samples[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["own", "grpo"])
def test_a_run_goes_on_with_any_number_of_processes(tmp_path, case):
    """2, 1 and 4: each dies at a step of its own, in the midst of a rollout."""
    whole = run(case, tmp_path, "whole")
    for nproc, number in ((2, 3), (1, 5)):
        with pytest.raises(Stop):
            run(case, tmp_path, "broken", nproc=nproc, report=stop_at(number, stop))
        assert not multiprocessing.active_children()
    assert_equal(whole, run(case, tmp_path, "broken", nproc=4), TIGHT)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
@pytest.mark.parametrize("case", ["own", "grpo"])
@pytest.mark.parametrize("how", [{"lora": Lora(rank=4)}, {"checkpointing": True}], ids=["lora", "again"])
def test_an_adapter_and_layers_computed_again_are_in_parts_too(tmp_path, case, how):
    start = tiny.folder(tmp_path / "policy")
    objective = CASES[case][0](tmp_path)
    found = []
    for nproc in (1, 2):
        settings = replace(SETTINGS, lr=1e-3, nproc=nproc, **how)
        model = start_policy(start, "cpu", settings)
        model = valued(model) if case == "own" else model
        found.append(learn(objective, model, prepared(objective), tmp_path / str(nproc), settings))
    assert_equal(*found, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["own", "shared", "grpo"])
def test_a_rollout_is_measured_as_it_is_learned_from(tmp_path, case):
    """In bfloat16 too: else an answer's odds would seem to have moved before the first step."""
    objective, _ = CASES[case]
    objective = replace(objective(tmp_path), sft=0.0)
    model = tiny.model() if case == "grpo" else valued(tiny.model(), shared=case == "shared")
    _, rows = learn(
        objective, model, prepared(objective), tmp_path, SETTINGS, nproc=2, dtype="bfloat16", steps=1
    )
    assert rows[0]["approx_kl"] == pytest.approx(0, abs=1e-5) and rows[0]["clipped"] == 0
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}


@pytest.mark.slow
def test_an_error_in_one_process_ends_them_all(tmp_path):
    """Only one of them meets the prompt whose answers cannot be scored."""
    body = "return 'none' if 'pick 1' in prompt[-1]['content'] else 1.0"
    objective = ppo(tmp_path, body=body, normalise=False, **SIZES)
    with pytest.raises(CaiError) as caught:
        learn(objective, own(tmp_path), prepared(objective), tmp_path, SETTINGS, nproc=2)
    assert str(caught.value).startswith(f"reward '{tmp_path}/mine.py:score' gave 'none' for the answer ")
    assert not multiprocessing.active_children()


def test_what_one_makes_and_what_it_fails_to():
    assert ALONE.made(lambda: 3) == [3]
    with pytest.raises(CaiError) as caught:
        ALONE.made(fail)
    assert str(caught.value) == "no; try again"


def fail() -> int:
    raise CaiError("no", next="try again")


def test_an_engine_answers_for_one_process(tmp_path):
    objective = grouped(tmp_path, engine={"type": "scripted"}, **SIZES)
    with pytest.raises(CaiError) as caught:
        objective.setup(tiny.model(), prepared(objective), tmp_path, Group(rank=0, world=2))
    assert str(caught.value) == "rollouts by an engine are for one process; leave processes and nproc out"


def test_a_model_alone_is_gathered_as_it_is():
    model = tiny.model()
    kept = ALONE.frozen(model)
    with ALONE.gathered(model) as found, ALONE.gathered(kept) as start:
        assert found is model and start is kept
    assert not any(one.requires_grad for one in kept.parameters())
    assert torch.equal(kept.lm_head.weight, model.lm_head.weight) and kept.lm_head is not model.lm_head
