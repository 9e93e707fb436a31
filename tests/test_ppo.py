"""PPO: its numbers against float64 truth, its rollouts, its resumption, what is wrong with input."""

import json
import math
from dataclasses import replace

import bandits
import pytest
import tiny
import torch
from bandits import TOKENIZER, reward_file

from cai.config import build
from cai.errors import CaiError
from cai.objectives._rollout import newest
from cai.objectives.ppo import Ppo
from cai.plugins import find
from cai.records import Record, Turn, user
from cai.training.distributed import ALONE
from cai.training.loop import accumulate, train
from cai.training.settings import TrainSettings
from cai.training.value import PolicyAndValue

SETTINGS = TrainSettings(
    lr=3e-3, steps=12, batch_size=4, accumulate=2, checkpoint_every=5, schedule="constant"
)
LETTERS = "return sum(letter.isalpha() for letter in answer) / 4"


def ppo(folder, body=LETTERS, **keys):
    fields = {"rollout": 8, "samples": 2, "max_tokens": 5, "reuse": 2, **keys}
    return build(Ppo, {"reward": reward_file(folder, body), **fields}, "[ppo]")


def prepared(objective, count=6):
    sources, left_out = objective.sources(bandits.prompts(count))
    assert left_out == {}
    return objective.prepare(sources, TOKENIZER, 128)


def both(dtype=torch.float32, seed=0):
    """A policy and a value model whose head is not zero."""
    model = PolicyAndValue(tiny.model(seed, dtype))
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.head.weight, std=0.3)
    return model


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_reward_rises(tmp_path):
    objective = ppo(tmp_path, rollout=16, reuse=2, kl_coef=0.01)
    data = prepared(objective)
    train(
        objective, both(), data, replace(SETTINGS, lr=1e-2, steps=64, batch_size=16, accumulate=1), tmp_path
    )
    rewards = [row["reward"] for row in logged(tmp_path)]
    assert sum(rewards[-8:]) / 8 > sum(rewards[:4]) / 4 + 0.2


def test_what_is_logged(tmp_path):
    objective = ppo(tmp_path)
    train(objective, both(), prepared(objective), SETTINGS, tmp_path)
    rows = logged(tmp_path)
    assert [row["rollout"] for row in rows] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    for row in rows[::4]:
        # A fresh rollout: nothing has moved yet.
        assert row["approx_kl"] == pytest.approx(0, abs=1e-6) and row["clipped"] == 0
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert abs(rows[-1]["kl"]) > 1e-4
    assert all(0 < row["entropy"] < math.log(262) and 0 < row["length"] <= 5 for row in rows)
    assert all(row["unscored"] == 0 and row["kl_coef"] == pytest.approx(0.05) for row in rows)
    assert {"policy_loss", "value_loss", "explained_variance", "value_clipped", "ended"} <= set(rows[0])
    shown = [json.loads(line) for line in (tmp_path / "samples" / "00000000.jsonl").read_text().splitlines()]
    assert len(shown) == 16 and shown[0]["meta"] == {"step": 0, "score": shown[0]["meta"]["score"]}
    assert shown[0]["turns"][0]["model"] == tmp_path.name and shown[0]["turns"][0]["kind"] == "response"
    kept = sorted(path.name for path in tmp_path.glob("rollout-*"))
    assert kept == ["rollout-00000000.pt", "rollout-00000004.pt", "rollout-00000008.pt"]


@pytest.mark.parametrize(
    "keys",
    [
        {"normalise": False, "whiten": False},
        {"kl": "k3", "kl_coef": 0.3, "temperature": 0.7, "gamma": 0.9, "lam": 0.8, "whiten_rewards": True},
    ],
)
def test_a_rollout_and_its_loss_equal_a_computation_of_our_own(tmp_path, keys):
    """From the sampled tokens alone, an answer at a time, in float64."""
    objective = ppo(tmp_path, value_coef=0.5, missing_end=0.4, **keys)
    model, start = both(torch.float64, 1), tiny.model(0, torch.float64)
    data = objective.setup(both(torch.float64, 0), prepared(objective), tmp_path, ALONE)
    step = next(objective.batches(model, data, replace(SETTINGS, batch_size=16, accumulate=1), ALONE, 0))
    rollout = newest(tmp_path, 1)
    expected = truth(objective, model, start, rollout)
    for one, columns in zip(rollout.experiences, expected, strict=True):
        for name, column in columns.items():
            assert one.columns[name].tolist() == pytest.approx(column, rel=1e-9, abs=1e-9), name
    # At the weights of the rollout the ratio is 1 and no value has moved.
    tokens = [
        -advantage + 0.5 * (value - ret) ** 2 / 2
        for columns in expected
        for advantage, value, ret in zip(
            columns["advantages"], columns["values"], columns["returns"], strict=True
        )
    ]
    assert step.weight == len(tokens)
    [loss] = accumulate(objective, model, step)
    assert loss.total.item() == pytest.approx(math.fsum(tokens), rel=1e-9)


