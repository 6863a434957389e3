"""Centre head: where the target's centre is, how large it is, and the offset inside a cell."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.outputs import HeadMaps

TOWERS = {"ctr": 1, "offset": 2, "size": 2}
"""Each tower and how many maps it gives."""


class FrozenNorm(nn.Module):
    """Batch norm whose checkpoint holds scale, shift and statistics and no count (docs/specs/ipl.md, sections 4 and 7).

    Args:
        channels: of the input.
        frozen: nothing moves, whatever the mode; else it trains as an ordinary batch norm with momentum 0.1.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, frozen: bool = True) -> None:
        super().__init__()
        self.frozen = frozen
        self.eps = 1e-5
        for name, start in (("weight", torch.ones(channels)), ("bias", torch.zeros(channels))):
            if frozen:
                self.register_buffer(name, start)
            else:
                self.register_parameter(name, nn.Parameter(start))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, cells: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        moving = self.training and not self.frozen
        return F.batch_norm(
            cells, self.running_mean, self.running_var, self.weight, self.bias, training=moving, eps=self.eps
        )


def _stage(inputs: int, outputs: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), norm(outputs), nn.ReLU(inplace=True))


class CenterHead(nn.Module):
    """Three towers of four 3x3 convolutions and a 1x1 one (docs/specs/ckd.md, section 1.6).

    Args:
        inputs: channels of the search tokens.
        channels: width of the towers' first stage; it halves three times.
        squeeze: if given, a 1x1 convolution brings the input to this many channels before the towers.
        norm: makes the norm after each 3x3 convolution for a number of channels.
    """

    def __init__(
        self,
        *,
        inputs: int,
        channels: int = 256,
        squeeze: int | None = None,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.squeeze = None if squeeze is None else nn.Conv2d(inputs, squeeze, kernel_size=1)
        for tower, outputs in TOWERS.items():
            width = squeeze or inputs
            for stage in range(4):
                self.add_module(f"conv{stage + 1}_{tower}", _stage(width, channels >> stage, norm))
                width = channels >> stage
            self.add_module(f"conv5_{tower}", nn.Conv2d(width, outputs, kernel_size=1))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tensor) -> HeadMaps:
        """(B, grid * grid, inputs) search tokens in raster order -> maps (docs/specs/ckd.md, section 1.6)."""
        b, n, c = tokens.shape
        grid = round(n**0.5)
        cells = tokens.transpose(1, 2).reshape(b, c, grid, grid)
        if self.squeeze is not None:
            cells = self.squeeze(cells)
        raw = {}
        for tower in TOWERS:
            x = cells
            for stage in range(1, 6):
                x = self.get_submodule(f"conv{stage}_{tower}")(x)
            raw[tower] = x
        return HeadMaps(score_map=squash(raw["ctr"]), size_map=squash(raw["size"]), offset_map=raw["offset"])


def squash(logits: Tensor) -> Tensor:
    """Logits to (0, 1), kept off both ends by 1e-4, float32."""
    # float32: in half precision 1 - 1e-4 rounds to 1 and the focal loss would take its logarithm
    return torch.sigmoid(logits.float()).clamp(1e-4, 1 - 1e-4)
