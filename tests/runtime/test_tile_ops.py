"""What the kernels for matrix units are told to read is there, and what they compute is counted."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.evaluation.stopwatch import counted
from duotrack.models.attention import Block, Mlp, through
from duotrack.runtime import tile_library
from duotrack.runtime.packed import pack
from duotrack.runtime.tile_block_ops import attention
from duotrack.runtime.tile_ops import Norm, pack_layer
from duotrack.runtime.tiles import TileBlock, TileLinear, TileMlp, TilePatches
from units import TYPES, ready, units

OTHER = (torch.bfloat16, torch.float16, torch.float64)


@units
def test_operations_are_counted(precision: str) -> None:
    block = ready(Block(dim=64, heads=2), precision)
    conv = ready(nn.Conv2d(32, 96, kernel_size=4, stride=4), precision)
    tokens, cells = torch.randn(2, 9, 64, dtype=TYPES[precision]), torch.randn(3, 32, 8, 8, dtype=TYPES[precision])

    def forward(first: nn.Module, second: nn.Module) -> None:
        with torch.inference_mode():
            first(tokens)
            second(cells)

    plain = counted(lambda: forward(block, conv))
    for packed in (pack(copy.deepcopy(block)), TileBlock(block)):
        assert counted(lambda: forward(packed, TilePatches(conv))) == plain > 0  # noqa: B023  (called at once)
    ours = TileBlock(block)
    with torch.inference_mode():
        few = counted(lambda: block.attend(tokens, skip=4))
        assert counted(lambda: ours.attend(tokens, skip=4)) == few
        whole = counted(lambda: through(tokens, [block] * 3, skip=4))
        assert counted(lambda: through(tokens, [ours] * 3, skip=4)) == whole
    assert counted(lambda: None) == 0


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
                attention(q, k, v)
        monkeypatch.setattr(tile_library, "_library", lambda: None)
        with pytest.raises(InputError, match="load the tracker anew"):
            linear(torch.zeros(1, 4, 64))


@units
def test_what_does_not_fit_a_block_is_refused() -> None:
    block = TileBlock(ready(Block(dim=64, heads=2), "fp32"))
    tokens = torch.zeros(1, 4, 64)
    with torch.inference_mode():
        for wrong in (torch.zeros(1, 4, 32), *(tokens.to(t) for t in OTHER)):
            for part in (block.attend, block.feed, block):
                with pytest.raises(ValueError, match="do not fit packed weights"):
                    part(wrong)
        for options in ({"skip": 5}, {"skip": -1}, {"query": 4}):
            with pytest.raises(ValueError, match="of 4 tokens"):
                block.attend(tokens, **options)
        for options in ({"query": -1}, {"query": -2}, {"query": 2, "skip": 1}):
            with pytest.raises(ValueError, match="a token's index"):
                block.attend(tokens, **options)
        for skip in (-1, 5):
            with pytest.raises(ValueError, match="of 4 tokens"):
                block.through(tokens, [], skip=skip)
        for other in (Block(dim=96, heads=3), Block(dim=64, heads=2).bfloat16()):
            with pytest.raises(ValueError, match="after one that gives 64"):
                block.through(tokens, [TileBlock(other.eval().requires_grad_(False))])


@units
def test_layers_that_do_not_go_together_make_no_block() -> None:
    block = TileBlock(ready(Block(dim=64, heads=2), "fp32")).packed
    other, norm = pack_layer(torch.zeros(1, 96, 64), None), Norm(torch.ones(32), torch.zeros(32), 1e-6)
    for parts, message in (
        ({"heads": 3}, "3 heads"),
        ({"qkv": other}, "channels in a block"),
        ({"proj": other}, "channels in a block"),
        ({"first": other}, "channels in a block"),
        ({"second": other}, "channels in a block"),
        ({"shortcut": other}, "channels in a block"),
        ({"shortcut": pack_layer(torch.zeros(1, 64, 96), None)}, "a shortcut"),
        ({"norm": norm}, "a norm of"),
        ({"mlp_norm": norm}, "a norm of"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(block, **parts)
