"""Making the things of a scene: which picture, which colours, how warm."""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.assets import KINDS, Pool
from duotrack.datasets.simulation.motion import Ways
from duotrack.datasets.simulation.scene import Actor
from duotrack.datasets.simulation.settings import Scenes
from duotrack.datasets.simulation.sprites import Kind, Pose, Sprite, make_pose, shrink
from duotrack.datasets.simulation.thermal import Climate, object_heat

Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Draft:
    """What the things of one scene are drawn from, and the path that they add to."""

    rng: Rng
    pool: Pool
    settings: Scenes
    climate: Climate
    ways: Ways
    skyward: bool

    def kind(self) -> Kind:
        """A class of object that such a scene may hold."""
        if self.skyward:
            return "flyer" if self.rng.random() < 0.85 else "thing"
        return KINDS[int(self.rng.choice(len(KINDS), p=[0.38, 0.27, 0.12, 0.05, 0.18]))]

    def sprite(self, kind: Kind) -> Sprite:
        """An object: a cut-out, a region of a background, or a drawn one."""
        rng, pool = self.rng, self.pool
        if rng.random() < self.settings.regions:
            region = self.region()
            if region is not None:
                return region
        choice = pool.cutouts[kind] or tuple(each for kinds in KINDS for each in pool.cutouts[kinds])
        if not choice or rng.random() < self.settings.procedural:
            choice = pool.shapes[kind]
        return choice[int(rng.integers(len(choice)))]

    def like(self, sprite: Sprite) -> Sprite:
        """Another object of the same class and manner."""
        if not any(sprite is each for each in (*self.pool.cutouts[sprite.kind], *self.pool.shapes[sprite.kind])):
            return self.region() or sprite
        drawn = self.pool.shapes[sprite.kind]
        choice = self.pool.cutouts[sprite.kind]
        if not choice or any(sprite is each for each in drawn):
            choice = drawn
        return choice[int(self.rng.integers(len(choice)))]

    def region(self) -> Sprite | None:
        """A part of a background as an object: a rectangle, an ellipse or a polygon; None where it is too small."""
        rng, pool = self.rng, self.pool
        choice = pool.drawn if not pool.photos or rng.random() < self.settings.procedural else pool.photos
        background = choice[int(rng.integers(len(choice)))]
        height, width = background.rgb.shape[:2]
        side = float(np.exp(rng.uniform(np.log(24), np.log(150))))
        stretch = float(np.exp(rng.uniform(-0.6, 0.6)))
        w, h = int(min(side * stretch, width - 2)), int(min(side / stretch, height - 2))
        best: tuple[float, int, int] = (-1.0, 0, 0)
        for _ in range(3):  # the most varied of three: seldom plain sky or wall
            x, y = int(rng.integers(width - w)), int(rng.integers(height - h))
            best = max(best, (float(background.rgb[y : y + h : 3, x : x + w : 3].std()), x, y))
        rows, columns = slice(best[2], best[2] + h), slice(best[1], best[1] + w)
        infrared = None if background.infrared is None else background.infrared[rows, columns]
        part = np.ascontiguousarray(background.rgb[rows, columns])
        pose = make_pose(part, _mask(rng, w, h), infrared=infrared)
        return None if pose is None else Sprite("thing", (pose,))

    def actor(
        self,
        sprite: Sprite,
        frame: Literal["picture", "target", "background"],
        rows: list[tuple[float, float, float, float]],
        *,
        excess: float,
        size: float,
        most: float,
        front: bool = False,
        crossing: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Actor:
        """An object in the scene.

        Args:
            sprite: its picture. frame: what its path is relative to. rows: its values, as `Ways.add` takes them.
            excess: how much warmer than the surroundings. size: square root of its box's area at first, in pixels.
            most: the largest size that it is shown with. front: whether it hides the target.
            crossing: see `Actor`.
        """
        rng = self.rng
        width, height = sprite.size
        longest = max(most * max(width, height) / np.sqrt(width * height), 6)
        poses = tuple(shrink(pose, 1.25 * longest) for pose in sprite.poses)
        poses = _recoloured(rng, poses, strong=bool(rng.random() < self.settings.recolour))
        living = sprite.kind in ("person", "animal", "flyer")
        return Actor(
            poses,
            object_heat(rng, poses, self.climate, excess),
            frame,
            self.ways.add(*rows),
            size,
            front,
            mirrored=bool(rng.random() < 0.5),
            pace=float(rng.uniform(0.1, 0.35)) if len(poses) > 1 and rng.random() < 0.85 else 0.0,
            phase=float(rng.uniform(0, 6)),
            sway=float(rng.uniform(0, 0.12)) if living or rng.random() < 0.3 else 0.0,
            crossing=crossing,
        )


def _mask(rng: Rng, width: int, height: int) -> NDArray[np.uint8]:
    """A whole rectangle, an ellipse or a polygon, the latter with soft rims."""
    pick = rng.random()
    if pick < 0.4:
        return np.full((height, width), 255, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    if pick < 0.7:
        axes = (max(width // 2 - 1, 1), max(height // 2 - 1, 1))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 14))))
        reach = rng.uniform(0.6, 1, len(angles))[:, None]
        points = np.stack([np.cos(angles) * width / 2, np.sin(angles) * height / 2], axis=1) * reach
        cv2.fillPoly(mask, [(points + np.array([width / 2, height / 2])).astype(np.int32)], 255, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.8), np.uint8)


def _recoloured(rng: Rng, poses: tuple[Pose, ...], *, strong: bool) -> tuple[Pose, ...]:
    """The same things in another light, or with other colours."""
    gain = np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.25 if strong else 0.06, 3))
    order = rng.permutation(3) if strong and rng.random() < 0.25 else np.arange(3)
    made = []
    for pose in poses:
        channels = cv2.split(pose.colour)
        lit = [
            cv2.min(cv2.convertScaleAbs(channels[int(i)], alpha=float(by)), channels[3])
            for i, by in zip(order, gain, strict=True)
        ]
        made.append(replace(pose, colour=np.asarray(cv2.merge([*lit, channels[3]]), np.uint8)))
    return tuple(made)
