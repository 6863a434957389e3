"""Drawing a random scene."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from duotrack.datasets.simulation.assets import KINDS, Background, Pool
from duotrack.datasets.simulation.cameras import draw_sensors
from duotrack.datasets.simulation.motion import Floats, wander
from duotrack.datasets.simulation.scene import CAMERA, CHANNELS, Actor, Scene
from duotrack.datasets.simulation.settings import Scenes
from duotrack.datasets.simulation.sprites import Kind, Pose, Sprite, make_pose, shrink
from duotrack.datasets.simulation.thermal import Climate, background_heat, draw_climate, draw_excess, object_heat

Rng = np.random.Generator


@dataclass
class _Ways:
    """Starts, speeds and walls of all values of a scene's path, as they are added."""

    start: list[float]
    speed: list[float]
    low: list[float]
    high: list[float]

    def add(self, rows: list[tuple[float, float, float, float]]) -> int:
        """Add values (start, speed, low, high); gives the number of the first."""
        first = len(self.start)
        for row in rows:
            for values, value in zip((self.start, self.speed, self.low, self.high), row, strict=True):
                values.append(value)
        return first


def draw_scene(
    rng: Rng, pool: Pool, settings: Scenes, length: int, *, leaves: bool = False, crossing: float = 0
) -> Scene:
    """A scene of `length` frames.

    Args:
        rng: draws everything.
        pool: the pictures.
        settings: frame size and the shares of difficulties.
        length: frames.
        leaves: the target goes out of view at times.
        crossing: the frame at which occluders and passing objects are likely to meet the target; 0: any.
    """
    width, height = settings.width, settings.height
    short = min(width, height)
    skyward = rng.random() < settings.sky
    kind = _kind(rng, skyward)
    background, place, walls = _background(rng, pool, settings, skyward)
    climate = draw_climate(rng, skyward=skyward)
    largest = max(settings.largest * short, settings.smallest)
    if skyward:
        largest = min(largest, max(0.2 * short, settings.smallest))
    size = float(np.exp(rng.uniform(np.log(settings.smallest), np.log(largest))))
    moving, fast = rng.random() < settings.camera, rng.random() < settings.fast
    night, crossed = rng.random() < settings.night, rng.random() < settings.crossover
    crossed = crossed and (not night or rng.random() < 0.15)
    changing = rng.random() < settings.light
    scale = width / 320
    pan = float(np.exp(rng.uniform(np.log(0.1), np.log(1.5)))) * scale if moving else 0.0
    shake = float(rng.uniform(0.5, 5)) * scale if moving and fast and rng.random() < 0.5 else 0.0
    jolt = float(rng.uniform(0.1, 0.6)) * scale if moving and rng.random() < 0.4 else 0.0
    zoom = float(rng.uniform(0.001, 0.006)) if moving and rng.random() < 0.5 else 0.0
    ways = _Ways([], [], [], [])
    ways.add(
        [
            (float(rng.uniform(-0.3, 0.3)) * walls[0], pan, -walls[0], walls[0]),
            (float(rng.uniform(-0.3, 0.3)) * walls[1], 0.5 * pan, -walls[1], walls[1]),
            (0.0, zoom, -0.15, 0.35),
            (float(rng.normal(0, 0.02)), 0.0006 if moving else 0.0, -0.12, 0.12),
            (0.0, shake + jolt, -jolt - shake, jolt + shake),
            (0.0, shake + jolt, -jolt - shake, jolt + shake),
            (0.0, float(rng.uniform(0.003, 0.02)) if changing else 0.0, -0.9, 0.5),
            (float(rng.uniform(-0.2, 0.6)), 0.01, -0.2, 0.8) if crossed else (1.5, 0.0, 1.0, 2.0),
        ]
    )
    # the target: by its kind upright or turning, faster when it is to be fast
    speed = float(np.exp(rng.uniform(np.log(0.15), np.log(1.6)))) * scale
    if fast:
        speed = min(float(rng.uniform(0.08, 0.3)) * size + float(rng.uniform(1, 4)) * scale, 8 * scale)
    sprite = _sprite(rng, pool, settings, kind)
    margin = -1.2 * size if leaves else 0.45 * size
    out = float(rng.uniform(0.5, 2.5)) * scale if leaves else 0.0
    x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height
    turning = 0.02 if kind in ("thing", "flyer") and rng.random() < 0.5 else 0.0015
    channel = ways.add(
        [
            (x, speed + out, margin, width - margin),
            (y, 0.5 * speed + out, margin, height - margin),
            (
                0.0,
                0.006 if rng.random() < 0.6 else 0.002,
                np.log(settings.smallest / size) - 0.1,
                np.log(largest / size),
            ),
            (0.0, 0.005 if rng.random() < 0.4 else 0.0015, -0.5, 0.5),
            (float(rng.normal(0, 0.06)), turning, -0.25 if turning < 0.01 else -9.0, 0.25 if turning < 0.01 else 9.0),
        ]
    )
    excess = draw_excess(rng, kind, climate)
    if night and abs(excess) < 25 and rng.random() < 0.85:  # seen by neither camera it could not be followed
        excess = float(rng.uniform(25, 110))
    growth = 1.6
    target = _actor(rng, sprite, climate, excess, size, "picture", channel, most=growth * size)
    actors = [target]
    if rng.random() < settings.distractors:
        for _ in range(int(rng.integers(1, 5))):
            actors.append(_companion(rng, pool, settings, sprite, target, climate, excess, length, crossing, ways))
    for _ in range(int(rng.integers(0, 4))):
        actors.append(_passer(rng, pool, settings, skyward, climate, size, walls, ways))
    hidden = rng.random() < settings.occlusion
    if hidden:
        actors += _occluders(rng, pool, settings, climate, size, length)
    path = wander(rng, length, *(np.array(each) for each in (ways.start, ways.speed, ways.low, ways.high)))
    said = {"NI": night, "TC": crossed or abs(excess) < 8, "CM": moving, "LI": night, "SA": len(actors) > 1, "FM": fast}
    drift = np.array([*rng.normal(0, settings.misalignment * scale, 2), rng.normal(0, 0.003 * settings.misalignment)])
    scene = Scene(
        width,
        height,
        length,
        background.rgb,
        background_heat(rng, background, climate),
        place,
        path,
        tuple(actors),
        draw_sensors(rng, settings, night=night, climate=climate),
        drift,
        frozenset(name for name, holds in said.items() if holds),
    )
    return _placed(rng, scene, crossing) if hidden else scene


