"""Log-probabilities of packed batches with shared prompts against each row alone, in float64."""

import architectures
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.chat import Example
from cai.training import batches, head
from cai.training.batches import collate, completion_logps, last_states, scored_states, token_logps
from cai.training.forward import packs, plain_head

EXAMPLES = [
    Example(ids=(5, 9, 200, 31, 4), mask=(False, False, True, True, True)),
    Example(ids=(5, 7, 2), mask=(False, False, True)),
    Example(
        ids=(5, 9, 9, 9, 40, 41, 42, 8, 2), mask=(False, True, False, False, True, True, False, False, True)
    ),
]


def answer(prompt, *ids):
    return Example(ids=(*prompt, *ids), mask=(False,) * len(prompt) + (True,) * len(ids))


LONG, LONGER = tuple(range(20, 40)), tuple(range(100, 130))
# A pair, a row alone, three candidates (two of which begin alike, one of a single token), out of order.
SHARING = [
    answer(LONG, 7, 3, 9, 9, 12, 2),
    answer(LONGER, 8, 8, 30, 2),
    EXAMPLES[2],
    answer(LONG, 7, 3, 11, 2),
    answer(LONGER, 8, 8, 31, 32, 33, 2),
    answer(LONGER, 2),
]


def alone(model, example):
    """Sum of log p(id | before) over the masked ids, without padding, from the model's full logits."""
    logps = model(torch.tensor([example.ids])).logits[0].double().log_softmax(-1)
    return sum(logps[at - 1, example.ids[at]] for at in range(1, len(example.ids)) if example.mask[at])


def gradients(model, sums):
    """Of a sum in which every row counts otherwise."""
    model.zero_grad()
    (sums * torch.arange(1.0, len(sums) + 1, dtype=sums.dtype)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_near(found, wanted, near):
    """Gradients, to a fraction of the largest of them all."""
    assert found.keys() == wanted.keys()
    largest = max(float(grad.abs().max()) for grad in wanted.values())
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=0, atol=near * largest)


def assert_as_alone(model, examples, near):
    expected = torch.stack([alone(model, example) for example in examples])
    wanted = gradients(model, expected)
    sums, counts = completion_logps(model, collate(examples, [str(at) for at in range(len(examples))]))
    torch.testing.assert_close(sums, expected, rtol=near, atol=near)
    assert counts.tolist() == [sum(example.mask) for example in examples]
    # Norms compute in float32 whatever the model's dtype, hence the wider tolerance of gradients.
    assert_near(gradients(model, sums), wanted, 1e-6)


# The uncapped Gemma computes its own attention weights in float32.
@pytest.mark.parametrize("cells", [head.CELLS, 300], ids=["whole", "chunks"])
@pytest.mark.parametrize("name", [*architectures.PACKED, *architectures.PADDED])
def test_batches_equal_each_row_alone_in_value_and_gradient(name, cells, monkeypatch):
    monkeypatch.setattr(batches, "CELLS", cells)
    monkeypatch.setattr(head, "CELLS", cells)
    model = architectures.model(name)
    own = model.config._attn_implementation
    assert_as_alone(model, SHARING, 1e-5 if name.startswith("gemma2") else 1e-9)
    assert packs(model) == (name in architectures.PACKED)
    assert (plain_head(model) is None) == (name in architectures.BENT)
    assert model.config._attn_implementation == own


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gpt2"])
def test_float32_is_near_enough_in_sums_and_gradients(name):
    model = architectures.model(name, dtype=torch.float32)
    expected = torch.stack([alone(model, example) for example in SHARING]).float()
    wanted = gradients(model, expected)
    sums, _ = completion_logps(model, collate(SHARING, list("abcdef")))
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-4)
    assert_near(gradients(model, sums), wanted, 1e-5)


@pytest.mark.parametrize("name", architectures.SINGLE)
def test_what_is_never_wider_is_near_enough_as_well(name):
    model = architectures.model(name, dtype=torch.float32)
    expected = torch.stack([alone(model, example) for example in SHARING]).float()
    wanted = gradients(model, expected)
    sums, _ = completion_logps(model, collate(SHARING, list("abcdef")))
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-4)
    assert_near(gradients(model, sums), wanted, 1e-5)
    assert packs(model) == (name not in architectures.SINGLE_PADDED)


