"""What the two cameras do to the picture: light, blur, noise, compression; thermal gain, stripes and vignetting."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.settings import Scenes
from duotrack.datasets.simulation.thermal import Climate
from duotrack.frames import Image

Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Sensors:
    """What both cameras do throughout a scene; levels in grey, sizes in pixels.

    Visible: `gain` (3,) and `gamma` of its light, `fog` share of fog of the grey `haze`, `noise`, `blur` (standard
    deviation), `exposure` share of a frame's time that motion smears, `quality` of the JPEG (0: none), `glare`
    (strength, x, y, size over the frame) or None. Thermal: `heat_gain` and `heat_offset` of its display, `inverted`
    where black is hot, `heat_blur`, `heat_noise`, `stripes`, `vignette`, `pattern`: fixed unevenness.
    """

    gain: NDArray[np.float64]
    gamma: float = 1.0
    fog: float = 0.0
    haze: float = 200.0
    noise: float = 1.0
    blur: float = 0.0
    exposure: float = 0.0
    quality: int = 0
    glare: tuple[float, float, float, float] | None = None
    heat_gain: float = 1.0
    heat_offset: float = 0.0
    inverted: bool = False
    heat_blur: float = 0.6
    heat_noise: float = 2.0
    stripes: float = 0.0
    vignette: float = 0.0
    pattern: float = 0.0


def draw_sensors(rng: Rng, settings: Scenes, *, night: bool, climate: Climate, hottest: float) -> Sensors:
    """Two cameras; the thermal one sets its gain by how far temperatures differ, as such cameras do.

    `hottest` is how far the target's warmest part lies above the surroundings.
    """
    cast = rng.uniform(0.9, 1.1, 3)
    strength = rng.uniform(0.8, 1.15)
    if night:
        strength = np.exp(rng.uniform(np.log(0.14), np.log(0.55)))
        warm = rng.random()
        cast = np.array([1.15, 1.0, 0.75]) if warm < 0.4 else np.array([0.85, 1.05, 1.0]) if warm < 0.7 else cast
    lit = rng.random() < settings.light
    blurred, hurt = rng.random() < settings.blur, rng.random() < settings.thermal_damage
    which = rng.random()
    glare = None
    if lit and rng.random() < (0.7 if night else 0.3):
        strong, x, y, wide = rng.uniform((0.5, 0, 0, 0.15), (1, 1, 1, 0.9)).tolist()
        glare = (strong, x, y, wide)
    low = hurt and rng.random() < 0.35
    gain = float(np.clip(rng.uniform(25, 75) / (climate.spread + 8), 0.6, 2.2))
    middle = float(rng.uniform(50, 150))
    if rng.random() < 0.7:  # else the target may be too hot for the display
        gain = min(gain, max(235 - middle if hottest > 0 else middle - 15, 30) / (abs(hottest) + 1))
    if climate.measured:
        gain, middle = float(rng.uniform(0.85, 1.1)), climate.level
    gain *= float(rng.uniform(0.3, 0.6)) if low else 1
    return Sensors(
        gain=cast * strength,
        gamma=float(np.exp(rng.normal(-0.2 if night else 0, 0.2))),
        fog=float(rng.uniform(0.2, 0.7)) if lit and not night and rng.random() < 0.3 else 0.0,
        haze=float(rng.uniform(150, 235)),
        noise=float(rng.uniform(4, 16) if night else rng.uniform(0, 5)),
        blur=float(rng.uniform(0.6, 1.7)) if blurred and which < 0.35 else 0.0,
        exposure=float(rng.uniform(0.4, 1.2)) if blurred and 0.2 < which < 0.7 else 0.0,
        quality=int(rng.integers(15, 60)) if blurred and which > 0.6 else 0,
        glare=glare,
        heat_gain=gain,
        heat_offset=middle - gain * climate.level,
        inverted=bool(rng.random() < 0.2),
        heat_blur=float(rng.uniform(0.4, 1.7)),
        heat_noise=float(rng.uniform(3, 14) if hurt and rng.random() < 0.6 else rng.uniform(0.3, 3)),
        stripes=float(rng.uniform(1, 6)) if hurt and rng.random() < 0.4 else 0.0,
        vignette=float(rng.uniform(-45, 25)) if hurt and rng.random() < 0.4 else 0.0,
        pattern=float(rng.uniform(1, 5)) if hurt and rng.random() < 0.4 else 0.0,
    )


LONGEST = 25.0
"""Pixels that motion smears at most."""


def smeared(image: NDArray[np.uint8], motion: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A picture of any channels smeared along its (2,) motion in pixels; itself where that is hardly one."""
    reach = min(float(np.hypot(motion[0], motion[1])), LONGEST)
    if reach < 1.5:
        return image
    half = int(reach) // 2 + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    # ends between pixels: the line is drawn with 4 bits of fraction
    way = motion / np.hypot(motion[0], motion[1]) * reach / 2
    ends = [tuple(int(v) for v in np.rint((half + sign * way) * 16)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def see(image: Image, sensors: Sensors, light: float, rng: Rng) -> Image:
    """The visible frame as its camera gives it.

    Args:
        image: (H, W, 3) uint8, the scene in even light; may be changed.
        sensors: the camera. light: logarithm of the light at this time. rng: for the noise.
    """
    height, width = image.shape[:2]
    image = np.asarray(cv2.LUT(image, _tones(sensors, light)[None]), np.uint8)
    if sensors.glare is not None:
        strength, x, y, size = sensors.glare
        side = max(int(size * max(height, width)), 8)
        blob = cv2.resize(_glare_blob(), (side, side), interpolation=cv2.INTER_LINEAR)
        _add_at(image, np.asarray(blob, np.uint8), int(x * width - side / 2), int(y * height - side / 2), strength)
    if sensors.blur > 0:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sensors.blur), np.uint8)
    if sensors.noise > 0.5:
        image = _noisy(image, sensors.noise, rng, _noise_bank(height, width, 3))
    if sensors.quality:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, sensors.quality])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image


