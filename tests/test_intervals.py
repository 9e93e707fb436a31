"""Intervals: published values, what clusters do to them, and how often they hold the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import League, World

from cai.evals import Number
from cai.evals._bootstrap import MANY, bootstrap, percentiles, resampled
from cai.evals._bradley_terry import SCALE
from cai.evals._gaps import Gaps, Luck
from cai.evals._intervals import (
    added,
    mean_interval,
    share_interval,
    student,
    totals,
    wilson,
)
from cai.evals._judging import against_gold, favours, order_effects
from cai.evals._numbers import from_json, to_json
from cai.evals._reliability import Judged, bins, calibration_error
from cai.evals._shares import mean, share
from cai.evals._standings import ANCHOR, standings

BITS = st.lists(st.booleans(), min_size=1, max_size=40)


def test_wilson_as_published() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0, 0) == (0, 1)


@given(hits=BITS)
def test_the_ends_are_exact_and_the_share_is_inside(hits: list[bool]) -> None:
    low, high = wilson(sum(hits), len(hits))
    assert 0 <= low <= sum(hits) / len(hits) <= high <= 1
    assert (low == 0) == (not any(hits)) and (high == 1) == all(hits)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)]
)
def test_student_s_quantiles_as_tabled(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.01 if freedom == 3 else 0.001)


@given(hits=BITS)
def test_rows_of_prompts_of_their_own_are_plain(hits: list[bool]) -> None:
    prompts = [str(at) for at in range(len(hits))]
    assert share_interval(hits, prompts) == share_interval(hits) == wilson(sum(hits), len(hits))


def test_copies_of_a_row_add_nothing_but_caution() -> None:
    hits = [at % 3 == 0 for at in range(60)]
    alone = share_interval(hits)
    copied = share_interval(hits * 5, [str(at) for at in range(60)] * 5)
    assert copied[0] < alone[0] and copied[1] > alone[1]
    assert copied == pytest.approx(alone, abs=0.006)


def test_what_never_failed_is_no_surer_than_its_prompts() -> None:
    assert share_interval([True] * 30, ["a", "b", "c"] * 10) == wilson(3, 3)
    assert share_interval([True, False], ["a", "a"]) == (0, 1)


def test_halves_vary_less_than_wins_and_losses() -> None:
    ties, wins = [0.5] * 40 + [1, 0] * 5, [1, 0] * 25
    (low, high), (least, most) = share_interval(ties), share_interval(wins)
    assert least < low < 0.5 < high < most
    # Variance 0.05 a row, 0.25 at most: an effective n of 250, less Student's 2.0096 for 49 freedoms.
    effective = 250 * 49 / 50 * (1.959964 / 2.0096) ** 2
    assert (low, high) == pytest.approx(wilson(effective / 2, effective), abs=1e-4)


def test_a_mean_by_hand() -> None:
    # 1, 2, 3, 4: mean 2.5, s^2 = 5/3, s / 2 = 0.6455, t = 3.1824.
    low, high = mean_interval([1, 2, 3, 4])
    assert ((low + high) / 2, (high - low) / 2) == pytest.approx((2.5, 0.6455 * 3.1824), rel=0.01)
    assert mean_interval([1, 2, 3, 4] * 2, ["a", "b", "c", "d"] * 2) == pytest.approx((low, high))
    assert all(map(math.isnan, mean_interval([1.0, 2.0], ["a", "a"])))


def test_a_skewed_mean_by_hand() -> None:
    # 18 zeros and 2 tens: mean 1, m2 = 9, m3 = 72: skewness 8/3, k = 0.59628; deviation sqrt(9 / 19).
    values, t, k = [0.0] * 18 + [10.0] * 2, 2.09302, 8 / 3 / math.sqrt(20)
    # (1 + k T / 3)^3 = 1 + k (t - k / 6), solved for T.
    far, near = ((3 / k) * (math.cbrt(1 + k * (side - k / 6)) - 1) for side in (t, -t))
    deviation = math.sqrt(9 / 19)
    assert (far, near) == pytest.approx((1.5012, -8.4263), abs=2e-4)
    near = -3 / k
    assert mean_interval(values) == pytest.approx((1 - far * deviation, 1 - near * deviation), abs=0.002)
    low, high = mean_interval([-value for value in values])
    assert (-high, -low) == pytest.approx(mean_interval(values))
    # Of nine draws the skewness is not known: 1 +- t * s / 3.
    low, high = mean_interval([0.0] * 8 + [9.0])
    assert (low, high) == pytest.approx((1 - 2.306, 1 + 2.306), abs=0.002)


def test_skewed_means_are_held_on_both_sides() -> None:
    """1000 means of 40 exponential draws: each side misses 0.8 and 6 % of them by Student's t alone."""
    draws = np.random.default_rng(7).exponential(size=(1000, 40))
    found = [mean_interval(list(row)) for row in draws]
    above, below = sum(low > 1 for low, _ in found), sum(high < 1 for _, high in found)
    assert 8 <= above <= 35 and 15 <= below <= 48


