"""What tests of kernels share; `units` is for those that need what kernels multiply with, whatever machine this is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from duotrack.models.attention import Block

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NEAR = {"fp32": 3e-5, "bf16": 2e-2}
"""Of the largest number there is."""
Layer = TypeVar("Layer", bound=nn.Module)

units = pytest.mark.usefixtures("every_unit")


def ready(layer: Layer, precision: str) -> Layer:
    """A layer for inference in that precision."""
    return layer.to(TYPES[precision]).eval().requires_grad_(False)


def restless(dim: int, heads: int, precision: str) -> Block:
    """A block whose norms and biases do something."""
    block = Block(dim=dim, heads=heads)
    for name, parameter in block.named_parameters():
        nn.init.normal_(parameter, 1.0 if name in ("norm1.weight", "norm2.weight") else 0.0, 0.3)
    for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
        nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
    return ready(block, precision)


def near(ours: Tensor, exact: Tensor, precision: str) -> None:
    """Numbers of that precision are those that were computed in double precision."""
    assert ours.dtype == TYPES[precision]
    assert ours.shape == exact.shape
    scale = max(float(exact.abs().max()), 1.0) if exact.numel() else 1.0
    torch.testing.assert_close(ours.double(), exact, atol=NEAR[precision] * scale, rtol=0)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """What computes meanwhile does so on that many threads."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