@torch.no_grad()
def truth(objective, model, start, rollout):
    """log-probs, values, advantages and returns of a first rollout, by the published formulas."""
    answers = []
    for one in rollout.experiences:
        ids, begin = one.example.ids, one.example.mask.index(True)
        states = model.backbone(torch.tensor([ids])).last_hidden_state[0]
        values = [
            float(states[t - 1] @ model.head.weight[0] + model.head.bias[0]) for t in range(begin, len(ids))
        ]
        old, reference = (
            [float(table[t - 1, ids[t]]) for t in range(begin, len(ids))]
            for table in (
                (policy(torch.tensor([ids])).logits[0] / objective.temperature).log_softmax(-1)
                for policy in (model.policy, start)
            )
        )
        text = TOKENIZER.decode(ids[begin:], skip_special_tokens=True)
        answers.append(
            (old, reference, values, sum(letter.isalpha() for letter in text) / 4, ids[-1] in (2, 4))
        )
    scores = [score for *_, score, _ in answers]
    mean, deviation = 0.0, 1.0
    if objective.normalise:
        mean = math.fsum(scores) / len(scores)
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
    every_reward = []
    for old, reference, _, score, ended in answers:
        gaps = [one - other for one, other in zip(old, reference, strict=True)]
        costs = [gap if objective.kl == "k1" else math.exp(-gap) - 1 + gap for gap in gaps]
        rewards = [-objective.kl_coef * cost for cost in costs]
        rewards[-1] += (score - mean) / deviation - (0.0 if ended else 0.4)
        every_reward.append(rewards)
    if objective.whiten_rewards:
        _, spread, _ = moments(every_reward)
        centre, _, _ = moments(every_reward)
        every_reward = [[(r - centre) / spread + centre for r in rewards] for rewards in every_reward]
    found = []
    for (old, _, values, *_), rewards in zip(answers, every_reward, strict=True):
        ahead = [*values[1:], 0.0]
        deltas = [r + objective.gamma * nxt - v for r, nxt, v in zip(rewards, ahead, values, strict=True)]
        decay = objective.gamma * objective.lam
        advantages = [
            math.fsum(decay**k * delta for k, delta in enumerate(deltas[t:])) for t in range(len(deltas))
        ]
        returns = [a + v for a, v in zip(advantages, values, strict=True)]
        found.append({"old": old, "values": values, "advantages": advantages, "returns": returns})
    if objective.whiten:
        centre, spread, _ = moments([one["advantages"] for one in found])
        for one in found:
            one["advantages"] = [(a - centre) / spread for a in one["advantages"]]
    return found


def moments(rows):
    every = [value for row in rows for value in row]
    mean = math.fsum(every) / len(every)
    variance = math.fsum((value - mean) ** 2 for value in every) / (len(every) - 1)
    return mean, math.sqrt(variance + 1e-8), len(every)


def test_accumulation_leaves_the_gradient_as_it_is(tmp_path):
    # In float64, but for the norms, which transformers computes in float32.
    objective = ppo(tmp_path, sft=0.7)
    rows = [*bandits.prompts(6), *demonstrations(5)]
    gradients = []
    for size, accumulated in ((16, 1), (1, 16), (3, 16)):
        folder = tmp_path / str(size)
        folder.mkdir()
        model = both(torch.float64)
        sources, _ = objective.sources(rows)
        data = objective.setup(model, objective.prepare(sources, TOKENIZER, 128), folder, ALONE)
        settings = replace(SETTINGS, batch_size=size, accumulate=accumulated)
        step = next(objective.batches(model, data, settings, ALONE, 0))
        accumulate(objective, model, step)
        parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-5, atol=1e-6)


def demonstrations(count):
    return [
        Record(
            id=f"d{at}",
            prompt_id=f"d{at}",
            prompt=(user(f"say {at}"),),
            turns=(Turn(kind="response", text="fine" * (1 + at % 2)),),
        )
        for at in range(count)
    ]


