"""GRPO and RLOO: what a group's scores are worth, closed forms, a judge or a reward model as the reward."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import bandits
import pytest
import tiny
import torch
from bandits import TOKENIZER, reward_file
from test_ppo import LETTERS, SETTINGS, logged, same, stop_after, weights
from test_ppo import Stop as Stopped

from cai.config import build
from cai.engines import Reply
from cai.errors import CaiError
from cai.objectives._reward import Reward
from cai.objectives._rollout import newest
from cai.objectives.grpo import Grpo
from cai.objectives.rloo import Rloo
from cai.plugins import find
from cai.records import assistant, user
from cai.training.distributed import ALONE
from cai.training.loop import accumulate, train
from cai.training.models import save_model
from cai.training.scalar import scores, start_scorer
from cai.training.settings import TrainSettings


def grouped(folder, cls=Grpo, body=LETTERS, **keys):
    fields = {"rollout": 4, "samples": 4, "max_tokens": 5, **keys}
    return build(cls, {"reward": reward_file(folder, body), **fields}, f"[{cls.__name__.lower()}]")


def prepared(objective, count=6, limit=128):
    return objective.prepare(objective.sources(bandits.prompts(count))[0], TOKENIZER, limit)


@pytest.mark.parametrize(
    ("cls", "keys"), [(Grpo, {}), (Grpo, {"scale": False, "kl": "k3"}), (Rloo, {"reuse": 2})]
)
def test_a_rollout_and_its_loss_equal_a_computation_of_our_own(tmp_path, cls, keys):
    objective = grouped(tmp_path, cls, beta=0.3, temperature=0.8, missing_end=0.0, **keys)
    start, model = tiny.model(0, torch.float64), tiny.model(1, torch.float64)
    data = objective.setup(start, prepared(objective), tmp_path, ALONE)
    step = next(objective.batches(model, data, replace(SETTINGS, batch_size=16, accumulate=1), ALONE, 0))
    rollout = newest(tmp_path, 1)
    groups = {}
    for one in rollout.experiences:
        groups.setdefault(one.place, []).append(one)
    assert [len(group) for group in groups.values()] == [4, 4, 4, 4]
    total = []
    for group in groups.values():
        points = [points_of(one) for one in group]
        mean = math.fsum(points) / 4
        deviation = math.sqrt(math.fsum((point - mean) ** 2 for point in points) / 3)
        for one, point in zip(group, points, strict=True):
            if cls is Rloo:
                worth = point - (math.fsum(points) - point) / 3
            elif objective.scale:
                worth = (point - mean) / (deviation + 1e-8) if max(points) > min(points) else 0.0
            else:
                worth = point - mean
            assert one.columns["advantages"].tolist() == pytest.approx([worth] * len(one.columns["old"]))
            for now, before in zip(logps_of(model, one), logps_of(start, one), strict=True):
                gap = now - before
                cost = gap * gap / 2 if objective.kl == "k2" else math.exp(-gap) - 1 + gap
                total.append(-worth + 0.3 * cost)
    losses = accumulate(objective, model, step)
    assert step.weight == len(total)
    assert sum(loss.total.item() for loss in losses) == pytest.approx(math.fsum(total), rel=1e-8)


def points_of(experience):
    begin = experience.example.mask.index(True)
    text = TOKENIZER.decode(experience.example.ids[begin:], skip_special_tokens=True)
    return sum(letter.isalpha() for letter in text) / 4


def logps_of(model, experience):
    ids, begin = experience.example.ids, experience.example.mask.index(True)
    table = (model(torch.tensor([ids])).logits[0] / 0.8).log_softmax(-1)
    return [table[t - 1, ids[t]].item() for t in range(begin, len(ids))]


def test_the_reward_rises(tmp_path):
    objective = grouped(tmp_path, beta=0.01)
    settings = replace(SETTINGS, steps=24, batch_size=16, accumulate=1, lr=2e-2)
    train(objective, tiny.model(), prepared(objective), settings, tmp_path)
    rows = logged(tmp_path)
    assert sum(row["reward"] for row in rows[-6:]) / 6 > sum(row["reward"] for row in rows[:3]) / 3 + 0.2
    assert all(0 <= row["alike"] <= 1 for row in rows) and rows[-1]["kl"] > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "kl", "closed"),
    [(Grpo, "k2", bandits.tilted), (Grpo, "k3", bandits.leaned), (Rloo, "k2", bandits.tilted)],
)
def test_a_bandit_reaches_the_closed_form(tmp_path, cls, kl, closed):
    settings = TrainSettings(
        lr=0.1, steps=100, batch_size=128, schedule="linear", warmup=0.0, checkpoint_every=1000
    )
    fields = {"rollout": 8, "samples": 16, "max_tokens": 1, "beta": 0.5, "kl": kl, "missing_end": 0.0}
    own = {"scale": False} if cls is Grpo else {}
    objective = grouped(tmp_path, cls, f"return {bandits.REWARDS!r}.get(answer, 0.0)", **fields, **own)
    policy = bandits.Table()
    train(objective, policy, prepared(objective, 1, 64), settings, tmp_path)
    assert bandits.distance(bandits.Table().probabilities(), closed(0.5)) > 0.1
    assert bandits.distance(policy.probabilities(), closed(0.5)) <= 0.03


@pytest.mark.parametrize("stops", [[1], [4, 7]])
def test_a_broken_run_ends_as_an_unbroken_one(tmp_path, stops):
    objective = grouped(tmp_path, reuse=2)
    whole = tiny.model()
    train(objective, whole, prepared(objective), SETTINGS, tmp_path / "whole")
    for number in stops:
        with pytest.raises(Stopped):
            train(
                objective,
                tiny.model(),
                prepared(objective),
                SETTINGS,
                tmp_path / "broken",
                report=stop_after(number),
            )
    model = tiny.model()
    train(objective, model, prepared(objective), SETTINGS, tmp_path / "broken")
    assert same(weights(model), weights(whole))
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]


def test_a_model_in_training_is_left_as_it_was_by_its_rollouts(tmp_path):
    objective = grouped(tmp_path)
    model = tiny.model()
    own = model.config._attn_implementation
    data = objective.setup(model, prepared(objective), tmp_path, ALONE)
    next(objective.batches(model, data, SETTINGS, ALONE, 0))
    assert model.config._attn_implementation == own
    assert all(parameter.requires_grad for parameter in model.parameters())


def reward_model(folder):
    """A reward model's folder whose head is not zero."""
    base = tiny.folder(folder / "base", seed=3)
    model = start_scorer(base)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.score.weight)
    save_model(model, TOKENIZER, folder / "rm")
    return folder / "rm", model


