"""Log-probabilities of batches against each row alone, in float64."""

import pytest
import tiny
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from cai.chat import Example
from cai.training.batches import collate, completion_logps, token_logps

EXAMPLES = [
    Example(ids=(5, 9, 200, 31, 4), mask=(False, False, True, True, True)),
    Example(ids=(5, 7, 2), mask=(False, False, True)),
    Example(
        ids=(5, 9, 9, 9, 40, 41, 42, 8, 2), mask=(False, True, False, False, True, True, False, False, True)
    ),
]


def alone(model, example):
    """Sum of log p(id | before) over the masked ids, without padding, from the model's full logits."""
    logps = model(torch.tensor([example.ids])).logits[0].double().log_softmax(-1)
    return sum(logps[at - 1, example.ids[at]] for at in range(1, len(example.ids)) if example.mask[at])


def gemma():
    """A model that caps its logits after the head."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=262,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=2.0,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config).double().eval()


# Gemma computes its attention weights in float32 whatever the model's dtype, hence the wider tolerance.
@pytest.mark.parametrize(
    ("make", "near"),
    [(lambda: tiny.model(dtype=torch.float64), 1e-10), (gemma, 1e-5)],
    ids=["llama", "capped"],
)
def test_padded_batches_equal_each_row_alone_in_value_and_gradient(make, near):
    model = make()
    expected = torch.stack([alone(model, example) for example in EXAMPLES])
    expected.sum().backward()
    gradient = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    sums, counts = completion_logps(model, collate(EXAMPLES, ["a", "b", "c"]))
    sums.sum().backward()
    torch.testing.assert_close(sums, expected, rtol=near, atol=near)
    assert counts.tolist() == [3, 1, 4]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradient[name], rtol=near, atol=near)


def test_a_one_token_completion_is_scored():
    model = tiny.model(dtype=torch.float64)
    logps = token_logps(model, collate([EXAMPLES[1]], ["b"]))
    assert logps.shape == (1,)
    torch.testing.assert_close(logps[0], alone(model, EXAMPLES[1]), rtol=1e-10, atol=0)


def test_the_head_runs_at_scored_positions_only():
    model = tiny.model()
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    token_logps(model, collate(EXAMPLES, ["a", "b", "c"]))
    assert seen == [(8, 262)]


def test_the_head_is_whole_again_afterwards():
    model = tiny.model()
    token_logps(model, collate(EXAMPLES, ["a", "b", "c"]))
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 262)


def test_a_batch_by_hand():
    batch = collate(EXAMPLES[:2], ["a", "b"])
    assert batch.ids.tolist() == [[5, 9, 200, 31, 4], [5, 7, 2, 0, 0]]
    assert batch.positions.tolist() == [1, 2, 3, 6]
    assert batch.targets.tolist() == [200, 31, 4, 2]
    assert batch.rows.tolist() == [0, 0, 0, 1]
    assert (batch.names, batch.tokens) == (("a", "b"), 8)


def test_log_probabilities_are_float32_under_bfloat16():
    model = tiny.model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert token_logps(model, collate(EXAMPLES, ["a", "b", "c"])).dtype == torch.float32
