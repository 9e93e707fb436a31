"""Several annotators' word as one vector: weights, log-odds, humans, and how far they are apart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.annotations import combined, mean, split, spread
from cai.records import Annotation

THREE = (0.1, 0.2, 0.7)


def by(name: str, *probabilities: float, weight: float = 1.0) -> Annotation:
    return Annotation(annotator=name, probabilities=probabilities, weight=weight)


def test_one_annotator_is_taken_at_its_word() -> None:
    assert combined([by("x", 0.3, 0.7)]) == (0.3, 0.7)


def test_the_mean_goes_by_weight() -> None:
    # (3 * 0.9 + 1 * 0.5) / 4 = 0.8
    found = combined([by("x", 0.9, 0.1, weight=3.0), by("y", 0.5, 0.5)])
    assert found == pytest.approx((0.8, 0.2), abs=1e-12)
    assert combined([by("x", *THREE), by("y", 0.3, 0.4, 0.3)]) == pytest.approx((0.2, 0.3, 0.5), abs=1e-12)


def test_log_odds_are_averaged_by_weight() -> None:
    # log-odds log 9 twice and 0 once: (2 log 9) / 3, so the odds are 9^(2/3).
    odds = 9 ** (2 / 3)
    found = combined([by("x", 0.9, 0.1, weight=2.0), by("y", 0.5, 0.5)], average="logodds")
    assert found == pytest.approx((odds / (1 + odds), 1 / (1 + odds)), abs=1e-12)


def test_log_odds_of_several_candidates_are_a_geometric_mean() -> None:
    roots = [math.sqrt(p * q) for p, q in zip(THREE, (0.5, 0.3, 0.2), strict=True)]
    found = combined([by("x", *THREE), by("y", 0.5, 0.3, 0.2)], average="logodds")
    assert found == pytest.approx([root / sum(roots) for root in roots], abs=1e-12)


def test_a_human_stands_in_the_judges_place() -> None:
    both = [by("logprob", 0.9, 0.1, weight=5.0), by("human:ann", 0.0, 1.0)]
    assert combined(both) == (0.0, 1.0)
    assert combined([*both, by("human:ben", 1.0, 0.0)]) == (0.5, 0.5)
    assert combined(both, humans="weigh") == pytest.approx((0.75, 0.25), abs=1e-12)


def test_nobody_said_anything() -> None:
    with pytest.raises(ValueError, match="there is nothing to average"):
        combined([])


def test_how_far_they_are_apart() -> None:
    assert spread([by("x", 0.3, 0.7)]) == split([by("x", 0.3, 0.7)]) == 0
    assert spread([by("x", 0.9, 0.1), by("y", 0.5, 0.5)]) == pytest.approx(0.2, abs=1e-12)
    # Mean 0.8, squares 0.01 (weight 3) and 0.09 (weight 1): sqrt(0.03).
    weighted = [by("x", 0.9, 0.1, weight=3.0), by("y", 0.5, 0.5)]
    assert spread(weighted) == pytest.approx(math.sqrt(0.03), abs=1e-12)


def test_how_they_are_split() -> None:
    assert split([by("x", 0.9, 0.1), by("y", 0.6, 0.4)]) == 0
    assert split([by("x", 0.9, 0.1), by("y", 0.4, 0.6)]) == 0.5
    assert split([by("x", 0.9, 0.1, weight=3.0), by("y", 0.4, 0.6)]) == 0.25
    assert split([by("x", 0.9, 0.1), by("y", 0.5, 0.5)]) == 0.5, "a tie names nobody"
    assert split([by("x", 0.5, 0.5)]) == 1


PAIR = st.floats(0.0, 1.0).map(lambda p: (p, 1 - p))


@given(
    vectors=st.lists(PAIR, min_size=1, max_size=5),
    weight=st.floats(0.1, 10),
    average=st.sampled_from(["probability", "logodds"]),
)
def test_a_mean_is_a_distribution_and_order_makes_no_difference(vectors, weight, average) -> None:
    weights = [weight, *[1.0] * (len(vectors) - 1)]
    found = mean(vectors, weights, average)
    assert sum(found) == pytest.approx(1, abs=1e-9) and all(0 <= p <= 1 + 1e-12 for p in found)
    assert mean(vectors[::-1], weights[::-1], average) == pytest.approx(found, abs=1e-9)
    swapped = mean([vector[::-1] for vector in vectors], weights, average)
    assert swapped == pytest.approx(found[::-1], abs=1e-9)