def test_a_reward_model_scores_whole_conversations(tmp_path):
    folder, model = reward_model(tmp_path)
    reward = Reward.from_toml(str(folder), "[x] reward")
    assert reward.kind.needs == {folder} and set(reward.identity()) == {"model"}
    prompt = (user("hi"),)
    found = reward.kind.open("cpu").score([(prompt, ["yes", "no"]), ((user("go"),), ["", "<|im_end|>", "k"])])
    talks = [(*prompt, assistant("yes")), (*prompt, assistant("no")), (user("go"), assistant("k"))]
    expected = scores(model, TOKENIZER, talks)
    assert found[0] == pytest.approx(expected[:2]) and found[1][2] == pytest.approx(expected[2])
    # Neither nothing nor what poses as the frame can be read as an answer.
    assert found[1][:2] == [None, None]


@dataclass(frozen=True, kw_only=True)
class Fond:
    """An engine that judges by length: the longer answer is better, and of '?' it says nothing."""

    def open(self):
        return FondSession()

    def identity(self):
        return {"engine": "fond"}


class FondSession:
    capacity = 8

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Reply]] = []

    def submit(self, ticket, request):
        text = request.messages[-1]["content"]
        self.waiting.append((ticket, Reply(logps=judged(text))))

    def poll(self) -> Sequence[tuple[int, Reply]]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def close(self):
        return None