def test_distances_add_up_in_squares() -> None:
    assert added((0.5, (0.2, 0.9)), (0.1, (-0.3, 0.4))) == pytest.approx((0.1, 1.1))


def test_totals_are_by_key() -> None:
    assert totals([("a", (1.0, 2.0)), ("b", (3.0, 4.0)), ("a", (5.0, 6.0))]) == [[6.0, 8.0], [3.0, 4.0]]


def test_numbers_survive_json() -> None:
    for number in (
        share("a", "m", []),
        mean("b", "m", [1.0]),
        Number(name="c", of="m", value=1.0, low=0.5, high=2.0, n=3),
    ):
        fields = to_json(number)
        assert to_json(from_json(fields)) == fields
    assert to_json(mean("b", "m", [1.0])) == {
        "name": "b",
        "of": "m",
        "value": 1.0,
        "low": None,
        "high": None,
        "n": 1,
        "group": "",
        "unit": "plain",
    }


def test_a_number_of_a_time_without_units_is_read() -> None:
    fields = to_json(share("a", "m", [True, False]))
    assert fields.pop("unit") == "share"
    assert from_json(fields) == replace(share("a", "m", [True, False]), unit="")


def test_a_bootstrap_of_a_mean_is_its_interval() -> None:
    values = np.random.default_rng(1).exponential(size=400)
    value, found = bootstrap([[one, 1.0] for one in values], lambda sums: sums[..., 0] / sums[..., 1])
    assert value == pytest.approx(values.mean())
    assert found == pytest.approx(mean_interval(list(values)), abs=0.02)
    again = bootstrap([[one, 1.0] for one in values], lambda sums: sums[..., 0] / sums[..., 1])
    assert again == (value, found)


def test_few_prompts_widen_percentiles() -> None:
    values = np.linspace(0, 1, 10001)
    assert percentiles(values, 10**9) == pytest.approx((0.025, 0.975), abs=1e-6)
    low, high = percentiles(values, 10)
    # Phi(-2.2622 * sqrt(10 / 9)) = Phi(-2.3845) = 0.00855
    assert (low, 1 - high) == pytest.approx((0.00855, 0.00855), abs=1e-4)


def test_many_prompts_are_drawn_as_a_normal_of_the_same_spread() -> None:
    rows = np.random.default_rng(2).exponential(size=(MANY + 1000, 2)) @ np.array([[1, 0.5], [0, 1]])
    many, few = resampled(rows), resampled(rows[:MANY])
    assert many.mean(0) == pytest.approx(rows.sum(0), rel=0.002)
    assert np.cov(many.T) / len(rows) == pytest.approx(np.cov(few.T) / MANY, rel=0.15)