def _kind(rng: Rng, skyward: bool) -> Kind:
    if skyward:
        return "flyer" if rng.random() < 0.85 else "thing"
    return KINDS[int(rng.choice(len(KINDS), p=[0.38, 0.27, 0.12, 0.05, 0.18]))]


def _background(
    rng: Rng, pool: Pool, settings: Scenes, skyward: bool
) -> tuple[Background, Floats, tuple[float, float]]:
    """A background, its (2, 3) place in the camera's plane about the origin, and how far the camera may pan."""
    choice = pool.skies if skyward else pool.photos
    if not choice or (not skyward and rng.random() < settings.procedural):
        choice = pool.drawn
    background = choice[int(rng.integers(len(choice)))]
    height, width = background.rgb.shape[:2]
    least = max(settings.width / width, settings.height / height) * 1.08
    scale = least * float(np.exp(rng.uniform(0, np.log(2.2))))
    angle = rng.normal(0, 0.04)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        turn = turn @ np.diag([-1.0, 1.0])
    room = np.maximum((np.array([width, height]) * scale - (settings.width, settings.height)) / 2, 1)
    centre = rng.uniform(-0.9, 0.9, 2) * room
    place = np.column_stack([turn, -turn @ np.array([width / 2, height / 2]) + centre])
    walls = room - np.abs(centre)
    return background, place, (float(walls[0]), float(walls[1]))


def _sprite(rng: Rng, pool: Pool, settings: Scenes, kind: Kind) -> Sprite:
    """An object: a cut-out, a region of a background, or a drawn one."""
    if rng.random() < settings.regions and (pool.photos or pool.drawn):
        region = _region(rng, pool, settings)
        if region is not None:
            return region
    choice = pool.cutouts[kind] or tuple(each for kinds in KINDS for each in pool.cutouts[kinds])
    if not choice or rng.random() < settings.procedural:
        choice = pool.shapes[kind]
    return choice[int(rng.integers(len(choice)))]


