"""The loop: blind to the objective, exact under accumulation; a broken run ends as an unbroken one."""

import json
import math
import multiprocessing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tiny
import torch

from cai.chat import Example
from cai.errors import CaiError
from cai.objectives import Loss, Step
from cai.objectives.sft import Sft, SftRow
from cai.training.data import Prepared
from cai.training.distributed import ALONE
from cai.training.loop import accumulate, train
from cai.training.settings import TrainSettings

SETTINGS = TrainSettings(lr=1e-2, epochs=2, batch_size=3, accumulate=2, checkpoint_every=3, warmup=0.2)


def rows(count=24, seed=1):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for at in range(count):
        length = 4 + at % 7
        ids = tuple(torch.randint(0, 262, (length,), generator=generator).tolist())
        mask = tuple(place >= length // 2 for place in range(length))
        made.append(SftRow(name=f"row{at}", example=Example(ids=ids, mask=mask), weight=1.0 + at % 3))
    return Prepared(rows=tuple(made), dropped={}, fingerprint=f"rows{count}-{seed}")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_accumulation_leaves_the_gradient_as_it_is():
    data = rows()
    gradients = []
    for settings in (
        TrainSettings(epochs=1, batch_size=24),
        TrainSettings(epochs=1, batch_size=1, accumulate=24),
        TrainSettings(epochs=1, tokens_per_batch=16, accumulate=24),
    ):
        model = tiny.model(dtype=torch.float64)
        (step,) = Sft().batches(model, data, settings, ALONE, 0)
        accumulate(Sft(), model, step)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-10, atol=1e-12)


def test_steps_equal_an_independent_adamw_in_float64(tmp_path):
    """Rate, clipping, decay and the weighted token mean, recomputed from the published equations."""
    settings = TrainSettings(
        lr=3e-3, steps=6, batch_size=24, schedule="linear", warmup=0.5, weight_decay=0.1, clip=0.5, eps=1e-6
    )
    model = tiny.model(dtype=torch.float64)
    expected = reference_run(tiny.model(dtype=torch.float64), rows(), settings)
    train(Sft(), model, rows(), settings, tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in logged] == pytest.approx([loss for loss, _ in expected], rel=1e-9)
    assert [row["grad_norm"] for row in logged] == pytest.approx([norm for _, norm in expected], rel=1e-9)


def reference_run(model, data, settings):
    parameters = list(model.parameters())
    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(parameter) for parameter in parameters]
    outcome = []
    for step in range(settings.steps):
        total, weight = torch.zeros((), dtype=torch.float64), 0.0
        for row in data.rows:
            logps = model(torch.tensor([row.example.ids])).logits[0].log_softmax(-1)
            for at in range(1, len(row.example.ids)):
                if row.example.mask[at]:
                    total = total - row.weight * logps[at - 1, row.example.ids[at]]
                    weight += row.weight
        gradients = torch.autograd.grad(total / weight, parameters)
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        scale = min(1.0, settings.clip / (norm + 1e-6))
        rate = settings.lr * ((step + 1) / 3 if step < 3 else (6 - step) / 3)
        with torch.no_grad():
            for at, parameter in enumerate(parameters):
                gradient = gradients[at] * scale
                parameter *= 1 - rate * (settings.weight_decay if parameter.ndim >= 2 else 0.0)
                first[at] = settings.beta1 * first[at] + (1 - settings.beta1) * gradient
                second[at] = settings.beta2 * second[at] + (1 - settings.beta2) * gradient**2
                mean = first[at] / (1 - settings.beta1 ** (step + 1))
                spread = second[at] / (1 - settings.beta2 ** (step + 1))
                parameter -= rate * mean / (spread.sqrt() + settings.eps)
        outcome.append((total.item() / weight, norm))
    return outcome


@dataclass(frozen=True, kw_only=True)
class Towards:
    """An objective of a test's own: pull the first weight to `goal`, and fail at step `fail`."""

    goal: float = 3.0
    fail: int = -1

    def setup(self, model, data, cache, group):
        return data

    def steps(self, data, settings):
        return settings.steps

    def batches(self, model, data, settings, group, start):
        for at in range(start, settings.steps):
            yield Step(micros=(at,), weight=1.0)

    def loss(self, model, batch):
        error = (next(model.parameters()).flatten()[0] - self.goal) ** 2
        total = error * math.nan if batch == self.fail else error
        return Loss(total=total, metrics={"error": error.item()}, names=(f"row{batch}",), tokens=1)


