"""A picture of one object with its outline: what all cut-outs, drawn or photographed, become."""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.frames import Image

Kind = Literal["person", "vehicle", "animal", "flyer", "thing"]

MAX_SIDE = 224
"""Longest side of a held sprite, in pixels."""
MAX_POINTS = 160
"""Points kept of an outline."""


@dataclass(frozen=True, eq=False)
class Pose:
    """One look of an object.

    `colour` (h, w, 4) uint8 RGB times alpha, alpha; `warm` (h, w) uint8 how warm each part is between the object's
    coldest (0) and warmest (255), None: not known; `infrared` (h, w) uint8 a true thermal picture, or None;
    `outline` (P, 2) float32 points on its border, x, y from the centre, over width and height.
    """

    colour: NDArray[np.uint8]
    warm: NDArray[np.uint8] | None
    infrared: NDArray[np.uint8] | None
    outline: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sprite:
    """An object: equally large poses, one for things that do not move their parts.

    `inside`: the object that this one is with a piece of its surroundings.
    """

    kind: Kind
    poses: tuple[Pose, ...]
    inside: "Sprite | None" = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.poses[0].colour.shape[:2]
        return width, height

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return sum(
            pose.colour.nbytes + sum(each.nbytes for each in (pose.warm, pose.infrared) if each is not None)
            for pose in self.poses
        )


def make_pose(
    rgb: Image, alpha: NDArray[np.uint8], *, warm: Any = None, infrared: Any = None, side: float | None = None
) -> Pose | None:
    """A pose of a picture and its alpha, cut to what is opaque and at most `side` (default `MAX_SIDE`) pixels long.

    None where less than a handful of pixels is opaque.
    """
    x, y, w, h = cv2.boundingRect(np.asarray(alpha > 127, np.uint8))
    if w < 3 or h < 3:
        return None
    part = (slice(y, y + h), slice(x, x + w))
    rgb, alpha = rgb[part], alpha[part]
    factor = min(1.0, (side or MAX_SIDE) / max(w, h))
    size = (max(round(w * factor), 2), max(round(h * factor), 2))
    colour = np.dstack([cv2.multiply(rgb, cv2.merge([alpha] * 3), scale=1 / 255), alpha])
    outline = outline_of(alpha)
    others = [None if each is None else _fit(np.ascontiguousarray(each[part]), size) for each in (warm, infrared)]
    return Pose(_fit(colour, size), others[0], others[1], outline)


def outline_of(alpha: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(P, 2) points of the convex hull of the opaque pixels' corners, from the centre, over width and height."""
    height, width = alpha.shape
    mask = alpha > 127
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), width - mask[rows, ::-1].argmax(axis=1)
    edges = np.concatenate([np.stack([first, rows], axis=1), np.stack([last, rows], axis=1)])
    corners = np.concatenate([edges, edges + np.array([0, 1])])
    hull = np.asarray(cv2.convexHull(corners.astype(np.int32)), np.float32).reshape(-1, 2)
    if len(hull) > MAX_POINTS:
        hull = hull[np.linspace(0, len(hull) - 1, MAX_POINTS).astype(int)]
    return (hull / (width, height) - 0.5).astype(np.float32)


def shrink(pose: Pose, side: float) -> Pose:
    """The pose with its longest side at most about `side` pixels; itself where it is smaller."""
    height, width = pose.colour.shape[:2]
    factor = side / max(height, width)
    if factor >= 0.95:
        return pose
    size = (max(round(width * factor), 2), max(round(height * factor), 2))
    small = [None if each is None else _fit(each, size) for each in (pose.colour, pose.warm, pose.infrared)]
    assert small[0] is not None  # every pose has colours
    return Pose(small[0], small[1], small[2], pose.outline)


def _fit(image: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    if (image.shape[1], image.shape[0]) == size:
        return np.ascontiguousarray(image, np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
