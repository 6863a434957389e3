"""The pixel statistics that every network here is normalised by."""

from functools import cache

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB in [0, 1]; the auxiliary modality uses the same (docs/specs/ckd.md, sections 1.1, 2.1)."""


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> the same less `MEAN`, over `STD`."""
    mean, std = _on(images)
    return (images - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`."""
    mean, std = _on(images)
    return images * std + mean


def _on(images: Tensor) -> tuple[Tensor, Tensor]:
    if torch.compiler.is_compiling():  # a graph holds its own
        return _made(images.dtype, images.device)
    return _kept(images.dtype, images.device)


@cache
def _kept(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sent to a device once: from ordinary memory that makes it wait."""
    with torch.inference_mode(False):
        return _made(dtype, device)


def _made(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(each, dtype=dtype, device=device).view(3, 1, 1) for each in (MEAN, STD))
    return mean, std
