"""A made-up partner for a video with one modality: pseudo-thermal from colour, pseudo-visible from thermal.

Not physics: the aim is a partner with the same geometry whose light and dark follow other rules than the original's,
so that a network cannot take one modality for a copy of the other. Our own addition, no published source.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from duotrack.frames import Image, Modality


class Synthesis(BaseModel):
    """How often a missing partner is made up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of pairs with one modality whose other one is made up; the rest lack it.",
    )


@dataclass(frozen=True, eq=False)
class Rendering:
    """What template and search crop of a pair share: the made-up sensor and its weather.

    `mix` (3,) weights of the channels; `tone` (256, 3) float32 grey level -> RGB; `blur` in pixels; `heat` grey levels
    added to the target; `slope` (2,) grey levels across the crop; `noise`, `stripes` standard deviations.
    """

    mix: NDArray[np.float32]
    tone: NDArray[np.float32]
    blur: float
    heat: float
    slope: tuple[float, float]
    noise: float
    stripes: float


def draw_rendering(rng: np.random.Generator, made_up: Modality) -> Rendering:
    """A random sensor: for `aux` a thermal one that looks at colour, for `rgb` a colour one that looks at heat."""
    if made_up == "aux":
        grey = draw_tone(rng, monotone=bool(rng.random() < 0.7), least_range=50.0)
        return Rendering(
            mix=rng.dirichlet([2.0, 2.0, 2.0]).astype(np.float32),
            tone=np.repeat(grey[:, None], 3, axis=1),
            blur=float(rng.uniform(0, 1.6)),
            heat=float(rng.normal(0, 35)) if rng.random() < 0.6 else 0.0,
            slope=(float(rng.normal(0, 10)), float(rng.normal(0, 10))),
            noise=float(rng.uniform(0, 9)),
            stripes=float(rng.uniform(0, 4)) if rng.random() < 0.3 else 0.0,
        )
    base = draw_tone(rng, monotone=bool(rng.random() < 0.8), least_range=90.0)
    own = np.stack([draw_tone(rng, monotone=False, least_range=60.0) for _ in range(3)], axis=1)
    colour = rng.uniform(0, 0.5)
    tone = ((1 - colour) * base[:, None] + colour * own) * rng.uniform(0.75, 1.25, 3)
    night = rng.uniform(0.12, 0.6) if rng.random() < 0.3 else 1.0
    return Rendering(
        mix=np.full(3, 1 / 3, np.float32),
        tone=(tone * night).astype(np.float32),
        blur=float(rng.uniform(0, 0.8)),
        heat=0.0,
        slope=(float(rng.normal(0, 12)), float(rng.normal(0, 12))),
        noise=float(rng.uniform(0, 7)) + (4.0 if night < 1 else 0.0),
        stripes=0.0,
    )


def draw_tone(rng: np.random.Generator, *, monotone: bool, least_range: float) -> NDArray[np.float32]:
    """A smooth random curve (256,) of grey levels spanning at least `least_range`; falling half of the time."""
    knots = np.cumsum(rng.uniform(0.15, 1, 6)) if monotone else rng.uniform(0, 1, 6)
    curve = np.interp(np.linspace(0, 5, 256), np.arange(6), knots)
    curve = np.convolve(np.pad(curve, 24, mode="edge"), np.full(49, 1 / 49), mode="valid")
    curve = (curve - curve.min()) / max(float(np.ptp(curve)), 1e-6)
    if rng.random() < 0.5:
        curve = 1 - curve
    span = rng.uniform(least_range, 255)
    low = rng.uniform(0, 255 - span)
    return (low + span * curve).astype(np.float32)


def render(
    crop: Image,
    rendering: Rendering,
    *,
    box: NDArray[np.float64],
    padding: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Image:
    """The made-up partner of a crop, pixel by pixel in the same place.

    Args:
        crop: (S, S, 3) uint8 of the modality that is there.
        rendering: shared by template and search.
        box: (4,) `xywh` of the target, normalised to the crop.
        padding: (S, S) True outside the frame; stays black.
        rng: for the noise, which is new in every frame.
    """
    size = crop.shape[0]
    grey = np.clip(np.rint(cv2.transform(crop, rendering.mix[None].astype(np.float64))), 0, 255).astype(np.uint8)
    across = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    added = np.add.outer(rendering.slope[1] * across, rendering.slope[0] * across).astype(np.float32)
    if rendering.heat:
        added = added + rendering.heat * _soft_box(box, size)
    if rendering.stripes:
        added = added + np.float32(rendering.stripes) * rng.standard_normal((1, size), np.float32)
    picture = rendering.tone[grey.reshape(size, size)]
    if rendering.blur > 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rendering.blur), np.float32)
    alike = bool(np.ptp(rendering.tone, axis=1).max() == 0)  # a grey sensor has one noise for its three channels
    noise = rng.standard_normal((size, size, 1 if alike else 3), np.float32)
    picture = picture + added[:, :, None] + np.float32(rendering.noise) * noise
    picture[padding] = 0
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _soft_box(box: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """(S, S), about 1 inside a normalised `xywh` box, falling to 0 at its rim."""
    points = (np.arange(size) + 0.5) / size
    lines = [
        np.exp(-(((points - start - length / 2) / (0.5 * length + 1e-6)) ** 4))
        for start, length in zip(box[:2], box[2:], strict=True)
    ]
    return np.outer(lines[1], lines[0]).astype(np.float32)