def judged(question):
    """Log-probabilities of the two options by the answers inside the question."""
    if "?!" in question:
        return (-50.0, -50.0)
    ahead = question.index("xxxx") < question.index("yy")
    return (math.log(0.9), math.log(0.1)) if ahead else (math.log(0.1), math.log(0.9))


def test_a_judge_compares_all_answers_to_a_prompt(tmp_path):
    engine = f"{__file__}:Fond"
    table = {"judge": "logprob", "constitution": "harmless", "engine": {"type": engine}}
    reward = Reward.from_toml(table, "[x] reward")
    assert set(reward.identity()) == {"judge", "constitution", "engine", "seed"}
    scorer = reward.kind.open("cpu")
    [two, same_text, unread] = scorer.score(
        [((user("hi"),), ["xxxx", "yy"]), ((user("hi"),), ["k", "k"]), ((user("hi"),), ["?!", "yy"])]
    )
    scorer.close()
    assert two == pytest.approx([0.9, 0.1])
    assert same_text == [0.5, 0.5]
    assert unread == [None, None]


def test_an_answer_without_a_score_is_not_learned_from(tmp_path):
    objective = grouped(tmp_path)
    data = objective.setup(tiny.model(), prepared(objective), tmp_path, ALONE)
    data = replace(data, scorer=Half())
    step = next(objective.batches(tiny.model(), data, replace(SETTINGS, batch_size=16), ALONE, 0))
    experiences = newest(tmp_path, 1).experiences
    silent = [one for one in experiences if one.name.endswith(("/0", "/1", "/2"))]
    assert len(silent) == 12 and all(one.weight == 0 for one in silent)
    # The one that is left in each group has nothing to be compared with.
    assert all(one.weight == 0 for one in experiences)
    assert step.weight == 1.0


class Half:
    """Scores the last answer of each group only."""

    def score(self, groups):
        return [[None] * (len(answers) - 1) + [1.0] for _, answers in groups]

    def close(self):
        return None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"samples": 1}, "[grpo]: 'samples' is 1; answers are compared, so it must be at least 2"),
        ({"beta": -1}, "[grpo]: 'beta' is -1.0; it must be 0 or above, and finite"),
        ({"kl": "k1"}, "[grpo]: 'kl' is 'k1'; choose one of 'k2', 'k3'"),
        ({"engine": "vllm"}, "[grpo] engine: this is 'vllm'; write a table with the engine's type"),
        (
            {"reward": {"judge": "logprob", "constitution": "harmless"}},
            "[grpo] reward: 'engine' is missing; add engine = ...",
        ),
    ],
)
def test_errors(tmp_path, table, message):
    with pytest.raises(CaiError) as caught:
        build(Grpo, {"reward": reward_file(tmp_path), **table}, "[grpo]")
    assert str(caught.value) == message


def test_scale_is_grpos_alone(tmp_path):
    with pytest.raises(CaiError, match=r"\[rloo\]: unknown key 'scale'"):
        grouped(tmp_path, Rloo, scale=True)


def test_an_engine_that_cannot_take_weights_is_refused(tmp_path):
    objective = grouped(tmp_path, engine={"type": "scripted"})
    with pytest.raises(CaiError) as caught:
        objective.setup(tiny.model(), prepared(objective), tmp_path, ALONE)
    assert str(caught.value) == (
        "the engine of the rollouts cannot be given new weights while training goes on; "
        "use type = \"vllm\", or leave 'engine' out"
    )


def test_they_are_found_by_name():
    assert find("objectives", "grpo") is Grpo and find("objectives", "rloo") is Rloo


def test_samples_are_json(tmp_path):
    objective = grouped(tmp_path, show_every=1)
    train(objective, tiny.model(), prepared(objective), replace(SETTINGS, steps=4), tmp_path)
    files = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in files] == ["00000000.jsonl", "00000002.jsonl"]
    assert all(json.loads(line)["prompt"][0]["role"] == "user" for line in files[0].read_text().splitlines())