def feel(warmth: NDArray[np.uint8], sensors: Sensors, rng: Rng) -> Image:
    """The thermal frame (H, W, 3) as its camera gives it, of (H, W) uint8 warmth."""
    height, width = warmth.shape
    heat: Any = warmth
    if sensors.heat_blur > 0.3:
        heat = cv2.GaussianBlur(heat, (0, 0), sensors.heat_blur)
    levels = sensors.heat_gain * np.arange(256) + sensors.heat_offset
    levels = 255 - levels if sensors.inverted else levels
    heat = cv2.LUT(heat, np.clip(levels, 0, 255).astype(np.uint8))
    if sensors.vignette:
        heat = cv2.addWeighted(heat, 1, _vignette(height, width), sensors.vignette / 255, 0)
    if sensors.pattern:
        fixed = _noise_bank(height, width, 1)[:height, :width]
        heat = cv2.addWeighted(heat, 1, fixed, sensors.pattern / 40, -128 * sensors.pattern / 40)
    if sensors.stripes:
        lines = np.clip(128 + rng.normal(0, 32, (1, width)), 0, 255).astype(np.uint8)
        weight = sensors.stripes / 32
        heat = cv2.addWeighted(heat, 1, np.repeat(lines, height, axis=0), weight, -128 * weight)
    if sensors.heat_noise > 0.5:
        heat = _noisy(heat, sensors.heat_noise, rng, _noise_bank(height, width, 1))
    return np.asarray(cv2.cvtColor(heat, cv2.COLOR_GRAY2RGB), np.uint8)


def _tones(sensors: Sensors, light: float) -> NDArray[np.uint8]:
    levels = (np.arange(256)[:, None] / 255) ** sensors.gamma * 255 * sensors.gain * np.exp(light)
    levels = levels * (1 - sensors.fog) + sensors.fog * sensors.haze
    return np.clip(levels, 0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _noise_bank(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Noise around 128 with a standard deviation of 40, larger than a frame: frames take random windows of it."""
    grain = np.random.default_rng(channels).normal(128, 40, (height + 128, width + 128, channels))
    return np.ascontiguousarray(np.clip(grain, 0, 255).astype(np.uint8).squeeze())


def _noisy(image: NDArray[np.uint8], strength: float, rng: Rng, bank: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    y, x = int(rng.integers(bank.shape[0] - height + 1)), int(rng.integers(bank.shape[1] - width + 1))
    weight = strength / 40
    part: Any = bank[y : y + height, x : x + width]
    if rng.random() < 0.5:
        part = cv2.flip(part, int(rng.integers(-1, 2)))
    return np.asarray(cv2.addWeighted(image, 1, part, weight, -128 * weight), np.uint8)


@lru_cache(maxsize=4)
def _vignette(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    return (255 * np.clip((x * x + y * y) / 2, 0, 1)).astype(np.uint8)


@lru_cache(maxsize=1)
def _glare_blob() -> NDArray[np.uint8]:
    line = np.linspace(-1, 1, 128)
    away = np.hypot(line[:, None], line)
    rays = np.exp(-np.abs(line[:, None]) * 30) * np.exp(-np.abs(line) * 2.5)
    glow = np.exp(-((away / 0.12) ** 2)) + 0.45 * np.exp(-((away / 0.35) ** 2)) + 0.5 * (rays + rays.T)
    return (255 * np.clip(glow * np.clip((1 - away) * 3, 0, 1), 0, 1)).astype(np.uint8)


def _add_at(image: NDArray[np.uint8], blob: NDArray[np.uint8], left: int, top: int, strength: float) -> None:
    height, width = image.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + blob.shape[1], width), min(top + blob.shape[0], height)
    if x1 <= x0 or y1 <= y0:
        return
    part = cv2.cvtColor(blob[y0 - top : y1 - top, x0 - left : x1 - left], cv2.COLOR_GRAY2RGB)
    image[y0:y1, x0:x1] = cv2.addWeighted(image[y0:y1, x0:x1], 1, part, strength, 0)