def _region(rng: Rng, pool: Pool, settings: Scenes) -> Sprite | None:
    """A part of a background as an object: a rectangle, an ellipse or a polygon."""
    choice = pool.drawn if not pool.photos or rng.random() < settings.procedural else pool.photos
    background = choice[int(rng.integers(len(choice)))]
    height, width = background.rgb.shape[:2]
    side = float(np.exp(rng.uniform(np.log(24), np.log(150))))
    stretch = float(np.exp(rng.uniform(-0.6, 0.6)))
    w, h = int(min(side * stretch, width - 2)), int(min(side / stretch, height - 2))
    best: tuple[float, int, int] = (-1.0, 0, 0)
    for _ in range(3):  # the most varied of three: seldom plain sky or wall
        x, y = int(rng.integers(width - w)), int(rng.integers(height - h))
        best = max(best, (float(background.rgb[y : y + h : 3, x : x + w : 3].std()), x, y))
    part = np.ascontiguousarray(background.rgb[best[2] : best[2] + h, best[1] : best[1] + w])
    alpha = np.full((h, w), 255, np.uint8)
    pick = rng.random()
    if pick < 0.6:
        alpha[:] = 0
        if pick < 0.3:
            cv2.ellipse(
                alpha, (w // 2, h // 2), (max(w // 2 - 1, 1), max(h // 2 - 1, 1)), 0, 0, 360, 255, -1, cv2.LINE_AA
            )
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 14))))
            reach = rng.uniform(0.6, 1, len(angles))
            points = np.stack([np.cos(angles) * w / 2, np.sin(angles) * h / 2], axis=1) * reach[:, None] + (
                w / 2,
                h / 2,
            )
            cv2.fillPoly(alpha, [points.astype(np.int32)], 255, cv2.LINE_AA)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.8)
    infrared = None
    if background.infrared is not None:
        infrared = background.infrared[best[2] : best[2] + h, best[1] : best[1] + w]
    pose = make_pose(part, np.asarray(alpha, np.uint8), infrared=infrared)
    return None if pose is None else Sprite("thing", (pose,))


def _actor(
    rng: Rng,
    sprite: Sprite,
    climate: Climate,
    excess: float,
    size: float,
    frame: str,
    channel: int,
    *,
    most: float,
    front: bool = False,
    recoloured: float = 0.5,
    crossing: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Actor:
    """An object in a scene; `most` is the largest size (square root of its area) it is shown with."""
    width, height = sprite.size
    longest = max(most * max(width, height) / np.sqrt(width * height), 6)
    poses = tuple(shrink(pose, 1.25 * longest) for pose in sprite.poses)
    poses = _recoloured(rng, poses, strong=rng.random() < recoloured)
    living = sprite.kind in ("person", "animal", "flyer")
    return Actor(
        poses,
        object_heat(rng, poses, climate, excess),
        frame,  # type: ignore[arg-type]
        channel,
        size,
        front,
        mirrored=bool(rng.random() < 0.5),
        pace=float(rng.uniform(0.1, 0.35)) if len(poses) > 1 and rng.random() < 0.85 else 0.0,
        phase=float(rng.uniform(0, 6)),
        sway=float(rng.uniform(0, 0.12)) if living or rng.random() < 0.3 else 0.0,
        crossing=crossing,
    )


def _recoloured(rng: Rng, poses: tuple[Pose, ...], *, strong: bool) -> tuple[Pose, ...]:
    """The same things in another light, or with other colours."""
    gain = np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.25 if strong else 0.06, 3))
    order = rng.permutation(3) if strong and rng.random() < 0.25 else np.arange(3)
    made = []
    for pose in poses:
        channels = cv2.split(pose.colour)
        alpha = channels[3]
        lit = [
            cv2.min(cv2.convertScaleAbs(channels[int(i)], alpha=float(by)), alpha)
            for i, by in zip(order, gain, strict=True)
        ]
        made.append(replace(pose, colour=np.asarray(cv2.merge([*lit, alpha]), np.uint8)))
    return tuple(made)


def _companion(
    rng: Rng,
    pool: Pool,
    settings: Scenes,
    sprite: Sprite,
    target: Actor,
    climate: Climate,
    excess: float,
    length: int,
    crossing: float,
    ways: _Ways,
) -> Actor:
    """Something of the target's class that stays about it or passes it; now and then its twin."""
    twin = rng.random() < settings.twins
    other = sprite if twin else _like(rng, pool, settings, sprite)
    size = target.size * float(np.exp(rng.normal(0, 0.15)))
    reach = target.size
    if rng.random() < 0.45:  # passes close by
        when = crossing + rng.normal(0, 12) if crossing else rng.uniform(0, length)
        speed = float(rng.uniform(0.02, 0.12)) * reach
        way = rng.choice([-1.0, 1.0])
        passing = (float(when), float(way * speed), float(rng.normal(0, 0.1) * speed))
        start = (float(rng.normal(0, 0.3)) * reach, float(rng.normal(0, 0.35)) * reach)
    else:
        angle, away = rng.uniform(0, 2 * np.pi), float(rng.uniform(0.8, 3.5)) * reach
        passing = (0.0, 0.0, 0.0)
        start = (away * float(np.cos(angle)) * 1.3, away * float(np.sin(angle)) * 0.7)
    channel = ways.add(
        [
            (start[0], 0.008 * reach, start[0] - 0.5 * reach, start[0] + 0.5 * reach),
            (start[1], 0.004 * reach, start[1] - 0.3 * reach, start[1] + 0.3 * reach),
            (0.0, 0.002, -0.3, 0.3),
            (0.0, 0.001, -0.3, 0.3),
            (float(rng.normal(0, 0.05)), 0.0015, -0.25, 0.25),
        ]
    )
    own = excess + rng.normal(0, 12) if rng.random() < 0.55 else draw_excess(rng, other.kind, climate)
    return _actor(
        rng,
        other,
        climate,
        float(own),
        size,
        "target",
        channel,
        most=1.4 * size,
        front=bool(rng.random() < 0.35),
        recoloured=0.7 if twin else 0.4,
        crossing=passing,
    )


