"""Made-up video, to measure speed where none is at hand."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from duotrack.files import atomic_path
from duotrack.frames import MODALITIES, Image, Modality
from duotrack.video.encode import open_encoder


def scene(
    size: tuple[int, int], frames: int, modality: Modality
) -> Iterator[tuple[Image, tuple[float, float, float, float]]]:
    """A blob that moves over a drifting ground: each frame (H, W, 3) uint8 and the blob's x, y, w, h.

    Args:
        size: width and height.
        frames: how many.
        modality: "rgb" is in colour, "aux" looks like thermal; the blob is at the same place in both.
    """
    width, height = size
    rng = np.random.default_rng(MODALITIES.index(modality))
    ground = _texture(rng, (height + 64, width + 64), 8, 150)
    side = max(8, min(size) // 8)
    blob = _texture(rng, (side, side), 4, 255) // 2 + 127
    for index in range(frames):
        angle = 2 * np.pi * index / frames
        x = round((width - side) * (0.5 + 0.3 * float(np.cos(angle))))
        y = round((height - side) * (0.5 + 0.3 * float(np.sin(2 * angle))))
        shift = round(24 + 24 * float(np.sin(index / 9)))
        image = ground[shift : shift + height, shift : shift + width].copy()
        image[y : y + side, x : x + side] = blob
        yield (image if modality == "rgb" else np.repeat(image[:, :, :1], 3, axis=2)), (x, y, side, side)


def write_clip(
    path: Path, *, size: tuple[int, int], frames: int, modality: Modality
) -> tuple[float, float, float, float]:
    """Write a `scene` as a video (width and height even); returns the blob's first x, y, w, h."""
    boxes = []
    with atomic_path(path) as temporary:
        encoder = open_encoder(temporary, size=size, fps=25)
        try:
            for image, box in scene(size, frames, modality):
                encoder.write(image)
                boxes.append(box)
        except BaseException:
            encoder.abandon()
            raise
        encoder.finish()
    return boxes[0]


def _texture(rng: np.random.Generator, shape: tuple[int, int], grain: int, brightest: int) -> Image:
    """Coarse noise, smoothed: what a video encoder meets in real pictures rather than single pixels."""
    height, width = shape
    coarse = rng.integers(0, brightest, (height // grain + 2, width // grain + 2, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
