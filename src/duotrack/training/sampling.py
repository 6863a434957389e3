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
    dynamic: bool = Field(default=False, description="Give a second template, for networks that take two.")
    dynamic_within: int = Field(
        default=20, ge=1, description="It comes from at most this many frames before the search frame."
    )
    dynamic_initial: float = Field(
        default=0.1, ge=0, le=1, description="Share of samples whose second template is the first one, as at the start."
    )
    centred: bool = Field(
        default=False,
        description="Give crops of the search frame without jitter or changes of the picture as well (cached judging).",
    )


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


def draw_dynamic(visible: NDArray[np.bool_], search: int, rng: np.random.Generator, sampling: Sampling) -> int | None:
    """Frame number of a dynamic template for the search frame; None: the first template stands in its place, too.

    A visible frame shortly before the search frame (ours; docs/specs/tpf.md, section 5.1); None for a share of the
    samples, and where there is no such frame.
    """
    initial = rng.random() < sampling.dynamic_initial
    near = np.flatnonzero(visible[max(search - sampling.dynamic_within, 0) : search])
    if initial or len(near) == 0:
        return None
    return max(search - sampling.dynamic_within, 0) + int(rng.choice(near))
