"""Square crops around a box, and boxes as such a crop sees them (docs/specs/ckd.md, section 3.4)."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from duotrack.boxes import cxcywh_to_xywh, xywh_to_cxcywh
from duotrack.errors import InputError
from duotrack.frames import Image

EXACT_SIDE = 8192
"""Crops up to this many pixels a side are cut and resized as specified (192 MiB at most); see `crop_square`."""


@dataclass(frozen=True)
class Square:
    """A square of `size` pixels a side whose top left pixel is (`x`, `y`), which may lie outside the image."""

    x: int
    y: int
    size: int

    def pads(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Black pixels left, right, top, bottom in an image of that size, each at most the square's side.

        A square that reaches the right or bottom edge loses the image's last column or row: the reference does so.
        """
        outside = (-self.x, self.x + self.size - width + 1, -self.y, self.y + self.size - height + 1)
        left, right, top, bottom = (min(max(0, value), self.size) for value in outside)
        return left, right, top, bottom


@dataclass(frozen=True, eq=False)
class Crop:
    """What `crop_square` cut.

    `image` (S, S, 3) uint8; `resize_factor` S / side of the square in the frame; `square` where it was cut; `padding`
    (S, S) bool, True where a pixel comes wholly or partly from outside the image, None when it was not asked for.
    """

    image: Image
    resize_factor: float
    square: Square
    padding: NDArray[np.bool_] | None = None


def square_around(box: ArrayLike, factor: float) -> Square:
    """The square of side ceil(sqrt(w h) factor) centred on an `xywh` box in pixels.

    Raises:
        InputError: the box is not four finite numbers with a width and a height above zero.
    """
    values = np.asarray(box, np.float64)
    if values.shape != (4,):
        raise InputError(f"a box has four numbers x, y, w, h; got shape {values.shape}")
    x, y, w, h = values.tolist()
    area = w * h if w > 0 and h > 0 else 0.0
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(area) and area > 0):
        raise InputError(f"cannot crop around box {x:g},{y:g},{w:g},{h:g}: it needs finite numbers, a size above zero")
    size = math.ceil(math.sqrt(area) * factor)
    return Square(x=round(x + 0.5 * w - 0.5 * size), y=round(y + 0.5 * h - 0.5 * size), size=size)


def cut_square(image: Image, square: Square) -> Image:
    """The square's pixels, (size, size, 3) uint8, black outside the image; a view of `image` where it lies inside."""
    height, width = image.shape[:2]
    left, right, top, bottom = square.pads(height, width)
    if left + right >= square.size or top + bottom >= square.size:
        return np.zeros((square.size, square.size, 3), np.uint8)
    rows = slice(square.y + top, square.y + square.size - bottom)
    columns = slice(square.x + left, square.x + square.size - right)
    inner = image[rows, columns]
    if inner.strides[1:] != (3, 1) or inner.strides[0] < 3 * inner.shape[1]:  # mirrored and the like: not for OpenCV
        inner = np.ascontiguousarray(inner)
    if not (left or right or top or bottom):
        return inner
    padded: Any = cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(padded, np.uint8)


def crop_square(
    image: Image, box: ArrayLike, factor: float, size: int, *, padding: bool = False, out: Image | None = None
) -> Crop:
    """Cut the square around `box` (x, y, w, h in pixels) out of `image` and resize it (docs/specs/ckd.md, section 3.4).

    Bit-equal with the reference for squares of up to `EXACT_SIDE` pixels. A larger one, which only a box that fills a
    frame beyond full HD asks for, is sampled at the same points straight from the image, so that no box however large
    takes memory; its pixels differ from the specified ones by rounding (and along the crop's rim, where the specified
    ones repeat). A square wholly outside the image is black.

    Args:
        image: (H, W, 3) uint8.
        box: the box that the square is centred on.
        factor: side of the square over the geometric mean side of the box (template 2, search region 4).
        size: side of the crop that comes back, S.
        padding: also compute `Crop.padding` (training needs it, tracking does not).
        out: (S, S, 3) uint8, contiguous, that becomes the crop's image.

    Raises:
        InputError: a box that is not finite or has no area.
    """
    square = square_around(box, factor)
    out = np.empty((size, size, 3), np.uint8) if out is None else out
    if square.size <= EXACT_SIDE:
        cv2.resize(cut_square(image, square), (size, size), dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        np.copyto(out, _sample(image, square, size))
    mask = _padding(square, image.shape[0], image.shape[1], size) if padding else None
    return Crop(out, size / square.size, square, mask)


def _sample(image: Image, square: Square, size: int) -> Any:
    """Bilinear samples at the points that resizing the padded square would take, without making that square."""
    height, width = image.shape[:2]
    left, right, top, bottom = square.pads(height, width)
    if left + right >= square.size or top + bottom >= square.size:
        return np.zeros((size, size, 3), np.uint8)
    shown = image[: height - 1 if bottom else height, : width - 1 if right else width]
    step = square.size / size
    to_image = np.array([[step, 0, square.x + step / 2 - 0.5], [0, step, square.y + step / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(np.ascontiguousarray(shown), to_image, (size, size), flags=flags, borderValue=(0, 0, 0))


def _padding(square: Square, height: int, width: int, size: int) -> NDArray[np.bool_]:
    # A pixel is padded when one of its source columns or rows is: two short lines give what resizing the mask would.
    left, right, top, bottom = square.pads(height, width)
    columns, rows = _padded_line(square.size, left, right, size), _padded_line(square.size, top, bottom, size)
    return rows[:, None] | columns[None, :]


def _padded_line(length: int, before: int, after: int, size: int) -> NDArray[np.bool_]:
    """Which of `size` resized samples touch the first `before` or the last `after` of `length` pixels."""
    step = 1 / (size / length)  # and float32: OpenCV's own rounding decides whether a weight is zero
    points = ((np.arange(size) + 0.5) * step - 0.5).astype(np.float32)
    first = np.floor(points)
    weight = points - first
    low, high = np.clip(first, 0, length - 1), np.clip(first + 1, 0, length - 1)
    mask: NDArray[np.bool_] = (low < before) | (low >= length - after)
    mask |= (weight > 0) & ((high < before) | (high >= length - after))
    return mask


def box_in_crop(box: ArrayLike, crop_box: ArrayLike, resize_factor: float, size: int) -> NDArray[np.float64]:
    """A box as the crop around `crop_box` shows it in training: `xywh` over the crop's side (docs/specs/ckd.md, 3.4).

    Args:
        box: (..., 4) `xywh` in frame pixels.
        crop_box: the (jittered) `xywh` box that the crop was cut around.
        resize_factor: `Crop.resize_factor`.
        size: side S of the crop.

    Returns:
        (..., 4) float64; may leave [0, 1].
    """
    boxes, around = xywh_to_cxcywh(np.asarray(box, np.float64)), xywh_to_cxcywh(np.asarray(crop_box, np.float64))
    # The centre of the crop is (S - 1) / 2 here and S / 2 in tracking: an inconsistency of the reference, kept.
    centre = (size - 1) / 2 + (boxes[..., :2] - around[..., :2]) * resize_factor
    inside = np.concatenate([centre, boxes[..., 2:] * resize_factor], axis=-1)
    return cxcywh_to_xywh(inside) / size
