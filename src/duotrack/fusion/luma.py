"""Colour images for fusion rules that know only grey ones (docs/specs/tpf.md, section 7.1; the choice is ours)."""

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_BLUE = (-0.168736, -0.331264, 0.5)
_RED = (0.5, -0.418688, -0.081312)


def luma_of(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> luma (B, 1, H, W) in [0, 1]."""
    return _weighed(rgb, _LUMA)


def recolour(luma: Tensor, rgb: Tensor) -> Tensor:
    """The colours of `rgb` (B, 3, H, W) with another `luma` (B, 1, H, W); not clamped.

    The two colour differences are those of YCbCr about zero: what an image in YCbCr has above one half.
    """
    blue, red = _weighed(rgb, _BLUE), _weighed(rgb, _RED)
    return torch.cat([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], dim=1)


def thermal_of(aux: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) -> its channel mean (B, 1, H, W)."""
    return aux if aux.shape[1] == 1 else aux.mean(1, keepdim=True)


def _weighed(rgb: Tensor, weights: tuple[float, float, float]) -> Tensor:
    r, g, b = rgb.chunk(3, dim=1)
    return weights[0] * r + weights[1] * g + weights[2] * b
