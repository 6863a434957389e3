"""What a network sees of a frame: one square of both images, cut, resized and normalised in one go.

On the CPU OpenCV cuts and resizes (`duotrack.tracking.crop`). On CUDA the frames travel once a call, as bytes, and
everything else happens there: nothing waits for the device.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from duotrack.frames import Image
from duotrack.models.statistics import normalise
from duotrack.models.zoo import Geometry
from duotrack.tracking.crop import Square, crop_square, square_around
from duotrack.tracking.preprocess import fade_rim, to_tensor


def view(
    images: Sequence[Image], box: ArrayLike, factor: float, size: int, device: torch.device
) -> tuple[Tensor, float]:
    """The square around `box` in each of `images`, as a network reads it.

    Args:
        images: one or more (H, W, 3) uint8 of one size.
        box, factor, size: as in `crop_square`.
        device: where the result shall be.

    Returns:
        (len(images), 3, S, S) float32, normalised; and the resize factor, S over the square's side.

    Raises:
        InputError: as `crop_square`.
    """
    if device.type == "cuda":
        square = square_around(box, factor)
        levels = sample_square(upload(images, device), square, size)
        return normalise(levels / 255), size / square.size
    crops = np.empty((len(images), size, size, 3), np.uint8)
    resize_factor = [
        crop_square(image, box, factor, size, out=out).resize_factor for image, out in zip(images, crops, strict=True)
    ]
    return to_tensor(crops, device), resize_factor[0]


def view_template(
    images: Sequence[Image], box: ArrayLike, geometry: Geometry, device: torch.device
) -> tuple[Tensor, float]:
    """The target in `box` as a network is to remember it; see `view`, and `Geometry.rim`."""
    seen, resize_factor = view(images, box, geometry.template_factor, geometry.template_size, device)
    return fade_rim(seen, box, square_around(box, geometry.template_factor), geometry.rim), resize_factor


def upload(images: Sequence[Image], device: torch.device) -> Tensor:
    """Images of one size as one (B, H, W, 3) uint8 tensor on `device`; to CUDA in a single copy nobody waits for."""
    stack = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=device.type == "cuda")
    for slot, image in zip(stack.numpy(), images, strict=True):
        np.copyto(slot, image)
    return stack.to(device, non_blocking=True)


def sample_square(frames: Tensor, square: Square, size: int) -> Tensor:
    """`crop_square` with torch, on whatever device the frames are.

    Differs from OpenCV, which weighs in steps of 1/2048, by at most one grey level.

    Args:
        frames: (B, H, W, 3) uint8.
        square: what is cut; black where it leaves the frames, whose last row or column is lost there as in the
            reference.
        size: side of the crops, S.

    Returns:
        (B, 3, S, S) float32: whole grey levels, 0 to 255.
    """
    height, width = frames.shape[1:3]
    left, right, top, bottom = square.pads(height, width)
    if left + right >= square.size or top + bottom >= square.size:
        return torch.zeros((len(frames), 3, size, size), device=frames.device)
    across, down = square.size - left - right, square.size - top - bottom
    x, y = square.x + left, square.y + top
    inner = frames[:, y : y + down, x : x + across].permute(0, 3, 1, 2).float()
    # centres of the crop's pixels in the square, which has no pixels beyond its rim, then in its inner part
    points = ((torch.arange(size, device=frames.device, dtype=torch.float64) + 0.5) * (square.size / size) - 0.5).clamp(
        0, square.size - 1
    )
    columns, rows = (
        (2 * (points - before) + 1) / length - 1  # as grid_sample counts: -1 and 1 are the outer rims
        for before, length in ((left, across), (top, down))
    )
    grid = torch.stack([columns.expand(size, size), rows[:, None].expand(size, size)], dim=-1).float()
    sampled = F.grid_sample(inner, grid.expand(len(frames), -1, -1, -1), padding_mode="zeros", align_corners=False)
    return sampled.round().clamp(0, 255)