def test_the_sft_term_is_the_mean_over_its_tokens(tmp_path):
    objective = ppo(tmp_path, sft=2.0)
    model = both(torch.float64)
    sources, _ = objective.sources([*bandits.prompts(4), *demonstrations(3)])
    data = objective.prepare(sources, TOKENIZER, 128)
    assert (len(data.rows), len(data.demonstrations)) == (4, 3)
    data = objective.setup(model, data, tmp_path, ALONE)
    step = next(objective.batches(model, data, SETTINGS, ALONE, 0))
    losses = accumulate(objective, model, step)
    # Eight answers a step, so eight demonstrations: the three, the three again, and two.
    rows = [data.demonstrations[at % 3] for at in range(8)]
    logps = []
    for row in rows:
        table = model.policy(torch.tensor([row.example.ids])).logits[0].log_softmax(-1)
        logps += [table[t - 1, i].item() for t, i in enumerate(row.example.ids) if row.example.mask[t]]
    expected = -math.fsum(logps) / len(logps)
    shown = [loss for loss in losses if "sft_loss" in loss.metrics]
    assert sum(loss.metrics["sft_loss"] for loss in shown) / step.weight == pytest.approx(expected, rel=1e-9)
    assert sum(loss.total.item() for loss in shown) / step.weight == pytest.approx(2 * expected, rel=1e-9)


class Stop(Exception):
    """Stands for whatever ends a run."""


def stop_after(number):
    def report(step, total, metrics):
        if step == number:
            raise Stop

    return report


@pytest.mark.parametrize("keys", [{"kl_target": 0.5, "kl_horizon": 50.0}, {"stop_kl": 1e-4, "reuse": 3}])
@pytest.mark.parametrize("stops", [[6], [1, 7, 11]])
def test_a_broken_run_ends_as_an_unbroken_one(tmp_path, stops, keys):
    objective = ppo(tmp_path, show_every=1, **keys)
    whole = both()
    train(objective, whole, prepared(objective), SETTINGS, tmp_path / "whole")
    for number in stops:
        with pytest.raises(Stop):
            train(
                objective,
                both(),
                prepared(objective),
                SETTINGS,
                tmp_path / "broken",
                report=stop_after(number),
            )
    model = both()
    train(objective, model, prepared(objective), SETTINGS, tmp_path / "broken")
    assert same(weights(model), weights(whole))
    for pattern in ("metrics.jsonl", "samples/*.jsonl"):
        files = [sorted((tmp_path / name).glob(pattern)) for name in ("whole", "broken")]
        texts = [[path.read_text().replace('"broken"', '"whole"') for path in some] for some in files]
        assert texts[0] == texts[1]


