"""From uint8 crops to what networks read."""

from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB in [0, 1]; the auxiliary modality uses the same (docs/specs/ckd.md, sections 1.1, 2.1)."""


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> the same less `MEAN`, over `STD`."""
    mean, std = _statistics(images.dtype, images.device)
    return (images - mean) / std


@cache
def _statistics(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sent to a device once: from ordinary memory that makes it wait."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(each, dtype=dtype, device=device).view(3, 1, 1) for each in (MEAN, STD))
    return mean, std


def to_tensor(crop: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """One (S, S, 3) or several (B, S, S, 3) uint8 crops -> (B, 3, S, S) float32, normalised, on `device`."""
    crops = np.ascontiguousarray(crop if crop.ndim == 4 else crop[None])
    planes = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
    for image, whole in zip(crops, planes, strict=True):
        look_up(image, _levels(), whole)
    return torch.from_numpy(planes).to(device)


def look_up(image: NDArray[np.uint8], tables: NDArray[np.float32], planes: NDArray[np.float32]) -> None:
    """Write `tables` (3, 256) at the levels of `image` (S, S, 3) into `planes` (3, S, S), a channel at a time.

    One pass from bytes to planes; each of the 256 levels met the arithmetic once, when the table was made.
    """
    for levels, table, plane in zip(cv2.split(image), tables, planes, strict=True):
        written: Any = cv2.LUT(levels, table, dst=plane)
        assert np.may_share_memory(written, plane)


@cache
def _levels() -> NDArray[np.float32]:
    grey = torch.arange(256).float() / 255
    return np.ascontiguousarray(normalise(grey.expand(1, 3, 1, 256))[0, :, 0].numpy())
