"""Drawing a random scene."""

import numpy as np

from duotrack.datasets.simulation.actors import Draft, Rng
from duotrack.datasets.simulation.assets import Background, Pool
from duotrack.datasets.simulation.cameras import draw_sensors
from duotrack.datasets.simulation.company import companion, occluders, passer, placed
from duotrack.datasets.simulation.motion import Floats, Ways
from duotrack.datasets.simulation.scene import Actor, Scene
from duotrack.datasets.simulation.settings import Scenes
from duotrack.datasets.simulation.thermal import background_heat, draw_climate, draw_excess


def draw_scene(rng: Rng, pool: Pool, settings: Scenes, length: int, *, crossing: float = 0) -> Scene:
    """A scene of `length` frames.

    Args:
        rng: draws everything.
        pool: the pictures.
        settings: frame size and the shares of difficulties.
        length: frames.
        crossing: the frame at which occluders and passing objects are likely to meet the target; 0: any.
    """
    width, height, scale = settings.width, settings.height, settings.width / 320
    skyward = bool(rng.random() < settings.sky)
    background, place, room = _background(rng, pool, settings, skyward)
    climate = draw_climate(rng, background, skyward=skyward)
    moving, fast = rng.random() < settings.camera, rng.random() < settings.fast
    night, leaves = rng.random() < settings.night, rng.random() < settings.leaves
    # seen by neither camera a target could not be followed: at night it is seldom as warm as what is behind it
    crossed = rng.random() < settings.crossover and (not night or rng.random() < 0.15)
    ways = Ways()
    draft = Draft(rng, pool, settings, climate, ways, skyward)
    _add_camera(draft, room, moving=bool(moving), fast=bool(fast), crossed=bool(crossed))
    kind = draft.kind()
    excess = draw_excess(rng, kind, climate)
    if night and abs(excess) < 25 and rng.random() < 0.85:
        excess = float(rng.uniform(25, 110))
    sprite = draft.sprite(kind)
    largest = max(settings.largest * min(width, height), settings.smallest)
    if skyward:
        largest = min(largest, max(0.2 * min(width, height), settings.smallest))
    size = float(np.exp(rng.uniform(np.log(settings.smallest), np.log(largest))))
    speed = float(np.exp(rng.uniform(np.log(0.15), np.log(1.6)))) * scale
    if fast:
        speed = min(float(rng.uniform(0.08, 0.3)) * size + float(rng.uniform(1, 4)) * scale, 8 * scale)
    if leaves:
        speed += float(rng.uniform(0.5, 2.5)) * scale
    margin = -1.2 * size if leaves else 0.45 * size
    turns = kind in ("thing", "flyer") and rng.random() < 0.5
    rows = [
        (float(rng.uniform(0.15, 0.85)) * width, speed, margin, width - margin),
        (float(rng.uniform(0.15, 0.85)) * height, 0.5 * speed, margin, height - margin),
        (0.0, 0.006 if rng.random() < 0.6 else 0.002, np.log(settings.smallest / size) - 0.1, np.log(largest / size)),
        (0.0, 0.005 if rng.random() < 0.4 else 0.0015, -0.5, 0.5),
        (float(rng.normal(0, 0.06)), 0.02 if turns else 0.0015, -9.0 if turns else -0.25, 9.0 if turns else 0.25),
    ]
    target = draft.actor(sprite, "picture", rows, excess=excess, size=size, most=1.6 * size)
    actors: list[Actor] = [target]
    if rng.random() < settings.distractors:
        count = int(rng.integers(1, 5))
        actors += [companion(draft, sprite, target, excess, length, crossing) for _ in range(count)]
    actors += [passer(draft, size, room) for _ in range(int(rng.integers(0, 4)))]
    hidden = rng.random() < settings.occlusion
    if hidden:
        actors += occluders(draft, size)
    scene = Scene(
        width,
        height,
        length,
        background.rgb,
        background_heat(rng, background, climate),
        place,
        ways.path(rng, length),
        tuple(actors),
        draw_sensors(rng, settings, night=bool(night), climate=climate, hottest=excess),
        np.array([*rng.normal(0, settings.misalignment * scale, 2), rng.normal(0, 0.003 * settings.misalignment)]),
        night=bool(night),
        excess=excess,
    )
    return placed(rng, scene, crossing) if hidden else scene


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


def _add_camera(draft: Draft, room: tuple[float, float], *, moving: bool, fast: bool, crossed: bool) -> None:
    """The values that come before those of the actors: see `scene.CAMERA`."""
    rng, scale = draft.rng, draft.settings.width / 320
    pan = float(np.exp(rng.uniform(np.log(0.1), np.log(1.5)))) * scale if moving else 0.0
    pan *= float(rng.uniform(1, 4)) if fast else 1.0
    jolt = float(rng.uniform(0.1, 0.6)) * scale if moving and rng.random() < 0.4 else 0.0
    if moving and fast and rng.random() < 0.5:
        jolt += float(rng.uniform(0.5, 5)) * scale
    zoom = float(rng.uniform(0.001, 0.006)) if moving and rng.random() < 0.5 else 0.0
    light = float(rng.uniform(0.003, 0.02)) if rng.random() < draft.settings.light else 0.0
    contrast = (float(rng.uniform(-0.2, 0.6)), 0.01, -0.2, 0.8) if crossed else (1.5, 0.0, 1.0, 2.0)
    draft.ways.add(
        (float(rng.uniform(-0.3, 0.3)) * room[0], pan, -room[0], room[0]),
        (float(rng.uniform(-0.3, 0.3)) * room[1], 0.5 * pan, -room[1], room[1]),
        (0.0, zoom, -0.15, 0.35),
        (float(rng.normal(0, 0.02)), 0.0006 if moving else 0.0, -0.12, 0.12),
        (0.0, jolt, -jolt, jolt),
        (0.0, jolt, -jolt, jolt),
        (0.0, light, -0.9, 0.5),
        contrast,
    )