IDS = st.integers(0, 5)
PROMPT = st.lists(IDS, min_size=1, max_size=24)
GROUP = st.tuples(PROMPT, st.lists(st.lists(IDS, min_size=1, max_size=6), min_size=1, max_size=4))


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(GROUP, min_size=1, max_size=4), random=st.randoms(use_true_random=False))
def test_any_prompts_with_any_answers_in_any_order(groups, random):
    examples = [answer(prompt, *ids) for prompt, answers in groups for ids in answers]
    random.shuffle(examples)
    model = architectures.model("qwen2-window")
    with torch.no_grad():
        sums, _ = completion_logps(model, collate(examples, [""] * len(examples)))
        expected = torch.stack([alone(model, example) for example in examples])
    torch.testing.assert_close(sums, expected, rtol=1e-9, atol=1e-9)


def test_states_are_those_that_the_head_reads():
    model = architectures.model("qwen3")
    batch = collate(SHARING, list("abcdef"))
    logits = model.lm_head(scored_states(model, batch))
    logps = logits.log_softmax(-1).gather(1, batch.targets[:, None]).squeeze(1)
    torch.testing.assert_close(token_logps(model, batch), logps, rtol=1e-9, atol=1e-9)
    expected = torch.stack(
        [model.model(torch.tensor([example.ids])).last_hidden_state[0, -1] for example in SHARING]
    )
    for whole in (model, model.model):
        torch.testing.assert_close(last_states(whole, batch), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_states_of_a_backbone_are_the_same_packed_and_padded(name):
    model = architectures.model(name)
    backbone = model.base_model
    expected = [backbone(torch.tensor([example.ids])).last_hidden_state[0, -1] for example in SHARING]
    found = last_states(backbone, collate(SHARING, list("abcdef")))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
def test_what_is_computed_again_in_the_backward_pass_is_packed_as_well():
    model = architectures.model("llama")
    wanted = gradients(model, torch.stack([alone(model, example) for example in SHARING]))
    model.gradient_checkpointing_enable()
    model.train()
    found = gradients(model, completion_logps(model, collate(SHARING, list("abcdef")))[0])
    assert_near(found, wanted, 1e-6)


def test_a_model_whose_attention_drops_out_is_padded_while_it_does():
    model = tiny.model()
    model.config.attention_dropout = 0.1
    assert packs(model)
    assert not packs(model.train())


def test_the_head_runs_at_scored_positions_only():
    model = tiny.model()
    token_logps(model, collate(EXAMPLES, list("abc")))  # the first time, it is tried what the model can do
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    token_logps(model, collate(EXAMPLES, list("abc")))
    assert seen == [(8, 262)]


def test_the_model_is_as_it_was_afterwards():
    model = tiny.model()
    token_logps(model, collate(EXAMPLES, list("abc")))
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 262)


def test_what_is_shared_is_computed_once():
    model = tiny.model()
    batch = collate(SHARING, list("abcdef"))
    completion_logps(model, batch)
    seen = []
    model.model.layers[0].mlp.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[1])
    )
    completion_logps(model, batch)
    # 22 + 4 + 2 of the pair (its answers share 2 tokens), 9 alone, 30 + 4 + 6 + 1 of the candidates.
    assert seen == [28 + 9 + 41]


def test_a_batch_by_hand():
    prompt = tuple(range(10, 18))
    pair = [answer(prompt, 3, 4, 2), answer((5, 7), 2), answer(prompt, 3, 2)]
    batch = collate(pair, ["a", "b", "a"])
    assert batch.sequences.ids.tolist() == [*prompt, 3, 4, 2, 2, 5, 7, 2]
    assert batch.sequences.places.tolist() == [*range(9), 9, 10, 9, 0, 1, 2]
    assert batch.sequences.segments.groups == ((9, 2, 1), (3,))
    assert batch.sequences.order.tolist() == [0, 2, 1]
    assert batch.scored.at.tolist() == [7, 8, 9, 13, 7, 8]
    assert batch.rows.tolist() == [0, 0, 0, 1, 2, 2]
    assert batch.targets.tolist() == [3, 4, 2, 2, 3, 2]
    assert batch.ends.at.tolist() == [10, 14, 11]
    assert (batch.names, batch.tokens) == (("a", "b", "a"), 24)
    assert batch.sequences.padded_index().tolist() == [
        [*range(9), 9, 10],
        [12, 13, 14, *[-1] * 8],
        [*range(9), 11, -1],
    ]


def test_log_probabilities_are_float32_under_bfloat16():
    model = tiny.model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert token_logps(model, collate(EXAMPLES, list("abc"))).dtype == torch.float32
