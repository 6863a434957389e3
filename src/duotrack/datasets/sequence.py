"""A sequence: the frames of one paired video and the target's box on each."""

from collections.abc import Sequence as ABCSequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from duotrack.frames import FramePair, Image
from duotrack.images import RgbConverter, read_raw


@dataclass(frozen=True)
class Frames(ABCSequence[Path]):
    """The image files of one modality: a folder and its file names, listed once. Indexing gives paths."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "Frames": ...
    def __getitem__(self, index: int | slice) -> "Path | Frames":
        """One path, or fewer frames."""
        if isinstance(index, slice):
            return Frames(self.folder, self.names[index])
        return self.folder / self.names[index]


@dataclass(frozen=True, eq=False)
class Sequence:
    """One annotated sequence; a modality that was not recorded is None, but never both.

    `boxes` is (N, 4) float64 x, y, w, h in pixels of both modalities; frame i of `rgb` and `aux` shows box i. `mask`
    (N, 2) says which images (rgb, aux) there are to read (`duotrack.datasets.masked`); None: all.
    """

    name: str
    rgb: Frames | None
    aux: Frames | None
    boxes: NDArray[np.float64]
    mask: NDArray[np.bool_] | None = None

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """(N,) where the target is annotated: positive width and height (docs/specs/ckd.md, section 3.3)."""
        return (self.boxes[:, 2] > 0) & (self.boxes[:, 3] > 0)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.boxes)

    def read(self, index: int) -> FramePair:
        """Frame `index` as RGB images; a file that cannot be read gives None for its side and a note that says so.

        What the mask says is missing is None without a look at the file.

        Raises:
            IndexError: no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: frame {index} asked for, it has {len(self)}")
        images: list[Image | None] = []
        notes: list[str] = []
        for column, (modality, frames) in enumerate((("rgb", self.rgb), ("aux", self.aux))):
            if frames is None or (self.mask is not None and not self.mask[index, column]):
                images.append(None)
                continue
            image = read_image(frames[index])
            if image is None:
                notes.append(f"{modality}: cannot read {frames[index]}; the frame counts as missing")
            images.append(image)
        return FramePair(index=index, rgb=images[0], aux=images[1], notes=tuple(notes))


def read_image(path: Path) -> Image | None:
    """An image file as (H, W, 3) uint8 RGB; None where it is absent, damaged or no image.

    16-bit grey is scaled between percentiles of the image itself: frames are read in any order here, so the running
    ones of a video are not at hand.

    Raises:
        InputError: an image of an unreasonable size or of pixels that are no integers.
    """
    try:
        raw = read_raw(path)
    except OSError:
        return None
    return None if raw is None else RgbConverter(str(path), colour=False)(raw)[0]
