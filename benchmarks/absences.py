"""Absences made of annotated videos, to measure what a tracker says of a target that is not there.

None of the annotated sets at hand has frames without the target, so these are put together: from a video's first
frames, an absence, and the frames after it. Nothing is kept on disk.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.sequence import Sequence
from duotrack.frames import Image

KINDS = ("cut", "gone", "hidden")
BEFORE, AFTER = 60, 45


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame, (rgb, aux), and the box of the target, None where it is not to be seen."""

    images: tuple[Image | None, Image | None]
    box: NDArray[np.float64] | None


def with_absence(sequence: Sequence, other: Sequence, kind: str) -> Iterator[Shot]:
    """The first frames of `sequence`, in which the target is absent for 30 to 60 frames; the same every time.

    "cut": frames of `other` are shown, its own target painted over, and then the video goes on from where it was: two
    hard cuts. "gone": the target is painted over with what is around it, while the video goes on. "hidden": a patch of
    the frame as large as the target and a half moves in, stays over it and moves on; where it leaves less than a third
    visible the target is absent.
    """
    rng = np.random.default_rng(zlib.crc32(f"{kind} {sequence.name}".encode()))
    length = int(rng.integers(30, 61))
    before = min(BEFORE, max(10, len(sequence) - length - AFTER))
    source = rng.uniform(0, 1, 2)
    for index in range(before):
        yield _shot(sequence, index)
    if kind == "cut":
        for index in range(length):
            pictures = [image for image in _painted_over(_shot(other, index % len(other))).images if image is not None]
            first = sequence.read(0)
            rgb, aux = (
                None if own is None else _fitted(pictures, at, own) for at, own in enumerate((first.rgb, first.aux))
            )
            yield Shot((rgb, aux), None)
        rest = before
    else:
        rest = before + length
        for index in range(before, min(rest, len(sequence))):
            shot = _shot(sequence, index)
            done = (index - before + 1) / length
            yield _painted_over(shot) if kind == "gone" else _covered(shot, done, source)
    for index in range(rest, min(rest + AFTER, len(sequence))):
        yield _shot(sequence, index)


def _shot(sequence: Sequence, index: int) -> Shot:
    pair = sequence.read(index)
    return Shot((pair.rgb, pair.aux), sequence.boxes[index] if sequence.visible[index] else None)


def _fitted(pictures: list[Image], at: int, like: Image) -> Image:
    picture = pictures[min(at, len(pictures) - 1)]
    return np.asarray(cv2.resize(picture, (like.shape[1], like.shape[0])), np.uint8)


def _painted_over(shot: Shot) -> Shot:
    """The target, if there is one, and a margin replaced by what is around it, blurred in from the rim."""
    if shot.box is None:
        return shot
    x, y, w, h = shot.box
    images = []
    for image in shot.images:
        if image is None:
            images.append(None)
            continue
        mask = np.zeros(image.shape[:2], np.uint8)
        left, top = round(max(0, x - 0.3 * w - 2)), round(max(0, y - 0.3 * h - 2))
        mask[top : round(y + 1.3 * h + 2), left : round(x + 1.3 * w + 2)] = 255
        images.append(np.asarray(cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA), np.uint8))
    return Shot((images[0], images[1]), None)


def _covered(shot: Shot, done: float, source: NDArray[np.float64]) -> Shot:
    """A patch cut from elsewhere in the frame before the target; at `done` 0.5 it hides it, at 0 and 1 it is beside."""
    if shot.box is None:
        return shot
    x, y, w, h = shot.box
    side_w, side_h = 1.5 * w + 4, 1.5 * h + 4
    # in from the left within the first tenth, on to the right within the last
    offset = side_w * (min(0.0, (done - 0.1) / 0.1) + max(0.0, (done - 0.9) / 0.1))
    left, top = x + w / 2 - side_w / 2 + offset, y + h / 2 - side_h / 2
    images: list[Image | None] = []
    for image in shot.images:
        if image is None:
            images.append(None)
            continue
        height, width = image.shape[:2]
        size = (min(round(side_h), height), min(round(side_w), width))
        down, across = round(source[0] * (height - size[0])), round(source[1] * (width - size[1]))
        patch = image[down : down + size[0], across : across + size[1]].copy()
        rows = slice(max(0, round(top)), max(0, min(height, round(top) + size[0])))
        columns = slice(max(0, round(left)), max(0, min(width, round(left) + size[1])))
        covered = image.copy()
        target = covered[rows, columns]
        target[:] = patch[: target.shape[0], : target.shape[1]]
        images.append(covered)
    shown = 1 - max(0.0, min(x + w, left + side_w) - max(x, left)) / w
    return Shot((images[0], images[1]), shot.box if shown > 1 / 3 else None)