def _like(rng: Rng, pool: Pool, settings: Scenes, sprite: Sprite) -> Sprite:
    drawn = any(sprite is each for each in pool.shapes[sprite.kind])
    choice = pool.shapes[sprite.kind] if drawn or not pool.cutouts[sprite.kind] else pool.cutouts[sprite.kind]
    return choice[int(rng.integers(len(choice)))]


def _passer(
    rng: Rng,
    pool: Pool,
    settings: Scenes,
    skyward: bool,
    climate: Climate,
    size: float,
    walls: tuple[float, float],
    ways: _Ways,
) -> Actor:
    """Something of any class on its own way over the background."""
    kind = _kind(rng, skyward)
    own = float(np.clip(size * np.exp(rng.normal(0, 0.6)), settings.smallest, 0.4 * settings.height))
    speed = float(rng.choice([0.0, rng.uniform(0.1, 1.5)])) * settings.width / 320
    # the plane's origin is what the middle of the picture shows before the camera pans
    wide, tall = settings.width / 2 + walls[0], settings.height / 2 + walls[1]
    channel = ways.add(
        [
            (float(rng.uniform(-1, 1)) * settings.width * 0.6, speed, -wide, wide),
            (float(rng.uniform(-1, 1)) * settings.height * 0.6, 0.3 * speed, -tall, tall),
            (0.0, 0.002, -0.4, 0.4),
            (0.0, 0.001, -0.3, 0.3),
            (float(rng.normal(0, 0.05)), 0.001, -0.2, 0.2),
        ]
    )
    sprite = _sprite(rng, pool, settings, kind)
    return _actor(rng, sprite, climate, draw_excess(rng, kind, climate), own, "background", channel, most=1.4 * own)


def _occluders(rng: Rng, pool: Pool, settings: Scenes, climate: Climate, size: float, length: int) -> list[Actor]:
    """Poles, bushes and walls that stand before the target's way; `_placed` puts them there."""
    made = []
    for _ in range(int(rng.integers(1, 3))):
        region = _region(rng, pool, settings)
        if region is None:
            continue
        pick = rng.random()
        own = size * float(rng.uniform(0.6, 1.4))
        if pick < 0.4:  # a pole: the region is drawn tall when it is placed
            own = size * float(rng.uniform(0.9, 1.8))
        actor = _actor(rng, region, climate, float(rng.normal(0, 25)), own, "background", 0, most=own * 2, front=True)
        made.append(replace(actor, phase=1.0 if pick < 0.4 else 0.0, sway=0.0, pace=0.0))
    return made


def _placed(rng: Rng, scene: Scene, crossing: float) -> Scene:
    """The scene with its occluders where the target passes: each one's place is added to the path as constants."""
    actors, extra = list(scene.actors), []
    channel = scene.path.knots.shape[1]
    for index, actor in enumerate(actors):
        if not actor.front or actor.frame != "background":
            continue
        when = (
            min(max(crossing + rng.normal(0, 6), 0), scene.length) if crossing else rng.uniform(0.1, 1) * scene.length
        )
        spot = scene.matrix(actors[0], when)[:, 2] + rng.normal(0, 0.45, 2) * actors[0].size
        plane = cv2.invertAffineTransform(scene.camera(when)) @ [*spot, 1]
        pole = actor.phase == 1.0
        extra += [plane[0], plane[1], 0.0, float(rng.uniform(-3.2, -1.8)) if pole else float(rng.normal(0, 0.3)), 0.0]
        actors[index] = replace(actor, channel=channel, phase=0.0)
        channel += CHANNELS
    if not extra:
        return scene
    fixed = np.tile(np.array(extra), (len(scene.path.knots), 1))
    path = replace(scene.path, knots=np.concatenate([scene.path.knots, fixed], axis=1))
    return replace(scene, actors=tuple(actors), path=path)
