"""What happens to boxes and pixels between a frame and a training pair (docs/specs/ckd.md, sections 3.4 and 3.5).

Defaults are the released values. What the release does not have is off by default.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from duotrack.frames import Image, Modality
from duotrack.models.statistics import MEAN, STD
from duotrack.tracking.preprocess import look_up


class Jitter(BaseModel):
    """How far the search crop's box strays from the target; the first template's never does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    centre: float = Field(
        default=3.0, ge=0, description="Width, in box sides, of the uniform range of the centre's shift."
    )
    scale: float = Field(
        default=0.25, ge=0, description="Standard deviation of the logarithm of width and height, each its own."
    )
    hard: float = Field(
        default=0.0, ge=0, le=1, description="Share of pairs that use hard_centre and hard_scale instead."
    )
    hard_centre: float = Field(
        default=3.8, ge=0, description="As centre; 4 puts the target's centre up to the border of the crop."
    )
    hard_scale: float = Field(default=0.5, ge=0, description="As scale.")
    away: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of pairs whose search crop is cut beside the target, where the network is to find nothing.",
    )
    dynamic_centre: float = Field(
        default=0.05, ge=0, description="Largest shift of a dynamic template's centre, in sides of the box."
    )
    dynamic_scale: float = Field(
        default=0.1, ge=0, lt=1, description="Largest change of a dynamic template's width and height, each its own."
    )


class Augmentation(BaseModel):
    """Changes of light and mirroring, and optional damage to the picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grey: float = Field(default=0.05, ge=0, le=1, description="Probability that the whole pair turns grey.")
    grey_aux: bool = Field(
        default=True,
        description="Whether grey is for the auxiliary images too; the colours of a depth map would lose their order.",
    )
    flip: float = Field(default=0.5, ge=0, le=1, description="Probability that the whole pair is mirrored.")
    brightness: float = Field(
        default=0.2, ge=0, lt=1, description="Template and search are each made up to this much darker or lighter."
    )
    brightness_aux: bool = Field(default=True, description="Whether brightness is for the auxiliary images too.")
    crop_flip: float = Field(
        default=0.5, ge=0, le=1, description="Probability that the template is mirrored by itself; so for the search."
    )
    blur: float = Field(default=0.0, ge=0, le=1, description="Probability that one crop of one modality is blurred.")
    blur_sigma: float = Field(default=2.0, gt=0, description="Largest standard deviation of the blur in crop pixels.")
    noise: float = Field(default=0.0, ge=0, le=1, description="Probability that one crop of one modality gets noise.")
    noise_std: float = Field(default=12.0, gt=0, description="Largest standard deviation of the noise in grey levels.")
    gamma: float = Field(
        default=0.0, ge=0, le=1, description="Probability that one crop of one modality gets another gamma."
    )
    gamma_range: float = Field(
        default=2.0, gt=1, description="The gamma is between 1 / this and this, uniform in its logarithm."
    )
    drop_modality: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Probability that a pair with both modalities loses one of them; none is made up for it.",
    )
    drop_rgb: float = Field(default=0.5, ge=0, le=1, description="Share of these losses that RGB suffers.")
    drop_as: Literal["absent", "zeros", "copy"] = Field(
        default="absent",
        description="What the network sees of the loss. absent: it is told, and treats it as in tracking; zeros, copy: "
        "a search crop that is black, or the other modality's, for tracking with the policy of that name.",
    )


def jitter_box(box: NDArray[np.float64], rng: np.random.Generator, jitter: Jitter) -> NDArray[np.float64]:
    """The (4,) `xywh` box that the search crop is cut around: scaled, then its centre shifted (section 3.4)."""
    hard = jitter.hard > 0 and rng.random() < jitter.hard
    scale, shift = (jitter.hard_scale, jitter.hard_centre) if hard else (jitter.scale, jitter.centre)
    size = box[2:] * np.exp(scale * rng.standard_normal(2))
    centre = box[:2] + box[2:] / 2 + shift * np.sqrt(size.prod()) * (rng.random(2) - 0.5)
    return np.concatenate([centre - size / 2, size])


def beside(
    box: NDArray[np.float64],
    target: NDArray[np.float64],
    factor: float,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64] | None:
    """A box as large as `box` around which a search crop shows nothing of the target; None: no room in the frame.

    Ours. Its centre is in the frame, and the crop not much farther from the target than it must be.

    Args:
        box, target: (4,) `xywh` in the frame.
        factor: of the search crop.
        size: (width, height) of the frame.
        rng: draws where.
    """
    reach = (factor * np.sqrt(box[2:].prod()) + target[2:]) / 2
    centre = target[:2] + target[2:] / 2
    for _ in range(8):
        direction = rng.uniform(-1, 1, 2)
        moved = centre + direction / np.abs(direction).max() * reach * rng.uniform(1.02, 2)
        if (np.abs(moved - centre) > reach).any() and (moved > 0).all() and (moved < size).all():
            return np.concatenate([moved - box[2:] / 2, box[2:]])
    return None


def stray(box: NDArray[np.float64], rng: np.random.Generator, jitter: Jitter) -> NDArray[np.float64]:
    """The (4,) `xywh` box that a dynamic template is cut around: in tracking it is a prediction, not the truth.

    Uniform shifts and changes of size (ours; docs/specs/tpf.md, section 5.1).
    """
    size = box[2:] * (1 + jitter.dynamic_scale * rng.uniform(-1, 1, 2))
    centre = box[:2] + box[2:] / 2 + jitter.dynamic_centre * box[2:] * rng.uniform(-1, 1, 2)
    return np.concatenate([centre - size / 2, size])


def mirror_frame_box(box: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """An `xywh` box in the mirrored frame: x -> (W - 1) - x for its corners (section 3.5, step 2)."""
    return np.array([width - 1 - box[0] - box[2], *box[1:]])


def mirror_crop_box(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """A normalised `xywh` box in the mirrored crop: x -> 1 - x for its corners (section 3.5, step 4)."""
    return np.array([1 - box[0] - box[2], *box[1:]])


def to_grey(image: Image) -> Image:
    """OpenCV's grey of an RGB image, on three channels."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def mirror(image: Image) -> Image:
    """The image mirrored left to right."""
    return np.asarray(cv2.flip(image, 1), np.uint8)