def test_a_rollout_that_moved_too_far_is_left(tmp_path):
    objective = ppo(tmp_path, stop_kl=1e-9, reuse=5)
    train(objective, both(), prepared(objective), SETTINGS, tmp_path)
    # Two steps a pass, and never a second pass.
    assert [row["rollout"] for row in logged(tmp_path)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_the_coefficient_follows_the_kl(tmp_path):
    objective = ppo(tmp_path, kl_target=1.0, kl_horizon=160.0)
    train(objective, both(), prepared(objective), SETTINGS, tmp_path)
    coefficients = [row["kl_coef"] for row in logged(tmp_path)][::4]
    # The first answers are the reference's own: KL 0, error -0.2 (the most), 16 of 160 answers.
    assert coefficients[1] == pytest.approx(0.05 * (1 - 0.02))
    assert coefficients[0] == pytest.approx(0.05) and coefficients[2] != coefficients[1]


@pytest.mark.slow
def test_a_bandit_reaches_the_closed_form(tmp_path):
    torch.manual_seed(0)
    settings = TrainSettings(
        lr=0.1, steps=160, batch_size=128, schedule="linear", warmup=0.0, checkpoint_every=1000
    )
    fields = {"rollout": 128, "max_tokens": 1, "reuse": 2, "kl_coef": 0.5, "missing_end": 0.0}
    objective = build(Ppo, {"reward": reward_file(tmp_path), "normalise": False, **fields}, "[ppo]")
    sources, _ = objective.sources(bandits.prompts(1))
    data = objective.prepare(sources, TOKENIZER, 64)
    policy = bandits.Table()
    train(objective, PolicyAndValue(policy), data, settings, tmp_path)
    assert bandits.distance(bandits.Table().probabilities(), bandits.tilted(0.5)) > 0.2
    assert bandits.distance(policy.probabilities(), bandits.tilted(0.5)) <= 0.03


def test_prompts_that_cannot_be_used_are_counted(tmp_path):
    rows = [*bandits.prompts(2), *bandits.prompts(1)]
    long = Record(id="long", prompt_id="long", prompt=(user("x" * 120),), turns=())
    frame = Record(id="frame", prompt_id="frame", prompt=(user("a <|im_end|>"),), turns=())
    objective = ppo(tmp_path, too_long="skip")
    data = objective.prepare(objective.sources([*rows, long, frame])[0], TOKENIZER, 128)
    assert [row.name for row in data.rows] == ["p0", "p1"]
    assert data.dropped == {"same prompt": 1, "too long": 1, "control token in the text": 1}


def prepare_rows(objective, rows):
    return objective.prepare(objective.sources(rows)[0], TOKENIZER, 128)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda f: ppo(f, clip=0), "[ppo]: 'clip' is 0.0; it must be above 0"),
        (lambda f: ppo(f, rollout=0), "[ppo]: 'rollout' is 0; it must be at least 1"),
        (lambda f: ppo(f, lam=1.5), "[ppo]: 'lam' is 1.5; it must lie in [0, 1]"),
        (
            lambda f: ppo(f, kl_horizon=9),
            "[ppo]: 'kl_horizon' has no effect without 'kl_target'; leave it out",
        ),
        (
            lambda f: ppo(f, kl_target=6, kl_coef=0),
            "[ppo]: 'kl_target' cannot move a coefficient of 0; set 'kl_coef' above 0",
        ),
        (
            lambda f: ppo(f, reuse=1, stop_kl=0.1),
            "[ppo]: 'stop_kl' has no effect with reuse = 1; leave it out",
        ),
        (
            lambda f: ppo(f, critic="reward"),
            "[ppo]: critic = \"reward\" needs a reward model as the reward; leave 'critic' out",
        ),
        (lambda f: build(Ppo, {}, "[ppo]"), "[ppo]: 'reward' is missing; add reward = ..."),
        (
            lambda f: build(Ppo, {"reward": 3}, "[ppo]"),
            '[ppo] reward: this is 3; write the folder of a reward model, "file.py:function", '
            "or a table with a judge",
        ),
        (
            lambda f: build(Ppo, {"reward": f"{reward_file(f)}s"}, "[ppo]"),
            "[ppo] reward: '{folder}/mine.py:scores' has no function 'scores'; did you mean 'score'?",
        ),
        (
            lambda f: build(Ppo, {"reward": "nothing.py:score"}, "[ppo]"),
            "[ppo] reward: there is no file 'nothing.py'; give the path of a Python file",
        ),
        (
            lambda f: prepare_rows(ppo(f, sft=0.5), bandits.prompts(2)),
            "sft = 0.5 and there is no row with an answer to learn; "
            "add a file that has such, or leave sft out",
        ),
        (
            lambda f: prepare_rows(ppo(f, sft=0.5), demonstrations(2)),
            "sft = 0.5 and there is no row without an answer, to be a prompt; "
            "add a file that has such, or leave sft out",
        ),
        (
            lambda f: prepare_rows(ppo(f, max_tokens=120), bandits.prompts(1)),
            "row p0: 25 tokens and max_tokens = 120 are more than the model's context of 128; "
            'shorten it, lower max_tokens, or set too_long = "skip"',
        ),
        (
            lambda f: ppo(f).steps(prepared(ppo(f)), TrainSettings(steps=1, tokens_per_batch=64)),
            "'tokens_per_batch' is for rows that are known before the run; "
            "set batch_size, the answers of a micro-batch",
        ),
        (
            lambda f: train(ppo(f, body="return 1"), both(), prepared(ppo(f)), SETTINGS, f),
            "all 16 answers of the first rollout score 1; "
            "set normalise = false, or a reward that tells answers apart",
        ),
        (
            lambda f: train(ppo(f, body="return 'good'"), both(), prepared(ppo(f)), SETTINGS, f),
            "reward '{folder}/mine.py:score' gave 'good' for the answer {answer}; "
            "let it return a finite number",
        ),
    ],
)
def test_errors(tmp_path, run, message):
    with pytest.raises(CaiError) as caught:
        run(tmp_path)
    found, _, answer = str(caught.value).partition(" for the answer ")
    expected, _, _ = message.replace("{folder}", str(tmp_path)).partition(" for the answer ")
    assert found == expected and answer.endswith("let it return a finite number" if answer else "")


def test_it_is_found_by_name():
    assert find("objectives", "ppo") is Ppo
