"""The centre head as one tower: batch norm folded into the convolutions, the three towers side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.head import TOWERS, CenterHead, squash
from duotrack.models.outputs import HeadMaps


class MergedHead(nn.Module):
    """`CenterHead` for inference, to rounding the same maps (docs/specs/ckd.md, sections 1.6 and 8).

    The towers' first convolutions share their input and become one; the later ones become groups of one convolution,
    the last, 1x1, one dense convolution with zeros between the towers.

    Args:
        head: the head to take weights from; those that need no change are shared with it.
    """

    def __init__(self, head: CenterHead) -> None:
        super().__init__()
        self.squeeze = head.squeeze
        stages = []
        for number in range(1, 5):
            folded = [fold_batch_norm(*head.get_submodule(f"conv{number}_{tower}")[:2]) for tower in TOWERS]  # type: ignore[index]
            stages.append(_side_by_side(folded, groups=1 if number == 1 else len(TOWERS)))
        self.stages = nn.ModuleList(stages)
        self.last = _diagonal([head.get_submodule(f"conv5_{tower}") for tower in TOWERS])  # type: ignore[misc]

    def forward(self, tokens: Tensor) -> HeadMaps:
        """As `CenterHead.forward`."""
        b, n, c = tokens.shape
        grid = round(n**0.5)
        x = tokens.transpose(1, 2).reshape(b, c, grid, grid)
        if self.squeeze is not None:
            x = self.squeeze(x)
        for stage in self.stages:
            x = F.relu(stage(x))
        return as_maps(self.last(x))


def as_maps(cells: Tensor) -> HeadMaps:
    """(B, 5, h, w), what all towers give one after the other, as the head's maps."""
    score, offset, size = torch.split(cells, list(TOWERS.values()), dim=1)
    return HeadMaps(score_map=squash(score), size_map=squash(size), offset_map=offset)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """The convolution that does what `conv` and then `norm` do in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    return _conv(conv.weight * scale[:, None, None, None], bias, like=conv, groups=conv.groups)


def _side_by_side(convs: Sequence[nn.Conv2d], *, groups: int) -> nn.Conv2d:
    """Convolutions of one shape as one: on one input (`groups` 1), or each on its own share of the channels."""
    weight, bias = torch.cat([conv.weight for conv in convs]), torch.cat([_bias(conv) for conv in convs])
    return _conv(weight, bias, like=convs[0], groups=groups)


def _diagonal(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """1x1 convolutions, each on its own share of the channels, as one dense one: they may give different numbers."""
    weight = torch.block_diag(*[conv.weight.flatten(1) for conv in convs])[:, :, None, None]  # type: ignore[no-untyped-call]
    return _conv(weight, torch.cat([_bias(conv) for conv in convs]), like=convs[0], groups=1)


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias


def _conv(weight: Tensor, bias: Tensor, *, like: nn.Conv2d, groups: int) -> nn.Conv2d:
    with torch.device("meta"):
        conv = nn.Conv2d(
            weight.shape[1] * groups,
            weight.shape[0],
            kernel_size=like.kernel_size,  # type: ignore[arg-type]
            stride=like.stride,  # type: ignore[arg-type]
            padding=like.padding,  # type: ignore[arg-type]
            groups=groups,
        )
    conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return conv
