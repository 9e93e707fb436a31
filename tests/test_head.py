"""Log-probabilities in chunks against all logits at once, and what the chunks keep out of memory."""

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from cai.training import head
from cai.training.head import head_logps, head_logps_and_entropy

ROWS, WIDTH, WORDS = 37, 8, 50


def inputs(dtype=torch.float64, bias=True):
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, dtype=dtype, requires_grad=True)
    linear = torch.nn.Linear(WIDTH, WORDS, bias=bias, dtype=dtype)
    return hidden, linear, torch.randint(0, WORDS, (ROWS,))


def whole(hidden, linear, targets):
    return -functional.cross_entropy(linear(hidden), targets, reduction="none")


@pytest.mark.parametrize("cells", [1, 7 * WORDS, 10**6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_chunks_equal_the_whole_in_value_and_gradient(cells, bias, dtype, near, monkeypatch):
    monkeypatch.setattr(head, "CELLS", cells)
    hidden, linear, targets = inputs(dtype, bias)
    slope = torch.randn(ROWS, dtype=dtype)
    expected, found = whole(hidden, linear, targets), head_logps(hidden, linear, targets)
    torch.testing.assert_close(found, expected, rtol=near, atol=near)
    leaves = [hidden, *linear.parameters()]
    wanted = torch.autograd.grad((expected * slope).sum(), leaves)
    for grad, want in zip(torch.autograd.grad((found * slope).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(grad, want, rtol=near, atol=near)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_temperature_and_entropy_equal_the_whole(temperature, monkeypatch):
    monkeypatch.setattr(head, "CELLS", 7 * WORDS)
    hidden, linear, targets = inputs()
    slope = torch.randn(ROWS, dtype=torch.float64)
    logps = (linear(hidden) / temperature).log_softmax(-1)
    expected = logps.gather(1, targets[:, None])[:, 0]
    found, entropy = head_logps_and_entropy(hidden, linear, targets, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(head_logps(hidden, linear, targets, temperature), expected)
    torch.testing.assert_close(entropy, -(logps.exp() * logps).sum(-1), rtol=1e-12, atol=1e-12)
    assert not entropy.requires_grad
    leaves = [hidden, *linear.parameters()]
    wanted = torch.autograd.grad((expected * slope).sum(), leaves)
    for grad, want in zip(torch.autograd.grad((found * slope).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-10, atol=1e-10)


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ in ("mm", "addmm", "addmm_")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("entropy", [True, False])
def test_probabilities_kept_for_the_backward_pass_are_those_made_again(entropy, monkeypatch):
    monkeypatch.setattr(head, "CELLS", 7 * WORDS)
    found = []
    for kept in (ROWS * WORDS - 1, ROWS * WORDS):
        monkeypatch.setattr(head, "KEPT", kept)
        hidden, linear, targets = inputs()
        logps = (head_logps_and_entropy if entropy else head_logps)(hidden, linear, targets, 0.7)
        again = [logps[0], logps[1]] if entropy else [logps]
        made = Products()
        with made:
            grads = torch.autograd.grad((again[0] * again[0].detach()).sum(), [hidden, *linear.parameters()])
        found.append((*again, *grads))
        # For each of six chunks the logits again, or not, and two products of their slope.
        assert made.count == 6 * (3 if kept < ROWS * WORDS else 2)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr(head, "CELLS", 5 * WORDS)
    hidden, linear, targets = inputs()
    assert torch.autograd.gradcheck(lambda states: head_logps(states, linear, targets), (hidden,))


def test_only_what_learns_gets_a_gradient():
    hidden, linear, targets = inputs()
    linear.weight.requires_grad_(False)
    head_logps(hidden, linear, targets).sum().backward()
    assert linear.weight.grad is None
    assert hidden.grad is not None and linear.bias.grad is not None


def test_extreme_logits_stay_finite():
    hidden, linear, targets = inputs(torch.float32)
    logps = head_logps(hidden * 1e6, linear, targets)
    logps.sum().backward()
    assert torch.isfinite(logps).all() and torch.isfinite(hidden.grad).all()


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_no_tensor_holds_the_logits_of_all_tokens(monkeypatch):
    monkeypatch.setattr(head, "CELLS", 4 * WORDS)
    monkeypatch.setattr(head, "KEPT", 0)
    hidden, linear, targets = inputs()
    with Largest() as seen:
        head_logps(hidden, linear, targets).sum().backward()
    assert seen.numel == max(linear.weight.numel(), 4 * WORDS)
    with Largest() as seen:
        whole(hidden, linear, targets).sum().backward()
    assert seen.numel == ROWS * WORDS


def test_bfloat16_sums_its_chunks_in_float32(monkeypatch):
    """Many small chunks under autocast come as near to float32 as one large chunk does."""
    hidden, linear, targets = inputs(torch.float32)
    wanted = torch.autograd.grad(whole(hidden, linear, targets).sum(), linear.weight)[0]
    off = []
    for cells in (WORDS, 10**6):
        monkeypatch.setattr(head, "CELLS", cells)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = head_logps(hidden, linear, targets)
        assert found.dtype == torch.float32
        grad = torch.autograd.grad(found.sum(), linear.weight)[0]
        assert grad.dtype == torch.float32
        off.append(float((grad - wanted).norm() / wanted.norm()))
    assert max(off) < 0.01
    assert off[0] < 1.5 * off[1]
