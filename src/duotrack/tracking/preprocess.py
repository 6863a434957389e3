"""From uint8 crops to what networks read."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB in [0, 1]; the auxiliary modality uses the same (docs/specs/ckd.md, sections 1.1, 2.1)."""


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> the same less `MEAN`, over `STD`."""
    mean = torch.tensor(MEAN, dtype=images.dtype, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, dtype=images.dtype, device=images.device).view(3, 1, 1)
    return (images - mean) / std


def to_tensor(crop: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """One (S, S, 3) or several (B, S, S, 3) uint8 crops -> (B, 3, S, S) float32, normalised, on `device`.

    The bytes travel and become floats there: a quarter of the traffic.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(crop if crop.ndim == 4 else crop[None])).to(device)
    return normalise(pixels.permute(0, 3, 1, 2).float() / 255)
