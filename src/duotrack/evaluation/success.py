"""Success of boxes against known ones, where no benchmark's own rules are asked for."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

THRESHOLDS = np.arange(21) / 20
"""0, 0.05 .. 1."""


def success_curve(overlaps: ArrayLike) -> NDArray[np.float64]:
    """(21,) share of frames whose IoU is above each threshold; its mean is the success AUC.

    Args:
        overlaps: (N,) IoU of each frame; nan where there is no target to overlap with, such frames do not count.

    Returns:
        All nan where no frame counts.
    """
    values = np.asarray(overlaps, np.float64).ravel()
    values = values[np.isfinite(values)]
    if not len(values):
        return np.full(len(THRESHOLDS), np.nan)
    return np.asarray((values[:, None] > THRESHOLDS).mean(axis=0))
