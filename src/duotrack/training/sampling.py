"""Which frames make a training pair (docs/specs/ckd.md, section 3.3), reproducibly.

Sample k of epoch e is a function of (seed, e, k) alone: not of the number of workers, ranks or of what came before.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch.utils.data import Sampler

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


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) for one rank: every `world`-th index from `rank` on, equally many for each rank.

    The epoch travels with the index, so that workers which live on between epochs need not be told. Trainers that
    look for `set_epoch` (Lightning does) call it; their own distributed sampler must be off.

    Raises:
        InputError: `rank` is not below `world`, or there are fewer samples than ranks.
    """

    def __init__(self, *, samples: int, rank: int = 0, world: int = 1) -> None:
        if not 0 <= rank < world:
            raise InputError(f"rank {rank} of {world}: a rank is from 0 to {world - 1}")
        if samples < world:
            raise InputError(f"{samples} samples an epoch for {world} ranks; each rank needs at least one")
        self.samples, self.rank, self.world = samples, rank, world
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and how many of this rank's samples to leave out at its start (to resume inside it)."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Samples of this rank in the epoch."""
        return self.samples // self.world - self.start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The samples of this rank, in order."""
        count = self.samples // self.world
        return ((self.epoch, i * self.world + self.rank) for i in range(self.start, count))
