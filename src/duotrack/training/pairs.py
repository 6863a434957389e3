"""Training pairs: frames in, tensors out (docs/specs/ckd.md, sections 3.3 to 3.5)."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from duotrack.datasets.sequence import Sequence
from duotrack.datasets.simulation.assets import Pool
from duotrack.datasets.simulation.pairs import draw_shots
from duotrack.datasets.simulation.settings import Simulation
from duotrack.errors import InputError
from duotrack.frames import FramePair
from duotrack.fusion.cache import FrameCache
from duotrack.models.zoo import Geometry
from duotrack.training.assemble import Look, Making, assemble
from duotrack.training.augmentation import Augmentation, Jitter
from duotrack.training.sampling import Sampling, draw_dynamic, draw_frames, is_eligible, sample_rng
from duotrack.training.stills import another_view, draw_region
from duotrack.training.synthesis import Synthesis

log = logging.getLogger(__name__)

MAX_DRAWS = 50
"""Draws for one pair before its data are called unusable."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """What scenes are drawn from, and how."""

    pool: Pool
    settings: Simulation


@dataclass(frozen=True, eq=False)
class Source:
    """Sequences that share a sampling ratio; `stills` are one-frame sequences of which any region may be the target.

    A simulation has no sequences: each of its pairs is a new scene.
    """

    name: str
    sequences: list[Sequence]
    ratio: float = 1.0
    kind: Literal["video", "stills", "simulation"] = "video"
    simulated: Simulated | None = None


class PairDataset(Dataset[dict[str, Tensor]]):
    """Pairs of a template and a search crop, drawn by (epoch, index).

    An item is a dictionary of CPU tensors: `template` (2, 3, T, T) and `search` (2, 3, S, S) float32, normalised,
    in the order rgb, aux; `box` (4,) float32, the target's x, y, w, h over the side of the search crop; `present` (2,)
    bool. A modality that is not present holds the other one's pixels. Further entries:

    * with `sampling.dynamic` `dynamic` (2, 3, T, T), a second template;
    * with `caches` `fused_NAME` (K, 3, S, S) beside each of the crops above: what the experts made of it, normalised;
    * with `sampling.centred` `frame`, a number for the search frame, and `centred_NAME`: crops that depend on that
      frame alone, around its true box, with the first frame that shows the target as template; not for stills.

    Args:
        sources: what to draw from. geometry: of the crops. seed: of all draws.
        sampling, jitter, augmentation, synthesis: how pairs are drawn and changed.
        caches: frames that experts fused before, under the name `cached_as`.

    Raises:
        InputError: no source, a ratio that is not positive, a source without any usable sequence, or stills or
            simulation where frames are to be looked up by their number.
    """

    def __init__(
        self,
        sources: list[Source],
        *,
        geometry: Geometry,
        seed: int = 0,
        sampling: Sampling | None = None,
        jitter: Jitter | None = None,
        augmentation: Augmentation | None = None,
        synthesis: Synthesis | None = None,
        caches: tuple[FrameCache, ...] = (),
        cached_as: str = "",
    ) -> None:
        self.seed, self.sampling = seed, sampling or Sampling()
        self.making = Making(geometry, jitter or Jitter(), augmentation or Augmentation(), synthesis or Synthesis())
        self.caches, self.cached_as = caches, cached_as
        self.sources = [_usable(source, self.sampling) for source in sources]
        if not sources or any(source.ratio <= 0 for source in sources):
            raise InputError(
                f"dataset ratios {[s.ratio for s in sources]}: give at least one dataset, each with a ratio above 0"
            )
        if (caches or self.sampling.centred) and any(source.kind != "video" for source in sources):
            what = "fused frames from a cache" if caches else "data.sampling.centred"
            raise InputError(
                f"{what}: stills and simulated scenes have no frames that could be looked up; leave --stills out, "
                "--set data.simulation.ratio=0"
            )
        lengths: list[int] = [len(sequence) for source in self.sources for sequence in source.sequences]
        self.first_numbers = np.concatenate([[0], np.cumsum(lengths)])
        ratios = np.array([source.ratio for source in sources])
        self.ratios = ratios / ratios.sum()
        self.reported: set[str] = set()

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """The pair of (epoch, index); equal keys give equal bytes.

        Raises:
            InputError: `MAX_DRAWS` draws in a row were rejected; says why.
        """
        rng = sample_rng(self.seed, *key)
        refused: Counter[str] = Counter()
        for _ in range(MAX_DRAWS):
            pair = self._draw(rng)
            if not isinstance(pair, str):
                return pair
            refused[pair] += 1
        reasons = "; ".join(f"{reason} ({count} times)" for reason, count in refused.most_common(3))
        raise InputError(
            f"{MAX_DRAWS} draws in a row gave no training pair: {reasons}; check the frames and boxes of the dataset"
        )

    def _draw(self, rng: np.random.Generator) -> dict[str, Tensor] | str:
        """One attempt: a pair, or why not."""
        place = int(rng.choice(len(self.sources), p=self.ratios))
        source = self.sources[place]
        if source.simulated is not None:
            looks = self._simulated(source.simulated, rng)
            return looks if isinstance(looks, str) else self._sample("simulation", looks, rng)
        index = int(rng.integers(len(source.sequences)))
        sequence = source.sequences[index]
        if source.kind == "stills":
            looks = self._views_of_still(sequence, rng)
            return looks if isinstance(looks, str) else self._sample(sequence.name, looks, rng)
        first, second = draw_frames(sequence.visible, rng, self.sampling)
        looks = {"template": self._look(sequence, first), "search": self._look(sequence, second)}
        if self.sampling.dynamic:
            between = draw_dynamic(sequence.visible, second, rng, self.sampling)
            looks |= {} if between is None else {"dynamic": self._look(sequence, between)}
        sample = self._sample(sequence.name, looks, rng)
        if isinstance(sample, str) or not self.sampling.centred:
            return sample
        plain = self._centred(sequence, looks["search"])
        if isinstance(plain, str):
            return plain
        before = sum(len(other.sequences) for other in self.sources[:place])
        return sample | plain | {"frame": torch.tensor(int(self.first_numbers[before + index]) + second)}

    def _sample(self, name: str, looks: dict[str, Look], rng: np.random.Generator) -> dict[str, Tensor] | str:
        sample = assemble(name, looks, rng, self.making)
        if isinstance(sample, str) or not self.sampling.dynamic or "dynamic" in looks:
            return sample
        same = {key.replace("template", "dynamic"): value for key, value in sample.items() if "template" in key}
        return sample | same

    def _centred(self, sequence: Sequence, search: Look) -> dict[str, Tensor] | str:
        """Crops that depend on the search frame alone."""
        first = self._look(sequence, int(np.flatnonzero(sequence.visible)[0]))
        plain = Making(
            self.making.geometry,
            Jitter(centre=0, scale=0),
            Augmentation(grey=0, flip=0, brightness=0, crop_flip=0),
            Synthesis(probability=0),
        )
        nothing_by_chance = np.random.default_rng(0)
        sample = assemble(sequence.name, {"template": first, "search": search}, nothing_by_chance, plain)
        return sample if isinstance(sample, str) else {f"centred_{key}": value for key, value in sample.items()}

    def _views_of_still(self, sequence: Sequence, rng: np.random.Generator) -> dict[str, Look] | str:
        frame = self._read(sequence, 0)
        image = frame.rgb if frame.rgb is not None else frame.aux
        if image is None:
            return f"{sequence.name}: cannot be read"
        box = draw_region(image, rng)
        looks = {"template": Look(frame, box), "search": Look(*another_view(frame, box, rng))}
        if self.sampling.dynamic and rng.random() >= self.sampling.dynamic_initial:
            looks["dynamic"] = Look(*another_view(frame, box, rng))
        return looks

    def _simulated(self, simulated: Simulated, rng: np.random.Generator) -> dict[str, Look] | str:
        between = self.sampling.dynamic and rng.random() >= self.sampling.dynamic_initial
        within = self.sampling.dynamic_within if between else None
        shots = draw_shots(rng, simulated.pool, simulated.settings, within=within)
        return shots if isinstance(shots, str) else {key: Look(shot.pair, shot.box) for key, shot in shots.items()}

    def _look(self, sequence: Sequence, index: int) -> Look:
        pair = self._read(sequence, index)
        image = pair.rgb if pair.rgb is not None else pair.aux
        fused = (
            ()
            if image is None
            else tuple(
                cache.read(self.cached_as, sequence.name, index, size=(image.shape[1], image.shape[0]))
                for cache in self.caches
            )
        )
        return Look(pair, sequence.boxes[index], fused)

    def _read(self, sequence: Sequence, index: int) -> FramePair:
        pair = sequence.read(index)
        for note in set(pair.notes) - self.reported:
            log.warning("%s: %s", sequence.name, note)
        self.reported.update(pair.notes)
        if pair.rgb is not None and pair.aux is not None and pair.rgb.shape != pair.aux.shape:
            sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (pair.rgb, pair.aux))
            raise InputError(
                f"{sequence.name}, frame {index}: the modalities are {sizes}; training needs aligned frames of one size"
            )
        return pair


def lacks_one(source: Source) -> bool:
    """Whether a sequence of the source lacks a modality, everywhere or in some frames, or a simulated pair may."""
    if source.simulated is not None:
        return source.simulated.settings.dropouts > 0
    return any(s.rgb is None or s.aux is None or (s.mask is not None and not s.mask.all()) for s in source.sequences)


def _usable(source: Source, sampling: Sampling) -> Source:
    if source.kind == "simulation":
        return source
    if source.kind == "stills":
        usable = source.sequences
    else:
        usable = [sequence for sequence in source.sequences if is_eligible(sequence, sampling)]
    if not usable:
        raise InputError(
            f"{source.name}: none of {len(source.sequences)} sequences has {sampling.min_frames} frames, "
            f"{sampling.min_visible} of them with the target in view; give longer ones or lower both limits"
        )
    left = len(source.sequences) - len(usable)
    if left:
        log.warning("%s: %d of %d sequences are too short to draw pairs from", source.name, left, len(source.sequences))
    return Source(source.name, usable, source.ratio, source.kind)