def test_the_loop_runs_an_objective_it_has_never_heard_of(tmp_path):
    model = tiny.model()
    settings = TrainSettings(lr=0.1, steps=80, batch_size=1, warmup=0.0)
    summary = train(Towards(), model, rows(), settings, tmp_path)
    assert summary.steps == 80 and summary.tokens == 80
    assert summary.last_loss < 0.05 < summary.first_loss
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logged[0]["error"] == pytest.approx(logged[0]["loss"])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    settings = TrainSettings(lr=0.1, steps=9, batch_size=1, checkpoint_every=2)
    with pytest.raises(CaiError) as caught:
        train(Towards(fail=5), tiny.model(), rows(), settings, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: step 6: loss nan, gradient norm nan on rows row5; "
        "lower lr or take those rows out; the last checkpoint is kept"
    )
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["progress"]["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["model"].values())


class Stop(Exception):
    """Stands for whatever ends a run."""


def stop_after(number):
    def report(step, total, metrics):
        if step == number:
            raise Stop

    return report


@pytest.mark.parametrize("stops", [[1], [3], [4, 7], [5, 5, 5]])
def test_a_broken_run_ends_as_an_unbroken_one(tmp_path, stops):
    whole = tiny.model()
    train(Sft(), whole, rows(), SETTINGS, tmp_path / "whole")
    for number in stops:
        with pytest.raises(Stop):
            train(Sft(), tiny.model(), rows(), SETTINGS, tmp_path / "broken", report=stop_after(number))
    model = tiny.model()
    summary = train(Sft(), model, rows(), SETTINGS, tmp_path / "broken")
    assert same(weights(model), weights(whole))
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]
    assert summary.steps == 8 == len(metrics[0].splitlines())


def test_torn_log_lines_are_cut_back_to_the_checkpoint(tmp_path):
    with pytest.raises(Stop):
        train(Sft(), tiny.model(), rows(), SETTINGS, tmp_path, report=stop_after(5))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 6, "lo')
    train(Sft(), tiny.model(), rows(), SETTINGS, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_a_finished_run_is_not_run_again(tmp_path):
    one = train(Sft(), tiny.model(), rows(), SETTINGS, tmp_path)
    model = tiny.model()
    again = train(Sft(), model, rows(), SETTINGS, tmp_path)
    assert (again.steps, again.tokens, again.last_loss) == (one.steps, one.tokens, one.last_loss)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": replace(SETTINGS, lr=2e-2, seed=1)}, "lr, seed"),
        ({"objective": Sft(train_on="all")}, "sft.train_on"),
        ({"data": rows(seed=2)}, "rows"),
        ({"identity": {"weights": "other"}}, "weights"),
    ],
)
def test_another_run_is_not_continued(tmp_path, change, named):
    run = {"objective": Sft(), "data": rows(), "settings": SETTINGS, "identity": {"weights": "these"}}
    train(model=tiny.model(), folder=tmp_path, **run)
    with pytest.raises(CaiError) as caught:
        train(model=tiny.model(), folder=tmp_path, **{**run, **change})
    assert str(caught.value) == (
        f"{tmp_path}: a training run with other settings stopped here ({named} changed); "
        "restore them to go on, or delete the folder to start anew"
    )


def test_execution_settings_may_change_on_resume(tmp_path):
    train(Sft(), tiny.model(), rows(), SETTINGS, tmp_path)
    train(Sft(), tiny.model(), rows(), replace(SETTINGS, checkpoint_every=1, threads=1), tmp_path)


def test_bfloat16_trains_float32_weights(tmp_path):
    model = tiny.model()
    summary = train(Sft(), model, rows(), replace(SETTINGS, dtype="bfloat16"), tmp_path)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert summary.last_loss < summary.first_loss


LONG = replace(SETTINGS, epochs=10, checkpoint_every=4)


def run_to_the_end(folder):
    model = tiny.model()
    train(Sft(), model, rows(), LONG, folder)
    torch.save(model.state_dict(), folder / "final.pt")


@pytest.mark.slow
def test_a_killed_process_ends_as_an_unbroken_one(tmp_path):
    run_to_the_end(tmp_path / "whole")
    expected = torch.load(tmp_path / "whole" / "final.pt", weights_only=True)
    kills = 0
    for trial in range(5):
        folder = tmp_path / f"broken{trial}"
        delay = 0.02 + 0.05 * trial
        while run_until(folder, delay) != 0:
            kills += 1
            delay *= 1.4
        assert same(torch.load(folder / "final.pt", weights_only=True), expected)
        assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert kills >= 10


def run_until(folder: Path, delay: float) -> int:
    """Train in a forked process that is killed after `delay` seconds. Returns its exit code."""
    process = multiprocessing.get_context("fork").Process(target=run_to_the_end, args=(folder,))
    process.start()
    process.join(delay)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode
