"""Operations on matrix units refuse what they would misread, and are counted."""

import copy
import itertools

import pytest
import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.evaluation.stopwatch import counted
from duotrack.models.attention import Block, Mlp
from duotrack.runtime import tile_library
from duotrack.runtime.packed import pack
from duotrack.runtime.tile_ops import pack_weights
from duotrack.runtime.tiles import TileBlock, TileConv, TileLinear, TileMlp, tile_attention
from units import TYPES, ready, units

OTHER = (torch.bfloat16, torch.float16, torch.float64)


@units
def test_operations_are_counted(precision: str) -> None:
    block = ready(Block(dim=64, heads=2), precision)
    conv = ready(nn.Conv2d(96, 96, kernel_size=3, padding=1, groups=3), precision)
    tokens, cells = torch.randn(2, 9, 64, dtype=TYPES[precision]), torch.randn(3, 96, 5, 5, dtype=TYPES[precision])

    def forward(first: nn.Module, second: nn.Module) -> None:
        with torch.inference_mode():
            first(tokens)
            second(cells)

    plain = counted(lambda: forward(block, conv))
    for packed in (pack(copy.deepcopy(block)), TileBlock(block)):
        assert counted(lambda: forward(packed, TileConv(conv))) == plain > 0  # noqa: B023  (called at once)
    with torch.inference_mode():
        few = counted(lambda: block.attend(tokens, skip=4))
        assert counted(lambda: TileBlock(block).attend(tokens, skip=4)) == few


@units
def test_what_does_not_fit_packed_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    linear, mlp = TileLinear(nn.Linear(64, 32)), TileMlp(Mlp(dim=64, hidden=32))
    wrong = [torch.zeros(1, 4, 32), torch.zeros(1, 4, 96), *(torch.zeros(1, 4, 64).to(t) for t in OTHER)]
    with torch.inference_mode():
        for layer, rows in itertools.product((linear, mlp), wrong):
            with pytest.raises(ValueError, match="do not fit packed weights"):
                layer(rows)
        q = torch.zeros(1, 2, 4, 32)
        for k, v in [(q, q.bfloat16()), (q[:, :1], q[:, :1]), (q, q[:, :, 1:]), (q[:, :, :0], q[:, :, :0])]:
            with pytest.raises(ValueError):
                tile_attention(q, k, v)
        monkeypatch.setattr(tile_library, "_library", lambda: None)
        with pytest.raises(InputError, match="load the tracker anew"):
            linear(torch.zeros(1, 4, 64))


@units
def test_what_does_not_fit_a_block_is_refused() -> None:
    block = TileBlock(ready(Block(dim=64, heads=2), "fp32"))
    linear = TileLinear(nn.Linear(256, 32))
    narrow = linear._weights, linear._bias
    tokens = torch.zeros(1, 4, 64)
    with torch.inference_mode():
        for wrong in (torch.zeros(1, 4, 32), *(tokens.to(t) for t in OTHER)):
            for half in (block.attend, block.feed):
                with pytest.raises(ValueError, match="do not fit packed weights"):
                    half(wrong)
        for options in ({"skip": 5}, {"skip": -1}, {"query": 4}):
            with pytest.raises(ValueError, match="of 4 tokens"):
                block.attend(tokens, **options)
        for options in ({"query": -1}, {"query": -2}, {"query": 2, "skip": 1}):
            with pytest.raises(ValueError, match="a token's index"):
                block.attend(tokens, **options)
        scale, shift, epsilon, *layers = block._attention
        run = torch.ops.duotrack.tile_self_attention
        with pytest.raises(ValueError, match="3 heads"):
            run(tokens, scale, shift, epsilon, *layers, 3, 0, -1)
        with pytest.raises(ValueError, match="weights"):
            run(tokens, scale, shift, epsilon, *layers[2:], *layers[2:], 2, 0, -1)
        for bad in (scale[:32], scale.double(), torch.zeros(128)[::2]):
            with pytest.raises(ValueError, match="a norm of 64 channels"):
                run(tokens, bad, shift, epsilon, *layers, 2, 0, -1)
            with pytest.raises(ValueError, match="a norm of 64 channels"):
                torch.ops.duotrack.tile_mlp(tokens, *block._mlp[:4], scale, bad, epsilon)
        with pytest.raises(ValueError, match="32 channels cannot be added to 64"):
            torch.ops.duotrack.tile_mlp(tokens, *block._mlp[:2], *narrow, scale, shift, 0.0)


@units
def test_weights_that_were_not_packed_so_are_refused() -> None:
    tokens, (weights, bias) = torch.zeros(1, 1, 4, 64), pack_weights_of(64, 64)
    product, mlp = torch.ops.duotrack.tile_product, torch.ops.duotrack.tile_mlp
    two = torch.cat([weights[..., :1, :, :, :, :, :], weights[..., :1, :, :, :, :, :]])
    for wrong, where in [(two, bias), (weights.flatten(4), bias), (weights, bias[:, None]), (weights, bias[:0])]:
        with pytest.raises(ValueError, match="do not fit packed weights"):
            mlp(tokens, wrong, where, weights, bias)
    with pytest.raises(ValueError, match="in 1 groups"):
        product(tokens[..., :8], *pack_weights_of(32, 64), 2)
    with pytest.raises(ValueError, match="have to be contiguous"):
        product(tokens, weights.transpose(1, 2), bias, 1)


def pack_weights_of(inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    return pack_weights(torch.zeros(1, outputs, inputs)), torch.zeros(outputs)
