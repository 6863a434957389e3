"""A scene's frames and truth at any time."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.cameras import LONGEST, feel, see, smeared
from duotrack.datasets.simulation.motion import Floats
from duotrack.datasets.simulation.scene import Actor, Scene, clip_box, stamp
from duotrack.frames import Image

LEAST_SHOWN = 0.08
"""Less of the target's area in view counts as absent."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of one frame.

    `box` (4,) x, y, w, h in pixel edges of the visible frame: the target's whole outline as far as it lies in the
    picture, occluded or not; all zero where the target is absent. `shown` is the share of its area that is in the
    picture and not occluded, `inside` the share that is in the picture.
    """

    box: Floats
    shown: float
    inside: float

    @property
    def present(self) -> bool:
        """Whether anything worth the name is in view."""
        return bool(self.box[2] > 0)


def truth(scene: Scene, time: float) -> Truth:
    """The target's box at `time`, and how much of it is in view."""
    target = scene.actors[0]
    full = scene.full_box(target, time)
    box = clip_box(full, scene.width, scene.height)
    colour = target.poses[scene.pose(target, time)].colour
    stamped = None if not box[2] else stamp(colour, scene.matrix(target, time), scene.width, scene.height)
    if stamped is None:
        return Truth(np.zeros(4), 0.0, 0.0)
    pixels, left, top = stamped
    alpha = pixels[..., 3].astype(np.float32)
    area = float(alpha.sum())
    scale = abs(float(np.linalg.det(scene.matrix(target, time)[:, :2])))
    whole = float(colour[..., 3].mean()) * scale
    for actor in scene.actors[1:]:
        if actor.front and area > 0:
            _hide(alpha, left, top, scene, actor, time)
    shown, inside = (min(part / max(whole, 1e-6), 1.0) for part in (float(alpha.sum()), area))
    if shown < LEAST_SHOWN or min(box[2:]) < 1:
        box = np.zeros(4)
    return Truth(box, shown, inside)


def _hide(alpha: NDArray[np.float32], left: int, top: int, scene: Scene, actor: Actor, time: float) -> None:
    """Take from an alpha at (left, top) what an actor before it covers."""
    matrix = scene.matrix(actor, time)
    reach = 0.5 * (abs(matrix[:, 0]) + abs(matrix[:, 1]))
    away = np.abs(matrix[:, 2] - (left + alpha.shape[1] / 2, top + alpha.shape[0] / 2))
    if (away > reach + np.array([alpha.shape[1], alpha.shape[0]]) / 2).any():
        return
    moved = matrix.copy()
    moved[:, 2] -= (left, top)
    stamped = stamp(actor.poses[scene.pose(actor, time)].colour, moved, alpha.shape[1], alpha.shape[0])
    if stamped is not None:
        pixels, x, y = stamped
        alpha[y : y + pixels.shape[0], x : x + pixels.shape[1]] *= 1 - pixels[..., 3].astype(np.float32) / 255


def visible_frame(scene: Scene, time: float, rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 RGB; `rng` draws the noise of this frame."""
    camera, exposure = scene.camera(time), scene.sensors.exposure
    image = _backdrop(scene.background, scene, camera, np.zeros(3))
    if exposure:
        middle = np.array([scene.width / 2, scene.height / 2])
        plane = cv2.invertAffineTransform(camera) @ [*middle, 1]
        image = smeared(image, exposure * (scene.camera(time + 1) @ [*plane, 1] - middle))
    for actor in _order(scene):
        matrix = scene.matrix(actor, time)
        moved = exposure * (scene.matrix(actor, time + 1)[:, 2] - matrix[:, 2]) if exposure else np.zeros(2)
        margin = int(min(np.abs(moved).max(), LONGEST) / 2 + 0.5)
        colour = actor.poses[scene.pose(actor, time)].colour
        stamped = stamp(colour, matrix, scene.width, scene.height, margin)
        if stamped is not None:
            pixels, left, top = stamped
            pixels = smeared(pixels, moved)
            part = image[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            rest = cv2.merge([cv2.bitwise_not(pixels[..., 3])] * 3)
            part[:] = cv2.add(cv2.multiply(part, rest, scale=1 / 255), np.ascontiguousarray(pixels[..., :3]))
    return see(image, scene.sensors, float(scene.path.at(time)[6]), rng)


def thermal_frame(scene: Scene, time: float, rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8, three equal channels; `rng` draws the noise of this frame."""
    heat = _backdrop(scene.heat, scene, scene.camera(time), scene.drift)
    contrast = scene.contrast(time)
    for index, actor in _numbered(scene):
        matrix = _drifted(scene.matrix(actor, time), scene)
        stamped = stamp(actor.heats[scene.pose(actor, time)], matrix, scene.width, scene.height)
        if stamped is None:
            continue
        pixels, left, top = stamped
        part = heat[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        alpha = np.ascontiguousarray(pixels[..., 1])
        warmth: Any = np.ascontiguousarray(pixels[..., 0])
        if index == 0 and contrast < 1:
            around = float(cv2.mean(part, alpha)[0]) / 255
            warmth = cv2.addWeighted(warmth, contrast, alpha, (1 - contrast) * around, 0)
        part[:] = cv2.add(cv2.multiply(part, cv2.bitwise_not(alpha), scale=1 / 255), warmth)
    return feel(heat, scene.sensors, rng)


def _order(scene: Scene) -> list[Actor]:
    return [actor for _, actor in _numbered(scene)]


def _numbered(scene: Scene) -> list[tuple[int, Actor]]:
    """Actors from back to front with their numbers."""
    others = list(enumerate(scene.actors))[1:]
    behind, before = ([pair for pair in others if pair[1].front == front] for front in (False, True))
    return [*behind, (0, scene.actors[0]), *before]


def _drifted(matrix: Floats, scene: Scene) -> Floats:
    """The same place as the thermal camera sees it: `drift` is x, y in pixels and the excess of its scale."""
    centre = np.array([scene.width / 2, scene.height / 2])
    scale = 1 + scene.drift[2]
    moved = matrix * scale
    moved[:, 2] += centre * (1 - scale) + scene.drift[:2]
    return moved


def _backdrop(canvas: NDArray[np.uint8], scene: Scene, camera: Floats, drift: Floats) -> NDArray[np.uint8]:
    """The background as a camera sees it; a canvas smaller than the visible one covers the same plane."""
    ratio = scene.background.shape[1] / canvas.shape[1], scene.background.shape[0] / canvas.shape[0]
    whole = camera[:, :2] @ scene.place
    whole[:, 2] += camera[:, 2]
    if drift.any():
        whole = _drifted(whole, scene)
    # both sides from pixel edges to pixel centres
    linear = whole[:, :2] * ratio
    shift = whole[:, 2] + linear @ (0.5, 0.5) - 0.5
    size = (scene.width, scene.height)
    warped = cv2.warpAffine(
        canvas, np.column_stack([linear, shift]), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.uint8)
