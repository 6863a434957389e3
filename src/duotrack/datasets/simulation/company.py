"""What is about a target: its like, others on their way, and things that it passes behind."""

from dataclasses import replace

import cv2
import numpy as np

from duotrack.datasets.simulation.actors import Draft, Rng
from duotrack.datasets.simulation.scene import Actor, Scene
from duotrack.datasets.simulation.sprites import Sprite
from duotrack.datasets.simulation.thermal import draw_excess

WALL = 1.9
"""From so many target sizes on an occluder is a wall."""


def companion(draft: Draft, sprite: Sprite, target: Actor, excess: float, length: int, crossing: float) -> Actor:
    """Something of the target's class that stays about it or passes it; now and then its twin.

    Args:
        draft: of the scene. sprite, target, excess: the target, and how much warmer than its surroundings it is.
        length: frames of the scene. crossing: the frame about which it passes, if it does; 0: any.
    """
    rng, reach = draft.rng, target.size
    twin = rng.random() < draft.settings.twins
    other = sprite if twin else draft.like(sprite)
    size = reach * float(np.exp(rng.normal(0, 0.15)))
    passing = (0.0, 0.0, 0.0)
    if rng.random() < 0.45:
        when = crossing + rng.normal(0, 12) if crossing else rng.uniform(0, length)
        speed = float(rng.uniform(0.02, 0.12)) * reach
        passing = (float(when), float(rng.choice([-speed, speed])), float(rng.normal(0, 0.1) * speed))
        x, y = (float(rng.normal(0, by)) * reach for by in (0.3, 0.35))
    else:
        angle, away = rng.uniform(0, 2 * np.pi), float(rng.uniform(0.8, 3.5)) * reach
        x, y = away * float(np.cos(angle)) * 1.3, away * float(np.sin(angle)) * 0.7
    own = excess + rng.normal(0, 12) if rng.random() < 0.55 else draw_excess(rng, other.kind, draft.climate)
    rows = [
        (x, 0.008 * reach, x - 0.5 * reach, x + 0.5 * reach),
        (y, 0.004 * reach, y - 0.3 * reach, y + 0.3 * reach),
        (0.0, 0.002, -0.3, 0.3),
        (0.0, 0.001, -0.3, 0.3),
        (float(rng.normal(0, 0.05)), 0.0015, -0.25, 0.25),
    ]
    return draft.actor(
        other,
        "target",
        rows,
        excess=float(own),
        size=size,
        most=1.4 * size,
        front=bool(rng.random() < 0.35),
        crossing=passing,
    )


def passer(draft: Draft, size: float, room: tuple[float, float]) -> Actor:
    """Something of any class that stands or goes its own way; `room` is how far the camera pans, in x and y."""
    rng, settings = draft.rng, draft.settings
    kind = draft.kind()
    own = float(np.clip(size * np.exp(rng.normal(0, 0.6)), settings.smallest, 0.4 * settings.height))
    speed = float(rng.choice([0.0, rng.uniform(0.1, 1.5)])) * settings.width / 320
    wide, tall = settings.width / 2 + room[0], settings.height / 2 + room[1]
    rows = [
        (float(rng.uniform(-0.6, 0.6)) * settings.width, speed, -wide, wide),
        (float(rng.uniform(-0.6, 0.6)) * settings.height, 0.3 * speed, -tall, tall),
        (0.0, 0.002, -0.4, 0.4),
        (0.0, 0.001, -0.3, 0.3),
        (float(rng.normal(0, 0.05)), 0.001, -0.2, 0.2),
    ]
    excess = draw_excess(rng, kind, draft.climate)
    return draft.actor(draft.sprite(kind), "background", rows, excess=excess, size=own, most=1.4 * own)


def occluders(draft: Draft, size: float) -> list[Actor]:
    """Poles, bushes and walls, which `placed` puts on the target's way."""
    made = []
    for _ in range(int(draft.rng.integers(1, 3))):
        region = draft.region()
        if region is None:
            continue
        pole, wall = draft.rng.random() < 0.4, draft.rng.random() < 0.25
        own = size * float(draft.rng.uniform(0.9, 1.8) if pole else draft.rng.uniform(0.6, 1.4))
        if wall and not pole:
            own = size * float(draft.rng.uniform(WALL, 2.6))
        aspect = float(draft.rng.uniform(-3.2, -1.8) if pole else draft.rng.normal(0, 0.3))
        rows = [(value, 0.0, value, value) for value in (0.0, 0.0, 0.0, aspect, 0.0)]
        excess = float(draft.rng.normal(0, 25))
        actor = draft.actor(region, "background", rows, excess=excess, size=own, most=2 * own, front=True)
        made.append(replace(actor, sway=0.0))
    return made


def placed(rng: Rng, scene: Scene, crossing: float) -> Scene:
    """The scene with its occluders where the target passes, at about the frame `crossing`; 0: at any."""
    knots = scene.path.knots.copy()
    for actor in scene.actors:
        if not actor.front or actor.frame != "background":
            continue
        when = crossing + rng.normal(0, 6) if crossing else rng.uniform(0.1, 1) * scene.length
        when = min(max(float(when), 0.0), float(scene.length))
        size = scene.actors[0].size
        stray = 0.15 if actor.size > WALL * size else 0.45  # walls are there to hide all of it
        spot = scene.matrix(scene.actors[0], when)[:, 2] + rng.normal(0, stray, 2) * size
        plane = cv2.invertAffineTransform(scene.camera(when)) @ [*spot, 1]
        knots[:, actor.channel : actor.channel + 2] = plane
    return replace(scene, path=replace(scene.path, knots=knots))
