"""16-bit thermal images to 8 bits with percentiles that move slowly."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field


class Thermal16(BaseModel):
    """How 16-bit values become 8-bit ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float = Field(default=0.5, ge=0, lt=50, description="percentile of a frame that becomes black")
    high: float = Field(default=99.5, gt=50, le=100, description="percentile of a frame that becomes white")
    momentum: float = Field(
        default=0.95, ge=0, lt=1, description="share of the running black and white points kept each frame"
    )
    max_step: float = Field(
        default=0.05, gt=0, le=1, description="most that either point moves in a frame, as a share of their distance"
    )
    min_span: float = Field(
        default=32.0,
        ge=1,
        description="least distance of the two points in counts, so that an even scene is not blown up to noise",
    )


class Thermal16Scaler:
    """Maps (H, W) uint16 images of one stream, in order, to (H, W) uint8.

    The first image sets black and white at its percentiles. Each further one moves them exponentially,
    p <- p + clip((1 - momentum) (p_frame - p), +-max_step (white - black)), so that neither a hot spot nor a frame of
    the camera's shutter makes the picture flicker: an unchanged pixel changes by at most about 255 max_step levels.
    Deterministic: the same images in the same order give the same bytes.
    """

    def __init__(self, options: Thermal16 | None = None) -> None:
        self._options = options or Thermal16()
        self._points: NDArray[np.float64] | None = None

    def __call__(self, image: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Scale the next image of the stream."""
        options = self._options
        counts = np.cumsum(np.bincount(image.ravel(), minlength=65536))
        ranks = np.array([options.low, options.high]) / 100 * (counts[-1] - 1)
        seen = np.searchsorted(counts, ranks, side="right").astype(np.float64)
        if self._points is None:
            self._points = seen
        else:
            limit = options.max_step * self._span()
            self._points = self._points + np.clip((1 - options.momentum) * (seen - self._points), -limit, limit)
        black = self._points.mean() - self._span() / 2
        levels = np.rint((np.arange(65536) - black) * (255 / self._span()))
        return np.asarray(np.clip(levels, 0, 255).astype(np.uint8)[image])

    def _span(self) -> float:
        assert self._points is not None
        return max(float(self._points[1] - self._points[0]), self._options.min_span)