def test_bins_hold_equal_mass_and_keep_equals_together() -> None:
    ps = [0.6] * 50 + [0.3, 0.8] * 10 + [0.1, 0.95] * 10 + [0.5] * 10
    found = bins([Judged(prompt=str(at), p=p) for at, p in enumerate(ps)])
    assert [(place.low, place.high, len(place.judged)) for place in found] == [
        (0.5, 0.5, 10),
        (0.6, 0.6, 50),
        (0.7, 0.8, 20),
        (0.9, 0.95, 20),
    ]
    assert len(bins([Judged(prompt=str(at), p=0.5 + at / 1000) for at in range(39)])) == 1
    assert len(bins([Judged(prompt=str(at), p=0.5 + at / 1000) for at in range(400)])) == 10
    assert bins([]) == []


def test_calibration_error_by_hand() -> None:
    # 20 verdicts at 0.75 of which 10 are right, 20 at 0.9 of which 15 are: (20 * 0.25 + 20 * 0.15) / 40.
    ps = [0.75] * 10 + [0.25] * 10 + [0.9] * 15 + [0.1] * 5
    value, (low, high) = calibration_error([Judged(prompt=str(at), p=p) for at, p in enumerate(ps)])
    assert value == pytest.approx(0.2) and low < value < high
    even = [Judged(prompt=str(at), p=0.5) for at in range(9)]
    assert calibration_error(even) == (0, (0, 0))


def one_bin(right: int, of: int, sure: float = 0.6, copies: int = 1) -> list[Judged]:
    ps = [sure] * right + [1 - sure] * (of - right)
    return [Judged(prompt=str(at), p=p) for at, p in enumerate(ps)] * copies


def test_the_calibration_error_of_one_bin_is_that_of_a_share() -> None:
    # 140 of 200 at 0.6: below as Wilson's, above 1.96 deviations: sqrt(0.7 * 0.3 / 199).
    value, (low, high) = calibration_error(one_bin(140, 200))
    assert value == pytest.approx(0.1)
    assert low == pytest.approx(wilson(140, 200)[0] - 0.6, abs=0.004)
    assert high == pytest.approx(0.1 + 1.96 * math.sqrt(0.21 / 199), abs=0.004)


def test_copied_verdicts_are_no_more_calibrated() -> None:
    once, copied = (calibration_error(one_bin(140, 200, copies=copies))[1] for copies in (1, 5))
    assert copied == pytest.approx(once, abs=0.005)


def test_a_judge_without_one_mistake_could_make_some() -> None:
    # Wilson: 40 of 40 may be right 91.24 % of the time, and were sure by 97 %.
    value, (low, high) = calibration_error(one_bin(40, 40, sure=0.97))
    assert (value, low) == (pytest.approx(0.03), 0)
    assert high == pytest.approx(0.97 - 0.9124, abs=0.001)


def test_a_value_of_0_does_not_prove_a_judge_calibrated() -> None:
    # 18 of 20 at 0.9: the deviation is sqrt(0.09 / 19), and |noise| is 0.7979 deviations by itself.
    value, (low, high) = calibration_error(one_bin(18, 20, sure=0.9))
    assert value == pytest.approx(0) and low == 0
    assert high == pytest.approx((1.96 - 0.7979) * math.sqrt(0.09 / 19), abs=0.004)


