"""The pass over the starting model: every example once, answers to one prompt together, within the budget."""

from hypothesis import given
from hypothesis import strategies as st

from cai.chat import Example
from cai.training import reference
from cai.training.sharing import computed_tokens

PROMPTS = [tuple(range(start, start + 12)) for start in (0, 20, 40)]


def answer(prompt, length):
    return Example(ids=prompt + (1,) * length, mask=(False,) * len(prompt) + (True,) * length)


@given(rows=st.lists(st.tuples(st.sampled_from(PROMPTS), st.integers(1, 9)), min_size=1, max_size=40))
def test_every_example_once_within_the_budget(rows):
    examples = [answer(*row) for row in rows]
    micros = reference.micros(examples, 40)
    assert sorted(at for micro in micros for at in micro) == list(range(len(examples)))
    for micro in micros:
        assert computed_tokens([examples[at] for at in micro]) <= 40


def test_answers_to_one_prompt_are_neighbours():
    examples = [answer(PROMPTS[at % 3], 4) for at in range(9)]
    assert reference.micros(examples, 25) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
