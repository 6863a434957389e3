"""Training pairs: frames in, tensors out (docs/specs/ckd.md, sections 3.3 to 3.5)."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from duotrack.datasets.sequence import Sequence
from duotrack.errors import InputError
from duotrack.frames import MODALITIES, FramePair, Image, Modality
from duotrack.models.zoo import Geometry
from duotrack.tracking.crop import Crop, box_in_crop, crop_square
from duotrack.training.augmentation import (
    Augmentation,
    Jitter,
    damage,
    draw_light,
    finish,
    jitter_box,
    mirror,
    mirror_crop_box,
    mirror_frame_box,
    to_grey,
)
from duotrack.training.sampling import Sampling, draw_frames, is_eligible, sample_rng
from duotrack.training.stills import another_view, draw_region
from duotrack.training.synthesis import Synthesis, draw_rendering, render

log = logging.getLogger(__name__)

MAX_DRAWS = 50
"""Draws for one pair before its data are called unusable."""

Box = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Source:
    """Sequences that share a sampling ratio; `stills` are one-frame sequences of which any region may be the target."""

    name: str
    sequences: list[Sequence]
    ratio: float = 1.0
    kind: Literal["video", "stills"] = "video"


class PairDataset(Dataset[dict[str, Tensor]]):
    """Pairs of a template and a search crop, drawn by (epoch, index).

    An item is a dictionary of CPU tensors: `template` (2, 3, T, T) and `search` (2, 3, S, S) float32, normalised,
    in the order rgb, aux; `box` (4,) float32, the target's x, y, w, h over the side of the search crop; `present` (2,)
    bool. A modality that is not present holds the other one's pixels.

    Raises:
        InputError: no source, a ratio that is not positive, or a source without any usable sequence.
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
    ) -> None:
        self.geometry, self.seed = geometry, seed
        self.sampling, self.jitter = sampling or Sampling(), jitter or Jitter()
        self.augmentation, self.synthesis = augmentation or Augmentation(), synthesis or Synthesis()
        self.sources = [_usable(source, self.sampling) for source in sources]
        if not sources or any(source.ratio <= 0 for source in sources):
            raise InputError(
                f"dataset ratios {[s.ratio for s in sources]}: give at least one dataset, each with a ratio above 0"
            )
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
        source = self.sources[int(rng.choice(len(self.sources), p=self.ratios))]
        sequence = source.sequences[int(rng.integers(len(source.sequences)))]
        if source.kind == "stills":
            template = search = self._read(sequence, 0)
            image = template.rgb if template.rgb is not None else template.aux
            if image is None:
                return f"{sequence.name}: cannot be read"
            template_box = draw_region(image, rng)
            search, search_box = another_view(template, template_box, rng)
        else:
            first, second = draw_frames(sequence.visible, rng, self.sampling)
            template, search = self._read(sequence, first), self._read(sequence, second)
            template_box, search_box = sequence.boxes[first], sequence.boxes[second]
        return self._assemble(sequence.name, template, search, template_box, search_box, rng)

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

    def _assemble(
        self,
        name: str,
        template: FramePair,
        search: FramePair,
        template_box: Box,
        search_box: Box,
        rng: np.random.Generator,
    ) -> dict[str, Tensor] | str:
        present = [m for m in template.available if m in search.available]
        if not present:
            return f"{name}: no modality can be read in both frames"
        if len(present) == 2 and rng.random() < self.augmentation.drop_modality:
            present = [present[int(rng.integers(2))]]
        templates = [getattr(template, modality) for modality in present]
        searches = [getattr(search, modality) for modality in present]
        if rng.random() < self.augmentation.grey:
            templates, searches = [to_grey(i) for i in templates], [to_grey(i) for i in searches]
        if rng.random() < self.augmentation.flip:
            template_box = mirror_frame_box(template_box, templates[0].shape[1])
            search_box = mirror_frame_box(search_box, searches[0].shape[1])
            templates, searches = [mirror(i) for i in templates], [mirror(i) for i in searches]
        around = jitter_box(search_box, rng, self.jitter)
        shape = self.geometry
        template_crops = [
            crop_square(i, template_box, shape.template_factor, shape.template_size, padding=True) for i in templates
        ]
        search_crops = [crop_square(i, around, shape.search_factor, shape.search_size, padding=True) for i in searches]
        if _only_padding(template_crops[0], shape.stride) or _only_padding(search_crops[0], shape.stride):
            return f"{name}: a crop lies outside the frame"
        boxes = (
            box_in_crop(template_box, template_box, template_crops[0].resize_factor, shape.template_size),
            box_in_crop(search_box, around, search_crops[0].resize_factor, shape.search_size),
        )
        groups = [[c.image for c in template_crops], [c.image for c in search_crops]]
        masks = (_padding(template_crops[0]), _padding(search_crops[0]))
        if len(present) == 1 and rng.random() < self.synthesis.probability:
            other = MODALITIES[1 - MODALITIES.index(present[0])]
            rendering = draw_rendering(rng, other)
            for group, box, mask in zip(groups, boxes, masks, strict=True):
                group.append(render(group[0], rendering, box=box, padding=mask, rng=rng))
            present = [present[0], other]
        template_tensor, _ = self._finish(groups[0], masks[0], boxes[0], present, rng)
        search_tensor, box = self._finish(groups[1], masks[1], boxes[1], present, rng)
        return {
            "template": template_tensor,
            "search": search_tensor,
            "box": torch.from_numpy(box.astype(np.float32)),
            "present": torch.tensor([modality in present for modality in MODALITIES]),
        }

    def _finish(
        self, crops: list[Image], mask: NDArray[np.bool_], box: Box, present: list[Modality], rng: np.random.Generator
    ) -> tuple[Tensor, Box]:
        """(2, 3, S, S) of one group, and its box; a missing modality takes the other's pixels."""
        light = draw_light(rng, self.augmentation)
        stack = np.empty((2, 3, *crops[0].shape[:2]), np.float32)
        for modality, crop in zip(present, crops, strict=True):
            finish(damage(crop, mask, rng, self.augmentation), light, out=stack[MODALITIES.index(modality)])
        if len(present) == 1:
            there = MODALITIES.index(present[0])
            stack[1 - there] = stack[there]
        return torch.from_numpy(stack), mirror_crop_box(box) if light.mirrored else box


def _usable(source: Source, sampling: Sampling) -> Source:
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


def _padding(crop: Crop) -> NDArray[np.bool_]:
    assert crop.padding is not None  # it was asked for
    return crop.padding


def _only_padding(crop: Crop, stride: int) -> bool:
    """Whether nothing of the frame is left after nearest reduction to the token grid (section 3.4)."""
    return bool(_padding(crop)[::stride, ::stride].all())
