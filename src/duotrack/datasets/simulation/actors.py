"""Making the things of a scene: which picture, which colours, how warm."""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.assets import KINDS, Background, Pool
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
        sprite = choice[int(rng.integers(len(choice)))]
        return self.framed(sprite) if self.settings.framed and rng.random() < self.settings.framed else sprite

    def like(self, sprite: Sprite) -> Sprite:
        """Another object of the same class and manner."""
        if sprite.inside is not None:
            return self.framed(self.like(sprite.inside))
        if not any(sprite is each for each in (*self.pool.cutouts[sprite.kind], *self.pool.shapes[sprite.kind])):
            return self.region() or sprite
        drawn = self.pool.shapes[sprite.kind]
        choice = self.pool.cutouts[sprite.kind]
        if not choice or any(sprite is each for each in drawn):
            choice = drawn
        return choice[int(self.rng.integers(len(choice)))]

    def framed(self, sprite: Sprite) -> Sprite:
        """The object with what is behind it in its box, a few pixels less: what a crop of a box shows.

        One of which a true thermal picture is held stays as it is, and so does a very thin one.
        """
        width, height = sprite.size
        if min(width, height) < 8 or any(pose.infrared is not None for pose in sprite.poses):
            return sprite
        rng = self.rng
        background = self.picture()
        rows, columns = background.rgb.shape[:2]
        share = float(rng.uniform(0.1, 0.6)) * min(columns / width, rows / height)
        w, h = max(int(width * share), 2), max(int(height * share), 2)
        x, y = int(rng.integers(columns - w + 1)), int(rng.integers(rows - h + 1))
        behind = cv2.resize(background.rgb[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
        cold = np.full((height, width), int(rng.integers(0, 120)), np.uint8)
        edge = rng.integers(0, max(round(0.06 * min(width, height)), 1) + 1, 4)  # a box may cut a little off
        part = (slice(int(edge[0]), height - int(edge[1])), slice(int(edge[2]), width - int(edge[3])))
        mask = _rounded(width, height, edge)
        made = []
        for pose in sprite.poses:
            alpha = pose.colour[..., 3:]
            shown = cv2.multiply(behind, 255 - np.repeat(alpha, 3, axis=2), scale=1 / 255)
            rgb = np.asarray(pose.colour[..., :3] + shown, np.uint8)
            warm = np.full_like(cold, 230) if pose.warm is None else pose.warm
            heat = (warm * (alpha[..., 0] / 255) + cold * (1 - alpha[..., 0] / 255)).astype(np.uint8)
            made.append(make_pose(rgb[part], mask[part], warm=heat[part]))
        poses = tuple(pose for pose in made if pose is not None)
        return Sprite(sprite.kind, poses, inside=sprite) if len(poses) == len(made) else sprite

    def picture(self) -> Background:
        """A background to take a piece of."""
        pool = self.pool
        choice = pool.drawn if not pool.photos or self.rng.random() < self.settings.procedural else pool.photos
        return choice[int(self.rng.integers(len(choice)))]

    def region(self) -> Sprite | None:
        """A part of a background as an object: a rectangle, an ellipse or a polygon; None where it is too small."""
        rng = self.rng
        background = self.picture()
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
    """A whole rectangle, one with rounded, soft corners, an ellipse or a polygon, the latter with soft rims."""
    pick = rng.random()
    if pick < 0.25:
        return np.full((height, width), 255, np.uint8)
    if pick < 0.5:
        return _rounded(width, height, np.zeros(4, int))
    mask = np.zeros((height, width), np.uint8)
    if pick < 0.75:
        axes = (max(width // 2 - 1, 1), max(height // 2 - 1, 1))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 14))))
        reach = rng.uniform(0.6, 1, len(angles))[:, None]
        points = np.stack([np.cos(angles) * width / 2, np.sin(angles) * height / 2], axis=1) * reach
        cv2.fillPoly(mask, [(points + np.array([width / 2, height / 2])).astype(np.int32)], 255, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.8), np.uint8)


def _rounded(width: int, height: int, edge: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Opacity of a rectangle whose corners fade; `edge`: rows above and below, columns left and right that are none."""
    x = (2 * np.arange(width) + 1 - edge[2] + edge[3] - width) / (width - edge[2] - edge[3])
    y = (2 * np.arange(height) + 1 - edge[0] + edge[1] - height) / (height - edge[0] - edge[1])
    corner = np.abs(x)[None, :] ** 5 + np.abs(y)[:, None] ** 5
    return np.asarray(255 * np.clip((1.12 - corner) / 0.25, 0, 1) * (corner < 2), np.uint8)


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
