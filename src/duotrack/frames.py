"""The few types that every room shares: modality, kind, frame pair, track result."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError, nearest

Modality = Literal["rgb", "aux"]
Kind = Literal["thermal", "depth", "event"]
"""What the auxiliary frames show."""
State = Literal["tracking", "uncertain", "lost"]
Image = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB order."""

MODALITIES: tuple[Modality, Modality] = ("rgb", "aux")
KINDS: tuple[Kind, ...] = ("thermal", "depth", "event")


def kind_named(name: str) -> Kind:
    """The kind of that name.

    Raises:
        InputError: there is none; names the nearest.
    """
    for kind in KINDS:
        if kind == name:
            return kind
    raise InputError(f"modality {name!r} is not one of {', '.join(KINDS)}{nearest(name, list(KINDS))}")


def available_modalities(rgb: object | None, aux: object | None) -> tuple[Modality, ...]:
    """Names of the modalities that are not None, in the order (rgb, aux)."""
    return tuple(name for name, image in zip(MODALITIES, (rgb, aux), strict=True) if image is not None)


@dataclass(frozen=True, eq=False)
class FramePair:
    """One moment of a paired video; an image is None where that sensor gave nothing.

    `index` counts from 0; `time` is in seconds from the start of the source where it is known;
    `notes` are remarks for the log ("aux: corrupt image 000012.jpg"), empty in the usual case.
    """

    index: int
    rgb: Image | None
    aux: Image | None
    time: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def available(self) -> tuple[Modality, ...]:
        """The modalities that this frame has."""
        return available_modalities(self.rgb, self.aux)


@dataclass(frozen=True, eq=False)
class TrackResult:
    """What a tracker says of one frame.

    `box` is (4,) float64 x, y, w, h in pixels; `score` is the calibrated confidence in [0, 1];
    `available` names the modalities that the frame had.
    """

    box: NDArray[np.float64]
    score: float
    state: State
    available: tuple[Modality, ...]
