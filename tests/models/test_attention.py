"""Attention where a gradient is wanted gives what the fused one gives, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from duotrack.models.attention import Attention, dot_product_attention


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_values_and_gradients_are_those_of_fused_attention(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    found = []
    start = torch.randn(3, 2, 4, 21, 16)
    for attention in (dot_product_attention, F.scaled_dot_product_attention):
        qkv = start.to(dtype).requires_grad_()
        mixed = attention(*qkv.unbind(0))
        mixed.float().square().sum().backward()
        found.append((mixed.detach(), qkv.grad))
    for ours, fused in zip(*found, strict=True):
        torch.testing.assert_close(ours, fused, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("skip", [0, 5])
def test_a_block_trains_as_it_tracks(skip: int) -> None:
    torch.manual_seed(1)
    attention = Attention(dim=24, heads=3)
    tokens = torch.randn(2, 11, 24)
    trained, _ = attention(tokens, skip=skip)
    assert trained.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(trained.detach(), attention(tokens, skip=skip)[0])


def test_autocast_trains_in_sixteen_bits() -> None:
    attention = Attention(dim=24, heads=3)
    tokens = torch.randn(2, 11, 24)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = attention(tokens)
    assert mixed.dtype == torch.bfloat16
    mixed.float().sum().backward()
    assert attention.qkv.weight.grad is not None
