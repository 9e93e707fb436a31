"""The three ways to attend within segments give the same numbers, which are those of each sequence alone."""

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from cai.training import attention
from cai.training.attention import Segments, by_segment, flex, masked, way_on

GROUPS = ((9, 4, 1, 6), (5,), (3, 2, 2), (1,))
TOKENS = sum(map(sum, GROUPS))
WINDOWS = [0, 1, 4, 100]


def inputs(dtype=torch.float64, device="cpu", dim=8):
    torch.manual_seed(0)
    shapes = [(4, TOKENS, dim), (2, TOKENS, dim), (2, TOKENS, dim)]
    return [torch.randn(shape, dtype=dtype, device=device, requires_grad=True) for shape in shapes]


def one_by_one(query, key, value, scaling, window):
    """Each sequence on its own, under a mask written out."""
    out = torch.zeros_like(query)
    start = 0
    for prefix, *tails in GROUPS:
        at = start + prefix
        for tail in tails or [0]:
            here = [*range(start, start + prefix), *range(at, at + tail)]
            size = len(here)
            seen = torch.tensor(
                [[k <= q and (not window or q - k < window) for k in range(size)] for q in range(size)]
            )
            part = (whole[None, :, here] for whole in (query, key, value))
            done = scaled_dot_product_attention(*part, attn_mask=seen, scale=scaling, enable_gqa=True)
            out[:, here] = done[0]
            at += tail
        start = at
    return out


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("way", [by_segment, masked])
def test_each_way_is_every_sequence_alone_in_value_and_gradient(way, window):
    probes = inputs()
    expected = one_by_one(*probes, 0.3, window)
    slope = torch.randn_like(expected)
    # One by one a shared prefix was attended to once for each tail, and its outputs are equal: count it once.
    found = way(Segments(groups=GROUPS), *probes, 0.3, window)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad((expected * slope).sum(), probes)
    for grad, want in zip(torch.autograd.grad((found * slope).sum(), probes), wanted, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_block_mask_of_flex_attention_says_the_same(window, monkeypatch):
    """Its own kernels are for GPUs; here its definition runs, uncompiled."""
    monkeypatch.setattr(attention, "_compiled_flex", lambda: flex_attention)
    probes = [whole.detach().float() for whole in inputs(dim=16)]
    plan = Segments(groups=GROUPS)
    found = flex(plan, *probes, 0.3, window)
    torch.testing.assert_close(found, masked(plan, *probes, 0.3, window), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("way", [flex, masked, by_segment])
def test_on_a_gpu_every_way_is_that_of_the_cpu(way, window):
    here, there = inputs(torch.float32, dim=32), inputs(torch.float32, "cuda", dim=32)
    expected = by_segment(Segments(groups=GROUPS), *here, 0.3, window)
    found = way(Segments(groups=GROUPS), *there, 0.3, window)
    torch.testing.assert_close(found.cpu(), expected, rtol=2e-3, atol=2e-3)
    slope = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * slope).sum(), here)
    for grad, want in zip(torch.autograd.grad((found * slope.cuda()).sum(), there), wanted, strict=True):
        torch.testing.assert_close(grad.cpu(), want, rtol=5e-3, atol=5e-3)


def test_the_cpu_goes_segment_by_segment():
    assert way_on(torch.zeros(1, 1, 16)) is by_segment
