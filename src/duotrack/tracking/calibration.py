"""Views of a user's frames, as a network meets them in tracking, to fit 8-bit ranges to."""

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duotrack.errors import InputError
from duotrack.frames import FramePair, Image, Modality
from duotrack.models.zoo import Geometry
from duotrack.tracking.view import view, view_template

VIEWS = 64
_SIDES = (0.06, 0.3)
"""Smallest and largest side of a made-up target over the shorter side of its frame."""


def calibration_views(
    pairs: Iterable[FramePair], geometry: Geometry, modalities: tuple[Modality, ...], *, count: int = VIEWS
) -> list[list[Tensor]]:
    """Templates and search regions around made-up targets; always the same ones of the same frames.

    Args:
        pairs: frames; where one lacks a modality the other's image stands in. The first 1000 are looked at.
        modalities: which are wanted.
        count: how many views.

    Returns:
        For each view the templates and then the search regions of `modalities`, each (1, 3, S, S) normalised.

    Raises:
        InputError: there is no frame.
    """
    frames = [images for pair in itertools.islice(pairs, 1000) if (images := _images(pair, modalities))]
    if not frames:
        raise InputError("there is no frame to fit int8 to: give a folder with images as --frames")
    rng = np.random.default_rng(0)
    places = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return [_view(frames[place], geometry, rng) for place in places]


def _images(pair: FramePair, modalities: tuple[Modality, ...]) -> list[Image]:
    either = pair.rgb if pair.rgb is not None else pair.aux
    own = {"rgb": pair.rgb, "aux": pair.aux}
    return [] if either is None else [either if own[name] is None else own[name] for name in modalities]  # type: ignore[misc]


def _view(images: list[Image], geometry: Geometry, rng: np.random.Generator) -> list[Tensor]:
    height, width = images[0].shape[:2]
    sides = rng.uniform(*_SIDES, 2) * min(height, width)
    box = np.concatenate([rng.uniform(0, 1, 2) * (np.array([width, height]) - sides), sides])
    template, _ = view_template(images, box, geometry, torch.device("cpu"))
    moved: NDArray[np.float64] = box + np.concatenate([rng.uniform(-0.5, 0.5, 2) * sides, np.zeros(2)])
    search, _ = view(images, moved, geometry.search_factor, geometry.search_size, torch.device("cpu"))
    return [crops[i : i + 1] for crops in (template, search) for i in range(len(images))]