def test_what_a_hypothesis_says_of_luck_by_hand() -> None:
    gaps = Gaps(
        bins=np.array([0, 0, 1, 1]),
        sure=np.array([0.9, 0.8, 0.7, 0.5]),
        right=np.array([1.0, 1.0, 0.0, 0.5]),
        prompts=["a", "b", "c", "d"],
    )
    assert gaps.sums == pytest.approx([0.3, -0.7])
    # As sure as right: 0.9 * 0.1 + 0.8 * 0.2, and 0.7 * 0.3; a half names nobody; 2 / 1 for the fit.
    assert gaps.spread(np.zeros(2)) == pytest.approx([math.sqrt(2 * 0.25), math.sqrt(2 * 0.21)])
    # 0.1 less in the first bin, 0.2 in the second: 0.8 * 0.2 + 0.7 * 0.3, and 0.5 * 0.5.
    assert gaps.spread(np.array([-0.2, -0.4])) == pytest.approx([math.sqrt(2 * 0.37), math.sqrt(2 * 0.25)])
    # One more deviation right in the first bin; half as many verdicts again in the second.
    luck = Luck(words=np.array([[1.0, 0.0]]), turnout=np.array([[0.0, 0.5]]))
    drawn = gaps.drawn(np.array([-0.2, -0.4]), luck)
    assert drawn == pytest.approx(np.array([[math.sqrt(0.74) - 0.2, -0.6]]))


def test_luck_varies_as_prompts_do() -> None:
    """Three bins of 4, 4 and 2 verdicts of prompts of their own: turnout is multinomial."""
    gaps = Gaps(
        bins=np.array([0] * 4 + [1] * 4 + [2] * 2),
        sure=np.full(10, 0.5),
        right=np.array([1.0, 0.0] * 5),
        prompts=[str(at) for at in range(10)],
    )
    luck = gaps.luck(times=40_000)
    assert np.cov(luck.words.T) == pytest.approx(np.eye(3), abs=0.03)
    shares = np.array([0.4, 0.4, 0.2])
    expected = (np.diag(shares) - np.outer(shares, shares)) * 10 / np.outer(gaps.counts, gaps.counts)
    assert np.cov(luck.turnout.T) == pytest.approx(expected, abs=0.01)


def test_a_calibrated_judge_is_called_so_19_times_of_20() -> None:
    """200 judges that are right just as often as they say. P(fewer than 179 at 95 %) < 0.001."""
    random = np.random.default_rng(5)
    called = 0
    for _ in range(200):
        sure = random.uniform(0.5, 1, 120)
        ps = np.where(random.random(120) < sure, sure, 1 - sure)
        judged = [Judged(prompt=str(at), p=float(p)) for at, p in enumerate(ps)]
        called += calibration_error(judged)[1][0] == 0
    assert 179 <= called < 200


def covered(numbers: dict[str, list[Number]], truth: dict[str, float]) -> dict[str, float]:
    return {
        name: sum(one.low <= truth[name] <= one.high for one in found) / len(found)
        for name, found in numbers.items()
    }


def judged_by(world: World, prompts: int, seed: int) -> dict[str, Number]:
    rows = world.rows(prompts, seed)
    numbers = [*against_gold("j", rows), *order_effects("j", rows), *favours("j", rows)]
    return {one.name: one for one in numbers if not one.group}


def test_intervals_of_a_judge_hold_the_truth() -> None:
    """60 judges; bench/intervals.py has the whole simulation. P(fewer than 51 hold it at 95 %) < 0.002."""
    world = World(pairs=2)
    truth = {name: number.value for name, number in judged_by(world, 20_000, 99).items()}
    found: dict[str, list[Number]] = {name: [] for name in truth}
    for seed in range(60):
        for name, number in judged_by(world, 80, seed).items():
            found[name].append(number)
    assert {name: share for name, share in covered(found, truth).items() if share < 51 / 60} == {}


def test_known_strengths_are_recovered() -> None:
    """60 leagues; bench/intervals.py has 200 and more."""
    league = League()
    elo: dict[str, list[Number]] = {}
    for seed in range(60):
        for number in standings(league.rows(60, seed)):
            if number.name == "Elo":
                elo.setdefault(number.of, []).append(number)
    truth = {f"m{at}": ANCHOR + SCALE * strength for at, strength in enumerate(league.strengths)}
    held = covered(elo, truth)
    assert held.pop("m0") == 1
    assert min(held.values()) >= 51 / 60
