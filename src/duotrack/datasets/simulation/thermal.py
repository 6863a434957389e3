"""How warm things are: decided for each object and each region of a background, not read off the visible picture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.assets import Background
from duotrack.datasets.simulation.sprites import Kind, Pose

Rng = np.random.Generator


@dataclass(frozen=True)
class Climate:
    """Warmth of a scene, in grey levels: that of the surroundings, and how far these differ among themselves.

    `measured`: they are those of a true thermal picture.
    """

    level: float
    spread: float
    measured: bool = False


def draw_climate(rng: Rng, background: Background, *, skyward: bool) -> Climate:
    """A cool, warm or flat scene; a sky is even, and a true thermal picture tells its own."""
    if background.infrared is not None:
        part = background.infrared[::4, ::4]
        return Climate(float(part.mean()), float(part.std()), measured=True)
    if skyward:
        return Climate(float(rng.uniform(25, 120)), float(rng.uniform(2, 14)))
    return Climate(float(rng.uniform(40, 150)), float(np.exp(rng.uniform(np.log(6), np.log(42)))))


def background_heat(rng: Rng, background: Background, climate: Climate) -> NDArray[np.uint8]:
    """(h, w) uint8 warmth of a background at half its resolution, or its true thermal picture at the full one.

    Each region of like colour has a temperature of its own; fine structure comes in with a small weight of random sign,
    and a slow change over the picture is added.
    """
    if background.infrared is not None:
        return background.infrared
    table = np.zeros(256, np.float64)
    table[:16] = climate.level + climate.spread * rng.standard_normal(16)
    # neighbouring brightness steps of one colour are often one thing lit unevenly
    table[:16] = table[:16].reshape(4, 4).mean(axis=1, keepdims=True).repeat(4, 1).ravel() * 0.5 + table[:16] * 0.5
    heat = cv2.LUT(background.materials, np.clip(table, 5, 250).astype(np.uint8))
    heat = cv2.GaussianBlur(heat, (0, 0), 1.6)
    weight = float(rng.uniform(0.15, 0.9)) * (1 if rng.random() < 0.6 else -1) * min(climate.spread / 20, 1)
    heat = cv2.addWeighted(heat, 1, background.detail, weight, -128 * weight)
    tone = float(rng.uniform(-0.25, 0.25)) * min(climate.spread / 20, 1)
    heat = cv2.addWeighted(heat, 1, background.grey, tone, -110 * tone)
    grid = np.clip(128 + rng.normal(0, 0.6 * climate.spread + 2, (5, 6)), 0, 255).astype(np.uint8)
    slow = cv2.resize(grid, (heat.shape[1], heat.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.addWeighted(heat, 1, slow, 1, -128), np.uint8)


def draw_excess(rng: Rng, kind: Kind, climate: Climate) -> float:
    """Grey levels by which an object is warmer than its surroundings; some are colder, some as warm."""
    base = climate.spread * float(rng.uniform(0, 1.5))
    warm = {"person": 0.85, "animal": 0.85, "vehicle": 0.6, "flyer": 0.6, "thing": 0.45}[kind]
    pick = rng.random()
    if pick < warm:
        return base + float(np.exp(rng.uniform(np.log(20), np.log(130))))
    if pick < warm + 0.6 * (1 - warm):
        return -base - float(np.exp(rng.uniform(np.log(15), np.log(80))))
    return float(rng.normal(0, 10))


def object_heat(rng: Rng, poses: tuple[Pose, ...], climate: Climate, excess: float) -> tuple[NDArray[np.uint8], ...]:
    """For each pose (h, w, 2) uint8: warmth times alpha, and alpha.

    The warmest parts lie `excess` above the surroundings. Parts that a pose knows of keep their order; else a smooth
    random pattern takes their place. Texture has a small weight, in a third of the objects a large one: wheels, windows
    and clothes show, warmer or colder.
    """
    depth = float(rng.uniform(0.15, 0.9))  # how far the parts differ
    texture = float(rng.normal(0, 0.6 if rng.random() < 0.35 else 0.12))
    pattern: NDArray[np.float32] | None = None
    gamma = float(rng.uniform(0.6, 1.8))
    made = []
    for pose in poses:
        height, width = pose.colour.shape[:2]
        alpha = pose.colour[..., 3]
        if pose.infrared is not None:
            heat = pose.infrared
        else:
            if pattern is None:
                grid = rng.standard_normal((5, 3), np.float32)
                if rng.random() < 0.5:
                    grid += np.linspace(rng.normal(0, 1.2), rng.normal(0, 1.2), 5).astype(np.float32)[:, None]
                pattern = np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC))
            if pose.warm is None:
                parts = np.clip(0.65 + 0.28 * pattern, 0, 1)
            else:
                parts = np.clip(pose.warm.astype(np.float32) / 255 + 0.08 * pattern, 0, 1) ** np.float32(gamma)
            grey = cv2.cvtColor(np.ascontiguousarray(pose.colour[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32)
            middle = cv2.mean(grey, np.asarray(alpha > 127, np.uint8))[0]
            warmth = climate.level + excess * (1 - depth + depth * parts) + texture * (grey - middle)
            heat = np.clip(warmth, 0, 255).astype(np.uint8)
        made.append(
            np.dstack([cv2.multiply(np.ascontiguousarray(heat), np.ascontiguousarray(alpha), scale=1 / 255), alpha])
        )
    return tuple(made)
