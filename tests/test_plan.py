"""The plan of a run: every row once an epoch, within the budget, the same for the same seed."""

from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from cai.chat import Example
from cai.training.plan import count_steps, cut, plan_steps, sizes
from cai.training.settings import TrainSettings

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


def plan(lengths, **settings):
    names = [f"row{at}" for at in range(len(lengths))]
    steps = list(plan_steps(lengths, names, TrainSettings(**settings)))
    assert count_steps(lengths, names, TrainSettings(**settings)) == len(steps)
    return steps


@given(lengths=LENGTHS, epochs=st.integers(1, 3), budget=st.integers(1, 200), accumulate=st.integers(1, 4))
def test_every_row_once_an_epoch_within_the_token_budget(lengths, epochs, budget, accumulate):
    steps = plan(lengths, epochs=epochs, tokens_per_batch=budget, accumulate=accumulate)
    rows = Counter(row for step in steps for micro in step for row in micro)
    assert rows == dict.fromkeys(range(len(lengths)), epochs)
    assert all(len(step) <= accumulate for step in steps)
    for micro in (micro for step in steps for micro in step):
        assert sum(lengths[row] for row in micro) <= budget or len(micro) == 1


@given(lengths=LENGTHS, size=st.integers(1, 9))
def test_batches_by_rows(lengths, size):
    steps = plan(lengths, epochs=1, batch_size=size)
    sizes = sorted(len(micro) for step in steps for micro in step)
    assert sum(sizes) == len(lengths)
    assert sizes[-1] <= size and len(sizes) == -(-len(lengths) // size)


def test_steps_cut_the_same_plan_short_and_go_round_again():
    lengths = [3, 9, 4, 30, 12]
    whole = plan(lengths, epochs=4, batch_size=2)
    assert plan(lengths, steps=7, batch_size=2) == whole[:7]
    assert len(whole) == 12


def test_the_plan_depends_on_the_seed_and_the_epoch():
    lengths = list(range(1, 41))
    one = plan(lengths, epochs=2, batch_size=4)
    assert one == plan(lengths, epochs=2, batch_size=4)
    assert one[:10] != one[10:]
    assert one != plan(lengths, epochs=2, batch_size=4, seed=1)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    pieces=st.integers(1, 8),
    lengths=st.lists(st.integers(1, 99), min_size=81, max_size=81),
)
def test_a_step_is_cut_so_that_no_process_idles(sizes, pieces, lengths):
    rows = iter(range(sum(sizes)))
    step = tuple(tuple(next(rows) for _ in range(size)) for size in sizes)
    micros = cut(step, pieces, lengths)
    assert sorted(row for micro in micros for row in micro) == list(range(sum(sizes)))
    assert all(micros) and len(micros) >= len(step)
    assert len(micros) % pieces == 0 or all(len(micro) == 1 for micro in micros)
    assert pieces > 1 or micros == step


@given(
    lengths=st.lists(st.integers(1, 99), min_size=8, max_size=32),
    pieces=st.sampled_from([2, 4]),
)
def test_processes_have_equally_much_to_do(lengths, pieces):
    """What any two have differs by no more than the longest row, if every micro-batch is a row."""
    micros = cut(tuple((row,) for row in range(len(lengths))), pieces, lengths)
    loads = [sum(lengths[row] for (row,) in micros[rank::pieces]) for rank in range(pieces)]
    assert max(loads) - min(loads) <= max(lengths)


def test_a_cut_by_hand():
    # 23, 8 and 2 tokens: the first in halves of 10 and 13, so that one process has 13 + 2 and one 10 + 8.
    lengths = [0, 5, 5, 4, 9, 8, 2]
    assert cut(((1, 2, 3, 4), (5,), (6,)), 2, lengths) == ((3, 4), (1, 2), (6,), (5,))


def test_rows_of_like_length_share_a_batch_and_steps_mix_lengths():
    lengths = [10] * 32 + [100] * 32
    steps = plan(lengths, epochs=1, batch_size=4, accumulate=8)
    assert all(len({lengths[row] for row in micro}) == 1 for step in steps for micro in step)
    assert all(len({lengths[micro[0]] for micro in step}) == 2 for step in steps)


def test_a_row_counts_what_its_answers_share_once():
    def row(name, *answers):
        prompt = tuple(range(10))
        examples = tuple(
            Example(ids=(*prompt, *ids), mask=(False,) * 10 + (True,) * len(ids)) for ids in answers
        )
        return SimpleNamespace(name=name, sequences=examples)

    rows = [row("one", (3, 2)), row("pair", (3, 2), (4, 4, 2)), row("alike", (3, 4, 2), (3, 5, 5, 2), (3, 2))]
    assert sizes(rows) == ([12, 10 + 2 + 3, 11 + 2 + 3 + 1], ["one", "pair", "alike"])


def test_too_little_in_common_is_not_shared():
    pair = tuple(Example(ids=(7, 7, last), mask=(False, False, True)) for last in (1, 2))
    assert sizes([SimpleNamespace(name="short", sequences=pair)]) == ([6], ["short"])
