"""Box algebra for NumPy arrays and torch tensors alike.

The last axis holds the four numbers. `xywh`: left, top, width, height. `cxcywh`: centre and size. `xyxy`: left, top,
right, bottom. All functions keep the type, shape and device of what they are given.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    Boxes = TypeVar("Boxes", NDArray[Any], torch.Tensor)
else:
    Boxes = TypeVar("Boxes")


def _four(boxes: Any) -> Any:
    # a tracker has one box, every frame: of plain numbers, the same to the bit, it takes a tenth of the time
    if isinstance(boxes, np.ndarray) and boxes.shape == (4,) and boxes.dtype == np.float64:
        return boxes.tolist()
    return [boxes[..., i] for i in range(4)]


def _stack(parts: list[Any]) -> Any:
    if isinstance(parts[0], float):
        return np.array(parts, np.float64)
    if isinstance(parts[0], (np.ndarray, np.generic)):
        return np.stack(parts, axis=-1)
    import torch  # only where a tensor came in, so that NumPy users never wait for torch

    return torch.stack(parts, dim=-1)


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Left, top, width, height -> left, top, right, bottom."""
    x, y, w, h = _four(boxes)
    return _stack([x, y, x + w, y + h])


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """Left, top, right, bottom -> left, top, width, height."""
    x1, y1, x2, y2 = _four(boxes)
    return _stack([x1, y1, x2 - x1, y2 - y1])


def xywh_to_cxcywh(boxes: Boxes) -> Boxes:
    """Left, top, width, height -> centre and size."""
    x, y, w, h = _four(boxes)
    return _stack([x + w / 2, y + h / 2, w, h])


def cxcywh_to_xywh(boxes: Boxes) -> Boxes:
    """Centre and size -> left, top, width, height."""
    cx, cy, w, h = _four(boxes)
    return _stack([cx - w / 2, cy - h / 2, w, h])


def cxcywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Centre and size -> left, top, right, bottom."""
    cx, cy, w, h = _four(boxes)
    return _stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def _overlap(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Intersection, union and area of the enclosing box of `xyxy` boxes, pair by pair."""
    left, top = _maximum(a[..., 0], b[..., 0]), _maximum(a[..., 1], b[..., 1])
    right, bottom = _minimum(a[..., 2], b[..., 2]), _minimum(a[..., 3], b[..., 3])
    zero = left * 0
    intersection = _maximum(right - left, zero) * _maximum(bottom - top, zero)
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    hull_w = _maximum(a[..., 2], b[..., 2]) - _minimum(a[..., 0], b[..., 0])
    hull_h = _maximum(a[..., 3], b[..., 3]) - _minimum(a[..., 1], b[..., 1])
    return intersection, area_a + area_b - intersection, hull_w * hull_h


def _maximum(a: Any, b: Any) -> Any:
    return np.maximum(a, b) if isinstance(a, (np.ndarray, np.generic)) else a.maximum(b)


def _minimum(a: Any, b: Any) -> Any:
    return np.minimum(a, b) if isinstance(a, (np.ndarray, np.generic)) else a.minimum(b)


def iou_xyxy(a: Boxes, b: Boxes) -> Boxes:
    """Intersection over union of two equally shaped sets of `xyxy` boxes, (..., 4) -> (...); 0 for two empty boxes."""
    intersection, union, _ = _overlap(a, b)
    safe = union + (union == 0)
    return intersection / safe


def iou_xywh(a: Boxes, b: Boxes) -> Boxes:
    """As `iou_xyxy`, for `xywh` boxes."""
    return iou_xyxy(xywh_to_xyxy(a), xywh_to_xyxy(b))


def giou_xyxy(a: Boxes, b: Boxes) -> Boxes:
    """Generalised IoU (Rezatofighi et al., CVPR 2019) without an epsilon (docs/specs/ckd.md, section 3.6)."""
    intersection, union, hull = _overlap(a, b)
    return intersection / union - (hull - union) / hull


def clip_xywh(box: Boxes, height: float, width: float, margin: float = 10.0) -> Boxes:
    """Clip `xywh` boxes so that at least `margin` pixels of each side stay inside (docs/specs/ckd.md, section 5)."""
    x, y, w, h = _four(box)
    left, right = _clamp(x, 0.0, width - margin), _clamp(x + w, margin, width)
    top, bottom = _clamp(y, 0.0, height - margin), _clamp(y + h, margin, height)
    return _stack([left, top, _clamp(right - left, margin, None), _clamp(bottom - top, margin, None)])


def _clamp(value: Any, low: float, high: float | None) -> Any:
    # min(max(low, v), high): in this order, so that an image smaller than the margin behaves as specified
    if isinstance(value, float):
        value = value if value > low or value != value else float(low)  # NaN stays, as in arrays
        return value if high is None or value < high or value != value else float(high)
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.maximum(value, low)
        return value if high is None else np.minimum(value, high)
    return value.clamp(min=low) if high is None else value.clamp(min=low).clamp(max=high)
