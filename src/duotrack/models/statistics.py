"""The pixel statistics that every network here is normalised by."""

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB in [0, 1]; the auxiliary modality uses the same (docs/specs/ckd.md, sections 1.1, 2.1)."""


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> the same less `MEAN`, over `STD`."""
    mean, std = _as(images, MEAN), _as(images, STD)
    return (images - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`."""
    return images * _as(images, STD) + _as(images, MEAN)


def _as(images: Tensor, values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=images.dtype, device=images.device).view(3, 1, 1)