@dataclass(frozen=True)
class Light:
    """The roll that all modalities of a template, or of a search crop, share."""

    brightness: float
    mirrored: bool


def draw_light(rng: np.random.Generator, augmentation: Augmentation) -> Light:
    """Draw brightness and mirroring for one group of crops."""
    factor = rng.uniform(1 - augmentation.brightness, 1 + augmentation.brightness)
    return Light(float(factor), bool(rng.random() < augmentation.crop_flip))


def draw_lost(rng: np.random.Generator, augmentation: Augmentation) -> Modality | None:
    """Draw whether a pair loses a modality, and which."""
    if rng.random() >= augmentation.drop_modality:
        return None
    return "rgb" if rng.random() < augmentation.drop_rgb else "aux"


def finish(crop: Image, light: Light, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """A crop (S, S, 3) uint8 -> (3, S, S) float32: brightness, clamp, mirror, normalise (section 3.5, steps 3 to 5).

    `out`: the array that is filled and returned, where there is one already.
    """
    # every grey level meets the same arithmetic: a table of 256 x 3 does it once
    levels = np.clip(np.arange(256, dtype=np.float32) * np.float32(light.brightness) / 255, 0, 1)
    mean, std = (np.asarray(each, np.float32)[:, None] for each in (MEAN, STD))
    tables = np.asarray((levels - mean) / std, np.float32)
    out = np.empty((3, *crop.shape[:2]), np.float32) if out is None else out
    look_up(mirror(crop) if light.mirrored else crop, tables, out)
    return out


def damage(crop: Image, padding: NDArray[np.bool_], rng: np.random.Generator, augmentation: Augmentation) -> Image:
    """Gamma, blur and noise, each with its probability; padding stays black. All off by default."""
    changed = crop
    if rng.random() < augmentation.gamma:
        gamma = augmentation.gamma_range ** rng.uniform(-1, 1)
        table = (255 * np.linspace(0, 1, 256) ** gamma).round().astype(np.uint8)
        changed = np.asarray(cv2.LUT(changed, table), np.uint8)
    if rng.random() < augmentation.blur:
        changed = np.asarray(cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.3, 1) * augmentation.blur_sigma), np.uint8)
    if rng.random() < augmentation.noise:
        std = np.float32(rng.uniform(0.2, 1) * augmentation.noise_std)
        noisy = changed + std * rng.standard_normal(changed.shape, np.float32)
        changed = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if changed is not crop and padding.any():
        changed = np.where(padding[:, :, None], np.uint8(0), changed)
    return changed
