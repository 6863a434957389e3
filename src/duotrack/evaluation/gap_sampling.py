"""Which frames and tokens the measurement of a gap looks at, all drawn from a seed."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duotrack.datasets.sequence import Sequence
from duotrack.errors import InputError
from duotrack.frames import FramePair
from duotrack.models.zoo import Geometry
from duotrack.tracking.view import view, view_template

MOST_ROWS = 2048
"""Frames times tokens of one sequence: kernels between all of them take memory that grows with the square."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is looked at of each sequence.

    `frames` drawn among those with a visible target after the first, which gives the template; `tokens` drawn of each
    frame's search tokens, of every stream by itself, or 0 for their mean; `layer` whose points and maps are kept, from
    the end where negative.

    Raises:
        InputError: too few, or too many at once.
    """

    frames: int = 8
    tokens: int = 64
    layer: int = -1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1 or self.tokens < 0 or self.frames * max(self.tokens, 1) < 2:
            raise InputError(f"{self.frames} frames with {self.tokens} tokens: MMD needs at least two rows a sequence")
        if self.frames * max(self.tokens, 1) > MOST_ROWS:
            raise InputError(
                f"{self.frames} frames with {self.tokens} tokens are {self.frames * self.tokens} rows a sequence: "
                f"at most {MOST_ROWS}, take fewer of either"
            )


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network is shown of a sequence: the same template with each of the frames."""

    template: tuple[Tensor, Tensor]
    search: tuple[Tensor, Tensor]
    frames: tuple[int, ...]


def look(
    sequence: Sequence, geometry: Geometry, count: int, rng: np.random.Generator, device: torch.device
) -> Seen | None:
    """None where a sequence lacks a modality, or a first frame, or two others (one: where one was asked for)."""
    visible = np.flatnonzero(sequence.visible)
    if sequence.rgb is None or sequence.aux is None or len(visible) < 2:
        return None
    first, rest = int(visible[0]), visible[1:]
    template = _both(sequence.read(first))
    searches: list[Tensor] = []
    frames: list[int] = []
    for index in rng.permutation(rest).tolist():  # as far as needed: damaged ones are passed over
        if len(frames) == count:
            break
        images = _both(sequence.read(index))
        if images is not None:
            box = sequence.boxes[index]
            searches.append(view(images, box, geometry.search_factor, geometry.search_size, device)[0])
            frames.append(index)
    if template is None or len(frames) < min(count, 2):
        return None
    z = view_template(template, sequence.boxes[first], geometry, device)[0]
    x = torch.stack(searches, dim=1)
    known = z[:, None].expand(-1, len(frames), -1, -1, -1)
    return Seen((known[0], known[1]), (x[0], x[1]), tuple(frames))


def _both(pair: FramePair) -> list[NDArray[np.uint8]] | None:
    if pair.rgb is None or pair.aux is None or pair.rgb.shape != pair.aux.shape:
        return None
    return [pair.rgb, pair.aux]


def rows_of(layers: Tensor, tokens: int, rng: np.random.Generator) -> Tensor:
    """(layers, B, N, C) -> (layers, rows, C): some tokens of every frame, the same in all layers, or their mean."""
    if tokens == 0:
        return layers.mean(dim=2)
    there = layers.shape[2]
    drawn = np.stack([rng.permutation(there)[:tokens] for _ in range(layers.shape[1])])
    index = torch.from_numpy(drawn).to(layers.device)[None, :, :, None].expand(len(layers), -1, -1, layers.shape[-1])
    return layers.gather(2, index).flatten(1, 2)
