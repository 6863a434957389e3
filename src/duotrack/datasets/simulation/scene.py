"""A scene: a background, a camera, and what moves before it; its whole state follows from the time alone."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.cameras import Sensors
from duotrack.datasets.simulation.motion import Floats, Path
from duotrack.datasets.simulation.sprites import Pose
from duotrack.frames import Image

CHANNELS = 5
"""Values of a path that belong to one actor: x, y, log size, log aspect, angle."""
CAMERA = 8
"""Values before them: pan x, y, log zoom, angle, shake x, y, light, warmth contrast of the target."""


@dataclass(frozen=True, eq=False)
class Actor:
    """Something that moves, or stands, before the background.

    `poses` and `heats` belong together. `frame` says what its path is relative to: the picture, the target, or the
    background. `size` is the square root of its box's area in pixels at log size 0. Where its frame is the target it
    passes that at frame `crossing[0]` with the velocity `crossing[1:]` in pixels a frame. `pace` in poses a frame;
    `sway`: by how much of its height its top leans to a side at most.
    """

    poses: tuple[Pose, ...]
    heats: tuple[NDArray[np.uint8], ...]
    frame: Literal["picture", "target", "background"]
    channel: int
    size: float
    front: bool
    mirrored: bool = False
    pace: float = 0.0
    phase: float = 0.0
    sway: float = 0.0
    crossing: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """All of it.

    `actors[0]` is the target; `place` (2, 3) maps pixels of the background to the camera's plane; `drift` (3,) is what
    the thermal camera is off: x, y in pixels, and the excess of its scale. `night`: the visible picture is dark.
    `excess`: grey levels by which the target is warmer than the surroundings.
    """

    width: int
    height: int
    length: int
    background: Image
    heat: NDArray[np.uint8]
    place: Floats
    path: Path
    actors: tuple[Actor, ...]
    sensors: Sensors
    drift: Floats
    night: bool = False
    excess: float = 0.0

    def camera(self, time: float) -> Floats:
        """(2, 3) from the background's plane to pixels of the visible frame."""
        state = self.path.at(time)
        zoom, angle = np.exp(state[2]), state[3]
        turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = np.array([self.width / 2, self.height / 2])
        return np.column_stack([turn, centre - turn @ (state[:2] + state[4:6])])

    def matrix(self, actor: Actor, time: float) -> Floats:
        """(2, 3) from an actor's unit square, x and y from -0.5 to 0.5, to pixel edges of the visible frame."""
        state = self.path.at(time)
        own = state[actor.channel : actor.channel + CHANNELS]
        zoom = float(state[2])
        if actor.frame == "background":
            camera = self.camera(time)
            centre, tilt = camera[:, :2] @ own[:2] + camera[:, 2], float(state[3])
        else:
            centre, tilt = own[:2] - np.exp(zoom) * state[4:6], 0.0
            if actor.frame == "target":
                first = self.actors[0]
                origin = state[first.channel : first.channel + 2]
                since = time - actor.crossing[0]
                centre = centre + origin + since * np.array(actor.crossing[1:])
        height, width = actor.poses[0].colour.shape[:2]
        size = actor.size * float(np.exp(own[2] + zoom))
        aspect = np.sqrt(width / height) * np.exp(own[3] / 2)
        wide, tall = size * aspect * (-1 if actor.mirrored else 1), size / aspect
        angle = float(own[4]) + tilt
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = actor.sway * np.sin(0.11 * time + actor.phase)
        return np.column_stack([turn @ np.array([[wide, shear * tall], [0, tall]]), centre])

    def pose(self, actor: Actor, time: float) -> int:
        """Which pose an actor has."""
        return int(actor.phase + actor.pace * time) % len(actor.poses)

    def full_box(self, actor: Actor, time: float) -> Floats:
        """(4,) x, y, w, h of an actor's whole outline, occluded or outside the picture or not, in pixel edges."""
        matrix = self.matrix(actor, time)
        outline = actor.poses[self.pose(actor, time)].outline
        points = outline @ matrix[:, :2].T + matrix[:, 2]
        low, high = points.min(axis=0), points.max(axis=0)
        return np.concatenate([low, high - low])

    def contrast(self, time: float) -> float:
        """How much of its warmth the target shows, from 0, as warm as what is behind it, to 1."""
        return float(np.clip(self.path.at(time)[7], 0, 1))


def clip_box(box: Floats, width: int, height: int) -> Floats:
    """The part of an `xywh` box inside the picture; all zero where there is none."""
    low = np.maximum(box[:2], 0)
    high = np.minimum(box[:2] + box[2:], (width, height))
    if (high <= low).any():
        return np.zeros(4)
    return np.concatenate([low, high - low])


def stamp(
    image: NDArray[np.uint8], matrix: Floats, width: int, height: int, margin: int = 0
) -> tuple[NDArray[np.uint8], int, int] | None:
    """A sprite warped to its place: the pixels of its part of the frame, and that part's left and top.

    Args:
        image: (h, w, C) uint8, premultiplied.
        matrix: (2, 3) of its unit square to the frame's pixel edges.
        width, height: of the frame; None comes back for a sprite outside it.
        margin: pixels to take in around the sprite.
    """
    half_w = 0.5 * (abs(matrix[0, 0]) + abs(matrix[0, 1])) + margin
    half_h = 0.5 * (abs(matrix[1, 0]) + abs(matrix[1, 1])) + margin
    left, right = max(int(matrix[0, 2] - half_w) - 1, 0), min(int(matrix[0, 2] + half_w) + 2, width)
    top, bottom = max(int(matrix[1, 2] - half_h) - 1, 0), min(int(matrix[1, 2] + half_h) + 2, height)
    if right <= left or bottom <= top:
        return None
    rows, columns = image.shape[:2]
    wide, tall = np.hypot(matrix[0, 0], matrix[1, 0]), np.hypot(matrix[0, 1], matrix[1, 1])
    if wide < 0.6 * columns or tall < 0.6 * rows:  # linear interpolation alone would leave pixels out
        size = (max(min(columns, round(wide)), 1), max(min(rows, round(tall)), 1))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        rows, columns = image.shape[:2]
    linear = matrix[:, :2] / (columns, rows)
    # pixel centres: (c + 0.5) / n - 0.5 in the unit square, and 0.5 less than the edge coordinate in the frame
    shift = matrix[:, 2] + linear @ (0.5 - np.array([columns, rows]) / 2) - 0.5 - np.array([left, top])
    warped = cv2.warpAffine(
        image, np.column_stack([linear, shift]), (right - left, bottom - top), flags=cv2.INTER_LINEAR
    )
    return np.asarray(warped, np.uint8), left, top
