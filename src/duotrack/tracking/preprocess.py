"""From uint8 crops to what networks read."""

from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duotrack.models.statistics import normalise
from duotrack.tracking.crop import Square


def to_tensor(crop: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """One (S, S, 3) or several (B, S, S, 3) uint8 crops -> (B, 3, S, S) float32, normalised, on `device`."""
    crops = np.ascontiguousarray(crop if crop.ndim == 4 else crop[None])
    planes = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
    for image, whole in zip(crops, planes, strict=True):
        look_up(image, _levels(), whole)
    return torch.from_numpy(planes).to(device)


def fade_rim(templates: Tensor, box: ArrayLike, square: Square, kept: float, *, mirrored: bool = False) -> Tensor:
    """Templates whose contrast outside of the target's box is lowered; in place, and returned.

    Normalised pixels are multiplied by `kept` there, in between where the box covers a part of a pixel.

    Args:
        templates: (..., S, S) normalised, all cut from `square`.
        box: `xywh` of the target in the frame.
        square: where the templates were cut.
        kept: share of the contrast that stays; 1 changes nothing.
        mirrored: the templates were mirrored left to right after the cut.
    """
    if kept == 1:
        return templates
    size = templates.shape[-1]
    x, y, w, h = np.asarray(box, np.float64) * size / square.size
    left, top = x - square.x * size / square.size, y - square.y * size / square.size
    across, down = _covered(left, left + w, size), _covered(top, top + h, size)
    inside = np.outer(down, across[::-1] if mirrored else across)
    weights = torch.from_numpy((kept + (1 - kept) * inside).astype(np.float32)).to(templates)
    return templates.mul_(weights)


def _covered(start: float, end: float, size: int) -> NDArray[np.float64]:
    """How much of each of `size` pixels in a row lies between two points."""
    pixels = np.arange(size)
    return np.clip(np.minimum(pixels + 1, end) - np.maximum(pixels, start), 0, 1)


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
