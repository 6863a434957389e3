"""Target heatmaps of the centre head (docs/specs/ckd.md, section 3.6)."""

import torch
from torch import Tensor

OVERLAP = 0.7
"""A corner pair inside the radius still overlaps the true box by at least this much (in CornerNet's reckoning)."""


def heatmap_radius(width: Tensor, height: Tensor, overlap: float = OVERLAP) -> Tensor:
    """Radius of the target's bump before truncation, in cells; `width` and `height` (B,) in cells -> (B,).

    This is the widespread variant that does not divide by the leading coefficient of the quadratic equations.
    """
    total, area, rest = height + width, height * width, 1 - overlap
    r1 = (total + (total**2 - 4 * area * rest / (1 + overlap)).clamp(min=0).sqrt()) / 2
    r2 = (2 * total + (4 * total**2 - 16 * rest * area).clamp(min=0).sqrt()) / 2
    r3 = (-2 * overlap * total + (4 * overlap**2 * total**2 + 16 * overlap * rest * area).clamp(min=0).sqrt()) / 2
    return torch.minimum(torch.minimum(r1, r2), r3)


def heatmaps(boxes: Tensor, size: int) -> Tensor:
    """Gaussian bumps at the box centres, the whole batch at once.

    Args:
        boxes: (B, 4) x, y, w, h as fractions of the search image (may leave [0, 1]).
        size: cells along one side of the head's map.

    Returns:
        (B, size, size) float32 in [0, 1]. The centre cell is exactly 1; a centre that rounds to a cell outside the map
        leaves a map without an exact 1, and a box without a size, where no target is shown, a map of zeros.
    """
    x, y, w, h = (boxes.float() * size).unbind(-1)
    centre_x, centre_y = (x + w / 2).round(), (y + h / 2).round()  # half to even
    radius = heatmap_radius(w, h).clamp(min=0).trunc()[:, None, None]
    cells = torch.arange(size, device=boxes.device, dtype=torch.float32)
    dx = cells[None, None, :] - centre_x[:, None, None]
    dy = cells[None, :, None] - centre_y[:, None, None]
    sigma = (2 * radius + 1) / 6
    # the bump is cut off at 3 sigma along each axis, far above the float-eps threshold of the original
    bump = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    sized = ((w > 0) & (h > 0))[:, None, None]
    return bump * ((dx.abs() <= radius) & (dy.abs() <= radius) & sized)
