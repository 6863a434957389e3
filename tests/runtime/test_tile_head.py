"""The merged head in C++ of ours gives the head's maps."""

import copy

import pytest
import torch
from torch import nn

from duotrack.evaluation.stopwatch import counted
from duotrack.models.head import CenterHead
from duotrack.models.merged_head import MergedHead
from duotrack.runtime.packed import PackedConv, pack
from duotrack.runtime.tile_head import TileHead, head_fits
from units import TYPES, ready, units


def made(inputs: int, channels: int, squeeze: int | None) -> MergedHead:
    """A head whose norms and biases do something."""
    torch.manual_seed(0)
    head = CenterHead(inputs=inputs, channels=channels, squeeze=squeeze).eval().requires_grad_(False)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            for numbers, least in ((module.running_mean, -0.3), (module.running_var, 0.5), (module.bias, -0.3)):
                nn.init.uniform_(numbers, least, least + 1)
    return MergedHead(head)


@units
@pytest.mark.parametrize(
    ("inputs", "channels", "squeeze", "batch", "grid"),
    [(96, 64, 32, 1, 12), (64, 256, None, 1, 16), (32, 64, None, 3, 5), (64, 80, 96, 2, 1), (32, 64, None, 0, 4)],
)
def test_maps(inputs: int, channels: int, squeeze: int | None, batch: int, grid: int, precision: str) -> None:
    head = ready(made(inputs, channels, squeeze), precision)
    assert head_fits(head)
    tokens = torch.randn(batch, grid * grid, inputs, dtype=TYPES[precision])
    with torch.inference_mode():
        exact = copy.deepcopy(head).double()(tokens.double())
        found = TileHead(head)(tokens)
        turned = TileHead(head)(tokens.transpose(1, 2).contiguous().transpose(1, 2))
    for name, channels_of in (("score_map", 1), ("size_map", 2), ("offset_map", 2)):
        ours = getattr(found, name)
        assert ours.shape == (batch, channels_of, grid, grid)
        atol = 3e-5 if precision == "fp32" else 2e-2
        torch.testing.assert_close(ours.double(), getattr(exact, name).double(), atol=atol, rtol=0)
        assert torch.equal(ours, getattr(turned, name))


@units
def test_operations_are_counted_without_what_is_filled_up(precision: str) -> None:
    head = ready(made(64, 64, 32), precision)
    tokens = torch.zeros(2, 9, 64, dtype=TYPES[precision])
    with torch.inference_mode():
        assert counted(lambda: TileHead(head)(tokens)) == counted(lambda: head(tokens)) > 0


@units
def test_heads_that_do_not_fit_stay_with_torch(precision: str) -> None:
    heads = [ready(made(40, 64, None), precision), ready(made(64, 64, 40), precision)]
    for head in heads:
        assert not head_fits(head)
        run = pack(nn.Sequential(head))[0]
        assert isinstance(run, MergedHead)
        assert isinstance(run.last, PackedConv)
    assert isinstance(pack(nn.Sequential(ready(made(32, 64, None), precision)))[0], TileHead)
