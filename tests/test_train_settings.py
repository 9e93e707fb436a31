"""Learning rates by hand, and settings that contradict themselves."""

import math

import pytest

from cai.config import build
from cai.errors import CaiError
from cai.training.settings import TrainSettings

GIVEN = {"epochs": 1, "batch_size": 4}


def rates(total, **settings):
    chosen = TrainSettings(lr=1.0, **GIVEN, **settings)
    return [chosen.rate(step, total) for step in range(total)]


def test_rates_by_hand():
    assert rates(4, schedule="constant", warmup=0.0) == [1, 1, 1, 1]
    assert rates(4, schedule="constant", warmup=0.5) == [0.5, 1, 1, 1]
    assert rates(4, schedule="linear", warmup=0.0) == [1, 0.75, 0.5, 0.25]
    assert rates(4, schedule="linear", warmup=0.0, final_lr=0.2) == pytest.approx([1, 0.8, 0.6, 0.4])
    assert rates(5, schedule="trapezoid", warmup=0.2, decay=0.4) == pytest.approx([1, 1, 1, 1, 0.5])
    cosine = [(1 + math.cos(math.pi * at / 4)) / 2 for at in range(4)]
    assert rates(4, schedule="cosine", warmup=0.0) == pytest.approx(cosine)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_warm_up_of_every_step_never_divides_by_zero(schedule):
    assert rates(4, schedule=schedule, warmup=1.0) == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**GIVEN, "steps": 3}, "train: 'epochs' and 'steps' are both given; leave one out"),
        (
            {**GIVEN, "tokens_per_batch": 9},
            "train: 'batch_size' and 'tokens_per_batch' are both given; leave one out",
        ),
        ({**GIVEN, "accumulate": 0}, "train: 'accumulate' is 0; it must be at least 1"),
        ({**GIVEN, "lr": -1.0}, "train: 'lr' is -1.0; it must be above 0"),
        ({**GIVEN, "lr": math.nan}, "train: 'lr' is nan; it must be above 0"),
        ({**GIVEN, "beta2": 1.0}, "train: 'beta2' is 1.0; it must lie in [0, 1)"),
        ({**GIVEN, "weight_decay": -0.1}, "train: 'weight_decay' is -0.1; it must not be negative"),
        ({**GIVEN, "processes": 0}, "train: 'processes' is 0; it must be at least 1"),
        ({**GIVEN, "nproc": 0}, "train: 'nproc' is 0; it must be at least 1"),
        ({**GIVEN, "threads": -1}, "train: 'threads' is -1; it must not be negative"),
        ({**GIVEN, "decay": 0.3}, "train: 'decay' is for schedule = \"trapezoid\"; leave it out"),
        ({**GIVEN, "schedule": "trapezoid"}, "train: schedule = \"trapezoid\" needs 'decay'"),
        (
            {**GIVEN, "schedule": "constant", "final_lr": 0.1},
            "train: 'final_lr' has no effect with schedule = \"constant\"; leave it out",
        ),
        ({**GIVEN, "warmup": 10}, "train: 'warmup' is 10.0; it is a fraction and must lie in [0, 1]"),
        (
            {**GIVEN, "schedule": "trapezoid", "warmup": 0.6, "decay": 0.6},
            "train: 'warmup' and 'decay' together exceed all steps; make one smaller",
        ),
        (
            {**GIVEN, "schedule": "sine"},
            "train: 'schedule' is 'sine'; choose one of 'cosine', 'linear', 'constant', 'trapezoid'",
        ),
        ({**GIVEN, "epoch": 2}, "train: unknown key 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_contradictions_are_named(table, message):
    with pytest.raises(CaiError) as caught:
        build(TrainSettings, table, "train")
    assert str(caught.value) == message


def test_a_run_is_one_epoch_of_sixteen_rows_unless_something_is_said():
    plain = build(TrainSettings, {}, "train")
    assert (plain.epochs, plain.steps, plain.batch_size, plain.tokens_per_batch) == (1, None, 16, None)
    said = build(TrainSettings, {"steps": 3, "tokens_per_batch": 99}, "train")
    assert (said.epochs, said.steps, said.batch_size, said.tokens_per_batch) == (None, 3, None, 99)
