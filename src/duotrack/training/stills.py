"""Pairs from one still image: any region is a target, and the search frame is the same picture seen otherwise."""

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.frames import FramePair, Image


def draw_region(image: Image, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random `xywh` region of an image, the most varied of four, so that it is seldom plain sky or wall."""
    height, width = image.shape[:2]
    best, most = np.zeros(4), -1.0
    for _ in range(4):
        side = min(height, width) * np.exp(rng.uniform(np.log(0.06), np.log(0.4)))
        stretch = np.exp(rng.uniform(-0.7, 0.7))
        w, h = min(side * stretch, 0.9 * width), min(side / stretch, 0.9 * height)
        box = np.array([rng.uniform(0, width - w), rng.uniform(0, height - h), w, h])
        rows, columns = slice(int(box[1]), int(box[1] + h) + 1), slice(int(box[0]), int(box[0] + w) + 1)
        variety = float(image[rows, columns].std())
        if variety > most:
            best, most = box, variety
    return best


def another_view(
    pair: FramePair, box: NDArray[np.float64], rng: np.random.Generator
) -> tuple[FramePair, NDArray[np.float64]]:
    """The pair turned, scaled and stretched about the box's centre, and the box there; the same for both modalities."""
    angle = rng.normal(0, 0.12)
    stretch = np.exp(rng.normal(0, 0.15, 2))
    shear = rng.normal(0, 0.06)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(stretch)
    centre = box[:2] + box[2:] / 2
    matrix = np.concatenate([linear, (centre - linear @ centre)[:, None]], axis=1)
    size = box[2:] * stretch
    views = [None if image is None else _warp(image, matrix) for image in (pair.rgb, pair.aux)]
    return FramePair(pair.index, views[0], views[1]), np.concatenate([centre - size / 2, size])


def _warp(image: Image, matrix: NDArray[np.float64]) -> Image:
    height, width = image.shape[:2]
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8)
