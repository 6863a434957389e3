"""Frames that arrive but show nothing: black, saturated, of one tone, or frozen.

An image is judged by itself but for freezing: a picture that does not change may be a frozen sensor or a scene in which
nothing moves. It counts as frozen where it has not changed for some frames *while the other sensor's picture has
moved*; with one sensor, or where both stand still, nothing is called frozen. Change is measured against the first of
the equal frames, so that slow motion adds up. Our own rules, no published source; docs/missing.md says how often they
are wrong.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from duotrack.frames import MODALITIES, FramePair, Image, Modality

log = logging.getLogger(__name__)

Reason = Literal["black", "saturated", "one tone", "frozen"]
Reasons = tuple[Reason | None, Reason | None]
CELL = 16
"""Pixels a side of the cells over which motion is looked for: averages of so many pixels carry hardly any noise."""


class Dead(BaseModel):
    """When a frame counts as dead; levels are of 8 bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    black_below: int = Field(default=16, ge=1, le=255, description="black: no pixel reaches this level in any channel")
    saturated_from: int = Field(
        default=250, ge=1, le=255, description="saturated: every pixel reaches this level in all channels"
    )
    tone_span: int = Field(
        default=3, ge=0, le=255, description="one tone: no channel spans more than so many levels over the image"
    )
    stray: float = Field(
        default=2e-5, ge=0, lt=1, description="share of pixels that may do otherwise (hot pixels), rounded down"
    )
    frozen_after: int = Field(
        default=8, ge=1, description="frames in a row without change after which a picture may count as frozen"
    )
    still_levels: int = Field(default=4, ge=0, le=255, description="a value that differs by no more has not changed")
    still_share: float = Field(
        default=2e-4, ge=0, lt=1, description="share of values that may have changed in a picture that stands still"
    )
    moved_levels: float = Field(
        default=8.0,
        gt=0,
        description="a cell of the other picture has moved when its mean changes by so much more than the median cell",
    )
    moved_cells: int = Field(default=2, ge=1, description="so many such cells are motion")


class DeadFrames:
    """Judges the frames of one pair of streams, in order: call it with (rgb, aux), each an image or None."""

    def __init__(self, rule: Dead | None = None) -> None:
        self.rule = rule or Dead()
        self._sides = (_Stillness(self.rule), _Stillness(self.rule))

    def __call__(self, rgb: Image | None, aux: Image | None) -> Reasons:
        """Why each of the two counts as dead; None where it does not, or is missing already.

        Images are (H, W, 3) uint8, each side of one size throughout; they are not kept.
        """
        images = (rgb, aux)
        reasons = [None if image is None else self._shows_nothing(image) for image in images]
        alive = [None if reason else image for image, reason in zip(images, reasons, strict=True)]
        frozen = [self._sides[side].frozen(alive[side], alive[1 - side]) for side in (0, 1)]
        return reasons[0] or frozen[0], reasons[1] or frozen[1]

    def _shows_nothing(self, image: Image) -> Reason | None:
        pixels = image.shape[0] * image.shape[1]
        stray = int(self.rule.stray * pixels)
        lows, highs = [], []
        for channel in range(image.shape[2]):
            histogram: Any = cv2.calcHist([image], [channel], None, [256], [0, 256])
            counts = np.cumsum(histogram.ravel(), dtype=np.float64)
            lows.append(int(np.searchsorted(counts, stray, side="right")))
            highs.append(int(np.searchsorted(counts, pixels - stray)))
        if max(highs) < self.rule.black_below:
            return "black"
        if min(lows) >= self.rule.saturated_from:
            return "saturated"
        spans = (high - low for low, high in zip(lows, highs, strict=True))
        return "one tone" if max(spans) <= self.rule.tone_span else None


class _Stillness:
    """One sensor: since when its picture has not changed, and what the other one showed then."""

    def __init__(self, rule: Dead) -> None:
        self._rule = rule
        self._first: Image | None = None
        self._repeats = 0
        self._witness: NDArray[np.float32] | None = None
        self._frozen = False

    def frozen(self, image: Image | None, other: Image | None) -> Reason | None:
        """Take the next frame into account."""
        if image is None or self._first is None or not self._unchanged(image, self._first):
            self._first = None if image is None else image.copy()
            self._repeats, self._witness, self._frozen = 0, None, False
            return None
        self._repeats += 1
        if not self._frozen and other is not None:
            if self._witness is None:
                self._witness = _cells(other)
            elif self._repeats >= self._rule.frozen_after:
                self._frozen = self._moved(self._witness, _cells(other))
        return "frozen" if self._frozen else None

    def _unchanged(self, image: Image, first: Image) -> bool:
        changed: Any = cv2.absdiff(image, first) > self._rule.still_levels
        return int(np.count_nonzero(changed)) <= self._rule.still_share * image.size

    def _moved(self, before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
        change = now - before
        change -= np.median(change)  # exposure and gain move every cell
        return int(np.count_nonzero(np.abs(change) >= self._rule.moved_levels)) >= self._rule.moved_cells


def _cells(image: Image) -> NDArray[np.float32]:
    """Mean grey level of each cell of about `CELL` pixels a side."""
    height, width = image.shape[:2]
    size = (max(1, round(width / CELL)), max(1, round(height / CELL)))
    means: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32).mean(axis=2)


def without_dead(pairs: Iterable[FramePair], rule: Dead | None = None) -> Iterator[FramePair]:
    """The same frames, dead images taken out, each with a note ("aux: frozen, counts as missing").

    The log says where a sensor goes and comes back.
    """
    judge = DeadFrames(rule)
    known: dict[Modality, Reason | None] = dict.fromkeys(MODALITIES)
    said: set[str] = set()
    for pair in pairs:
        reasons = judge(pair.rgb, pair.aux)
        for side, image, reason in zip(MODALITIES, (pair.rgb, pair.aux), reasons, strict=True):
            if image is not None and reason != known[side]:
                text = f"{side}: {reason}, counts as missing from frame" if reason else f"{side}: back at frame"
                log.log(logging.INFO if text in said else logging.WARNING, "%s %d", text, pair.index)
                said.add(text)
                known[side] = reason
        if any(reasons):
            rgb, aux = (None if why else image for image, why in zip((pair.rgb, pair.aux), reasons, strict=True))
            notes = tuple(
                f"{side}: {why}, counts as missing" for side, why in zip(MODALITIES, reasons, strict=True) if why
            )
            pair = replace(pair, rgb=rgb, aux=aux, notes=pair.notes + notes)
        yield pair
