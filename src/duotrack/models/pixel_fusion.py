"""Pixel-level fusion adapter: an RGB and a thermal image in, one image for a single-stream tracker out.

TPF (Lu et al., arXiv 2503.11247) says that three Vision Mamba blocks and convolutions encode both modalities and merge
them. How they are put together is our design, and every choice an argument (docs/specs/tpf.md, section 3.3).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.ssm import ViMBlock

LAYOUTS = ("y", "stacked")


class PixelFusionAdapter(nn.Module):
    """fused = m rgb + (1 - m) thermal + tanh(r), with a map m in (0, 1) and a correction r found by state-space blocks.

    A fresh adapter gives the mean of both images: its last convolution starts at zero.

    Args:
        layout: "y", a block a modality and one on the merged features; "stacked", merge first, then three blocks.
        width: channels of the features.
        stride: pixels a token, a power of two; 4 keeps a 256 x 256 image to 4096 tokens.
        thermal_channels: 1 takes the channel mean of the auxiliary image, 3 keeps its channels.
        **block: arguments of `ViMBlock` (d_state, expand, d_conv, scan, halve, backend, chunk, recompute).
    """

    def __init__(
        self, *, layout: str = "y", width: int = 32, stride: int = 4, thermal_channels: int = 1, **block: Any
    ) -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"layout is one of {', '.join(LAYOUTS)}, got {layout!r}")
        if stride < 2 or stride & (stride - 1) or width % 2:
            raise ValueError(f"stride {stride} must be a power of two from 2 on, width {width} even")
        if thermal_channels not in (1, 3):
            raise ValueError(f"thermal_channels is 1 or 3, got {thermal_channels}")
        self.layout = layout
        self.width = width
        self.stride = stride
        self.thermal_channels = thermal_channels
        self.stem_rgb = _stem(3, width, stride)
        self.stem_tir = _stem(thermal_channels, width, stride)
        self.merge = nn.Conv2d(2 * width, width, kernel_size=1)
        self.blocks = nn.ModuleList(ViMBlock(dim=width, **block) for _ in range(3))
        self.up = nn.Conv2d(width, 4 * stride**2, kernel_size=3, padding=1)
        self.head = nn.Conv2d(4 + 3 + 3, 4, kernel_size=3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Fuse.

        Args:
            rgb: (B, 3, H, W) in [0, 1]. thermal: (B, 1 or 3, H, W) in [0, 1].

        Returns:
            (B, 3, H, W), about [0, 1]; it is not clamped, so that gradients pass.
        """
        return self.decode(self.encode(rgb, thermal), rgb, thermal)

    def encode(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Images as in `forward` to the merged features (B, width, h, w), h = H / stride rounded up.

        Sides that are no multiple of the stride are continued at the right and at the bottom by their last pixels.
        """
        own = thermal.mean(1, keepdim=True) if self.thermal_channels == 1 else _three(thermal)
        height, width = rgb.shape[-2:]
        fill = (0, -width % self.stride, 0, -height % self.stride)
        one, other = (F.pad(image, fill, mode="replicate") if any(fill) else image for image in (rgb, own))
        one, other = self.stem_rgb(one), self.stem_tir(other)
        if self.layout == "stacked":
            merged = self.merge(torch.cat([one, other], dim=1))
            for block in self.blocks:
                merged = _through(block, merged)
            return merged
        merged = self.merge(torch.cat([_through(self.blocks[0], one), _through(self.blocks[1], other)], dim=1))
        return _through(self.blocks[2], merged)

    def decode(self, features: Tensor, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Features of `encode` and the images that they came from to the fused one (B, 3, H, W)."""
        height, width = rgb.shape[-2:]
        three = _three(thermal)
        raised = F.gelu(F.pixel_shuffle(self.up(features), self.stride))[..., :height, :width]
        maps = self.head(torch.cat([raised, rgb, three], dim=1))
        mix = torch.sigmoid(maps[:, :1])
        return mix * rgb + (1 - mix) * three + torch.tanh(maps[:, 1:])


def _three(thermal: Tensor) -> Tensor:
    return thermal.expand(-1, 3, -1, -1) if thermal.shape[1] == 1 else thermal


def _stem(inputs: int, width: int, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, width // 2, kernel_size=3, stride=2, padding=1)]
    now = width // 2
    for _ in range(stride.bit_length() - 2):
        layers += [nn.GELU(), nn.Conv2d(now, width, kernel_size=3, stride=2, padding=1)]
        now = width
    if now != width:  # stride 2: one convolution alone would stay at half the width
        layers += [nn.GELU(), nn.Conv2d(now, width, kernel_size=3, padding=1)]
    return nn.Sequential(*layers)


def _through(block: nn.Module, features: Tensor) -> Tensor:
    b, c, h, w = features.shape
    return block(features.flatten(2).mT, (h, w)).mT.reshape(b, c, h, w)
