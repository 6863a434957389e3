"""Which frames make a training pair (docs/specs/ckd.md, section 3.3), reproducibly.

Sample k of epoch e is a function of (seed, e, k) alone: not of the number of workers, ranks or of what came before.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from duotrack.datasets.sequence import Sequence
from duotrack.errors import InputError


class Sampling(BaseModel):
    """How template and search frame are drawn from a sequence; the defaults are the released ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["causal", "independent"] = Field(
        default="causal",
        description="causal: the search frame is later than the template; independent: both are any visible frame.",
    )
    max_gap: int = Field(
        default=200, ge=2, description="Causal: the search frame is less than this many frames after the template."
    )
    gap_step: int = Field(
        default=5, ge=1, description="Causal: the gap grows by this much after every draw that finds no frame."
    )
    min_visible: int = Field(
        default=5, ge=2, description="A sequence with fewer frames that show the target is never drawn."
    )
    min_frames: int = Field(default=20, ge=2, description="A sequence with fewer frames is never drawn.")


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one sample."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, index)))


def is_eligible(sequence: Sequence, sampling: Sampling) -> bool:
    """Whether a sequence is long enough and shows its target often enough to draw pairs from."""
    return len(sequence) >= sampling.min_frames and int(sequence.visible.sum()) >= sampling.min_visible


def draw_frames(visible: NDArray[np.bool_], rng: np.random.Generator, sampling: Sampling) -> tuple[int, int]:
    """Template and search frame numbers from a (N,) visibility of at least two visible frames.

    Raises:
        InputError: fewer than two visible frames.
    """
    shown = np.flatnonzero(visible)
    if len(shown) < 2:
        raise InputError(f"a training pair needs two frames that show the target; got {len(shown)}")
    if sampling.mode == "independent":
        return int(rng.choice(shown)), int(rng.choice(shown))
    templates = shown[: np.searchsorted(shown, len(visible) - 1)]
    gap = sampling.max_gap
    while True:  # ends: the gap grows, and the first visible frame has a later one
        template = int(rng.choice(templates))
        later = shown[np.searchsorted(shown, template + 1) : np.searchsorted(shown, template + gap)]
        if len(later):
            return template, int(rng.choice(later))
        gap += sampling.gap_step
