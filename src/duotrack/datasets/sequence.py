"""A sequence: the frames of one paired video and the target's box on each."""

from collections.abc import Sequence as ABCSequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from duotrack.depth import Colours, depth_picture
from duotrack.frames import FramePair, Image, Kind
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

    `boxes` is (N, 4) float64 x, y, w, h in pixels of both modalities; frame i of `rgb` and `aux` shows box i. `kind` is
    what `aux` shows, `depth_colours` how depth is rendered. `labelled` (N,) says where labels beside the boxes call
    the target present, None where there are none; boxes are of use in training where both sides exceed `min_side`.
    `mask` (N, 2) says which images (rgb, aux) there are to read (`duotrack.datasets.masked`); None: all.
    """

    name: str
    rgb: Frames | None
    aux: Frames | None
    boxes: NDArray[np.float64]
    kind: Kind = "thermal"
    depth_colours: Colours = "bgr"
    labelled: NDArray[np.bool_] | None = None
    min_side: float = 0.0
    mask: NDArray[np.bool_] | None = None

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """(N,) where a target can be taken for training (docs/specs/ckd.md, section 3.3; patrack.md, section 3)."""
        large = (self.boxes[:, 2] > self.min_side) & (self.boxes[:, 3] > self.min_side)
        return large if self.labelled is None else large & self.labelled

    @property
    def start(self) -> int:
        """Where tracking begins: the first frame labelled present (docs/specs/patrack.md, section 4)."""
        return 0 if self.labelled is None else int(self.labelled.argmax())

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
        for column, (modality, frames, kind) in enumerate((("rgb", self.rgb, None), ("aux", self.aux, self.kind))):
            image = None
            if frames is not None and (self.mask is None or self.mask[index, column]):
                image, note = read_picture(frames[index], kind, depth_colours=self.depth_colours)
                notes += [f"{modality}: {note}"] if note else []
            images.append(image)
        return FramePair(index=index, rgb=images[0], aux=images[1], notes=tuple(notes))


def read_picture(
    path: Path, kind: Kind | None = None, *, depth_colours: Colours = "bgr"
) -> tuple[Image | None, str | None]:
    """An image file as (H, W, 3) uint8 RGB, None where it is absent, damaged or holds nothing; and why it is None.

    `kind` is what it shows, None for visible light. 16-bit grey, except depth, is scaled between percentiles of the
    image itself: frames are read in any order here, so the running ones of a video are not at hand.

    Raises:
        InputError: an image of an unreasonable size or of pixels that this kind does not have.
    """
    try:
        raw = read_raw(path)
    except OSError:
        raw = None
    if raw is None:
        return None, f"cannot read {path}; the frame counts as missing"
    if kind == "depth":
        image, remark = depth_picture(raw, str(path), colours=depth_colours)
        return image, f"{path}: {remark}" if image is None else None
    # as thermal, whatever it is: a word about grey images would be said of each one anew
    return RgbConverter(str(path), kind=kind or "thermal")(raw)[0], None
