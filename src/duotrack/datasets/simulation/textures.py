"""Drawn backgrounds: skies, ground, streets, clutter. All (H, W, 3) uint8 RGB."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.frames import Image

Rng = np.random.Generator


def noise(rng: Rng, height: int, width: int, *, coarse: float = 4.0, roughness: float = 0.55) -> NDArray[np.float32]:
    """(H, W) float32 in [0, 1]: octaves of smooth noise, the coarsest with `coarse` waves along the longer side."""
    total = np.zeros((height, width), np.float32)
    waves, weight = coarse, 1.0
    while waves < max(height, width):
        rows, columns = (max(round(waves * side / max(height, width)), 2) + 1 for side in (height, width))
        grid = rng.standard_normal((rows, columns), np.float32)
        total += np.float32(weight) * np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC))
        waves, weight = waves * 2.3, weight * roughness
    low, high = np.quantile(total[::4, ::4], (0.01, 0.99))
    return np.clip((total - low) / max(float(high - low), 1e-6), 0, 1)


def tinted(values: NDArray[np.float32], dark: NDArray[np.float64], light: NDArray[np.float64]) -> Image:
    """[0, 1] values as colours between two."""
    table = dark + np.linspace(0, 1, 256)[:, None] * (light - dark)
    return np.clip(table, 0, 255).astype(np.uint8)[(values * 255).astype(np.uint8)]


def colour(rng: Rng, low: float = 20, high: float = 235, strength: float = 0.5) -> NDArray[np.float64]:
    """A colour of a random brightness; `strength` 0 is grey."""
    return np.clip(rng.uniform(low, high) * (1 + strength * rng.uniform(-0.6, 0.6, 3)), 0, 255)


def sky(rng: Rng, height: int, width: int) -> Image:
    """A gradient with clouds, some with a rim of ground far below."""
    kind = rng.random()
    top = np.array([70, 120, 190]) * rng.uniform(0.5, 1.3) if kind < 0.6 else colour(rng, 80, 210, 0.15)
    low = top * rng.uniform(1.0, 1.5) + rng.uniform(0, 50)
    ramp = np.linspace(0, 1, height)[:, None, None]
    picture = np.repeat(top * (1 - ramp) + low * ramp, width, axis=1)
    if rng.random() < 0.7:
        field = noise(rng, height, width, coarse=float(rng.uniform(2, 7)), roughness=0.6)
        cover = np.clip((field - rng.uniform(0.3, 0.7)) * rng.uniform(1.5, 5), 0, 1)[..., None] * rng.uniform(0.4, 1)
        picture = picture * (1 - cover) + (rng.uniform(150, 250) + 40 * (field[..., None] - 0.5)) * cover
    painted: Image = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        rim = height * rng.uniform(0.75, 0.97)
        line = rim + height * 0.12 * (noise(rng, 1, width, coarse=6)[0] - 0.5)
        ground = ground_texture(rng, height, width)
        below = np.arange(height)[:, None] > line
        painted[below] = (ground[below] * 0.6).astype(np.uint8)
    return painted


def ground_texture(rng: Rng, height: int, width: int) -> Image:
    """Grass, sand, gravel, asphalt or water: noise between two colours, with patches of a third."""
    base = [(80, 95, 50), (150, 135, 100), (110, 108, 104), (70, 72, 76), (50, 80, 95), (120, 90, 60)]
    dark = np.array(base[int(rng.integers(len(base)))]) * rng.uniform(0.3, 0.9)
    light = dark * rng.uniform(1.2, 2.2) + rng.uniform(0, 30)
    fine = noise(rng, height, width, coarse=float(rng.uniform(3, 30)), roughness=float(rng.uniform(0.6, 0.95)))
    picture = tinted(fine, dark, light)
    if rng.random() < 0.7:
        patches = noise(rng, height, width, coarse=float(rng.uniform(2, 6)))
        cover = np.clip((patches - rng.uniform(0.4, 0.65)) * rng.uniform(3, 20), 0, 1)[..., None]
        other = tinted(fine, colour(rng, 20, 120), colour(rng, 90, 220))
        picture = (picture * (1 - cover) + other * cover).astype(np.uint8)
    return picture


def clutter(rng: Rng, height: int, width: int) -> Image:
    """Overlapping shapes of all sizes with textures of their own (dead leaves)."""
    picture = ground_texture(rng, height, width)
    bank = [ground_texture(rng, height // 2, width // 2) for _ in range(4)]
    bank = [np.asarray(cv2.resize(each, (width, height)), np.uint8) for each in bank]
    sides = np.sort(np.exp(rng.uniform(np.log(10), np.log(min(height, width) * 0.5), 130)))[::-1]
    for side in sides:
        mask = np.zeros((height, width), np.uint8)
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        if rng.random() < 0.4:
            axes = (max(int(side / 2), 1), max(int(side / 2 * rng.uniform(0.3, 1)), 1))
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
        else:
            cv2.fillPoly(mask, [_polygon(rng, centre, side)], 255, cv2.LINE_AA)
        x, y, w, h = cv2.boundingRect(mask)
        if not (w and h):
            continue
        part = (slice(y, y + h), slice(x, x + w))
        cover = (mask[part].astype(np.float32) / 255)[..., None]
        fill = colour(rng, 10, 245) * 0.7 + 0.3 * bank[int(rng.integers(4))][part]
        picture[part] = (picture[part] * (1 - cover) + fill * cover).astype(np.uint8)
    return picture


def street(rng: Rng, height: int, width: int) -> Image:
    """Sky, houses with windows, a road with lines, trees."""
    picture = sky(rng, height, width)
    horizon = int(height * rng.uniform(0.3, 0.55))
    x = 0
    while x < width:
        w, tall = int(rng.uniform(0.06, 0.25) * width), int(horizon * rng.uniform(0.3, 0.95))
        wall = tinted(noise(rng, 32, 32, coarse=4), colour(rng, 40, 170, 0.3), colour(rng, 60, 220, 0.3))
        left, right, top = x, min(x + w, width), horizon - tall
        picture[top:horizon, left:right] = cv2.resize(wall, (right - left, tall))
        pane = colour(rng, 10, 240, 0.4)
        step = int(rng.uniform(10, 26))
        for row in range(top + step // 2, horizon - step // 2, step):
            for column in range(left + step // 3, right - step // 2, step):
                shade = pane * rng.uniform(0.5, 1.2)
                cv2.rectangle(picture, (column, row), (column + step // 2, row + int(step * 0.6)), shade.tolist(), -1)
        x += w + int(rng.uniform(-0.02, 0.06) * width)
    picture[horizon:] = ground_texture(rng, height - horizon, width)
    vanish = (int(width * rng.uniform(0.2, 0.8)), horizon)
    road = np.array(
        [vanish, (int(width * rng.uniform(-0.3, 0.3)), height), (int(width * rng.uniform(0.7, 1.3)), height)]
    )
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [road.astype(np.int32)], 255, cv2.LINE_AA)
    cover = (mask.astype(np.float32) / 255)[..., None]
    dark = rng.uniform(50, 120)
    asphalt = tinted(
        noise(rng, height, width, coarse=40, roughness=0.9), np.full(3, dark * 0.8), np.full(3, dark * 1.15)
    )
    picture = (picture * (1 - cover) + asphalt * cover).astype(np.uint8)
    middle = int(road[1:, 0].mean())
    for start in np.arange(0.05, 1, 0.13):
        a, b = (np.array(vanish) + (np.array([middle, height]) - vanish) * at**2 for at in (start, start + 0.06))
        cv2.line(picture, _pixel(a), _pixel(b), (215, 215, 205), max(int(6 * start), 1), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 9))):
        tree(
            rng,
            picture,
            int(rng.integers(width)),
            int(rng.uniform(horizon, height * 0.8)),
            height * rng.uniform(0.1, 0.4),
        )
    return picture


def tree(rng: Rng, picture: Image, x: int, foot: int, tall: float) -> None:
    """A trunk and a crown of leaves, drawn into the picture."""
    trunk = (np.array([70, 55, 40]) * rng.uniform(0.5, 1.2)).tolist()
    cv2.line(picture, (x, foot), (x, int(foot - tall * 0.6)), trunk, max(int(tall * 0.06), 1), cv2.LINE_AA)
    green = np.array([50, 85, 35]) * rng.uniform(0.5, 1.6)
    for _ in range(60):
        place = rng.normal([x, foot - 0.75 * tall], tall * 0.14)
        shade = (green * rng.uniform(0.5, 1.4)).clip(0, 255).tolist()
        cv2.circle(picture, _pixel(place), max(int(tall * rng.uniform(0.02, 0.08)), 1), shade, -1, cv2.LINE_AA)


def drawn_background(rng: Rng, height: int, width: int, *, skyward: bool) -> Image:
    """A background of any kind, or a sky."""
    if skyward:
        return sky(rng, height, width)
    makers = (ground_texture, clutter, street, street)
    picture = makers[int(rng.integers(len(makers)))](rng, height, width)
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(3, 14))):
            tree(
                rng,
                picture,
                int(rng.integers(width)),
                int(rng.uniform(0.2, 1) * height),
                height * rng.uniform(0.05, 0.3),
            )
    return picture


def _polygon(rng: Rng, centre: tuple[int, int], side: float) -> NDArray[np.int32]:
    corners = int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = side / 2 * rng.uniform(0.5, 1.1, corners)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None] + centre
    return points.astype(np.int32)


def _pixel(point: Any) -> tuple[int, int]:
    return int(point[0]), int(point[1])
