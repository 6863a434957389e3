"""Where a benchmark keeps its frames and boxes: declarations, and the one function that reads them."""

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.annotation import read_boxes
from duotrack.datasets.rows import parse_rows
from duotrack.datasets.sequence import Frames, Sequence
from duotrack.depth import Colours
from duotrack.errors import InputError, first_few
from duotrack.frames import Kind
from duotrack.images import SUFFIXES

log = logging.getLogger(__name__)

Split = Literal["train", "test", "all"]
LayoutName = Literal["lasher", "gtot", "vtuav-train", "depthtrack", "rgbd1k-train", "visevent"]


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk: `<root>/<prefix>/<sequence>/{<rgb>,<aux>}/` (docs/specs/ckd.md, section 4).

    Where `step` is 1 the frames are the folder's images sorted by name. Otherwise box row k belongs to the image
    numbered `step * k + starts.get(sequence, 0)`, six digits, `.jpg`, and only annotated frames are taken. Where
    `every` is not 1 all frames are taken and box row k belongs to frame `every * k`: the other boxes are nan. So are
    all but the first where a sequence has one box.

    Attributes:
        kind: what the auxiliary frames show.
        same_names: a frame's auxiliary image has its name, without suffix; one that is not there is a missing side.
            Otherwise the k-th of one folder goes with the k-th of the other.
        min_side: boxes whose sides exceed this serve in training.
        present: a file of one 1 (target present) or 0 a frame, which training heeds where it is there.
        nested: sequences lie in folders of their class.
        places: where a sequence may lie below the prefix: `{name}`, or `{path}` for a name with a folder before it.
            The place that has the most sequences is taken.
        nan: whether box rows may be nan: target absent.
    """

    rgb: str = "visible"
    aux: str = "infrared"
    boxes: str = "init.txt"
    prefix: str = ""
    step: int = 1
    starts: Mapping[str, int] = field(default_factory=dict)
    places: tuple[str, ...] = ("{name}",)
    every: int = 1
    nan: bool = False
    kind: Kind = "thermal"
    same_names: bool = False
    min_side: float = 0.0
    present: str = ""
    nested: bool = False


def _places(*folders: str) -> tuple[str, ...]:
    return ("{name}", *(f"{folder}/{{name}}" for folder in folders))


def packaged_lines(name: str) -> list[str]:
    """The lines of a list that comes with the package."""
    return (files("duotrack.datasets") / "names" / name).read_text(encoding="utf-8").splitlines()


def lasher_names(split: Split) -> list[str]:
    """The sequences of LasHeR: 979 train, 245 test, all 1224 (docs/specs/ckd.md, appendix A)."""
    parts = ("train", "test") if split == "all" else (split,)
    return sorted(name for part in parts for name in packaged_lines(f"lasher_{part}.txt"))


def vtuav_train_layout() -> Layout:
    """The training part of VTUAV: a box every ten frames, counted from a start of its own (appendix B)."""
    starts = {name: int(start) for name, start in (line.split() for line in packaged_lines("vtuav_starts.txt"))}
    return Layout(rgb="rgb", aux="ir", boxes="rgb.txt", prefix="train", step=10, starts=starts)


LASHER = Layout()
"""LasHeR, RGBT210, RGBT234, and any folder of your own that is laid out like them."""
GTOT = Layout(rgb="v", aux="i")
# docs/specs/patrack.md, section 3
_DEPTH = Layout(rgb="color", aux="depth", boxes="groundtruth.txt", nan=True, kind="depth", same_names=True)
DEPTHTRACK = replace(_DEPTH, min_side=10.0, places=_places("test", "Test", "Train", "train", "Validation"))
RGBD1K = replace(_DEPTH, places=_places("test", "Test"))
RGBD1K_TRAIN = replace(_DEPTH, boxes="groundtruth_rect.txt", places=("{path}",), nested=True)
VISEVENT = Layout(
    rgb="vis_imgs",
    aux="event_imgs",
    boxes="groundtruth.txt",
    kind="event",
    same_names=True,
    min_side=5.0,
    present="absent_label.txt",
    places=_places("test", "train"),
)


def own_layout(kind: Kind) -> Layout:
    """A folder of your own: as LasHeR, with the auxiliary frames in `infrared`, `depth` or `event`."""
    return LASHER if kind == "thermal" else replace(LASHER, aux=kind, kind=kind)


def layout_named(name: LayoutName) -> Layout:
    """A layout that training data may have."""
    named = {
        "lasher": LASHER,
        "gtot": GTOT,
        "depthtrack": DEPTHTRACK,
        "rgbd1k-train": RGBD1K_TRAIN,
        "visevent": VISEVENT,
    }
    return named.get(name) or vtuav_train_layout()


def open_layout(
    root: str | Path, layout: Layout, *, names: Iterable[str] | None = None, depth_colours: Colours = "bgr"
) -> list[Sequence]:
    """The sequences under `root`, in the order of `names`; all folders, sorted, where `names` is None.

    A name may have a folder before it, as `pack/name`: the sequence is called by its last part.

    A sequence may lack the folder of one modality. Lists of different lengths are cut to the shortest, said in the log;
    auxiliary images that are not there, of a layout with `same_names`, are said as well. `depth_colours`: how depth is
    rendered.

    Raises:
        InputError: no such root, sequences missing, no frames of either modality, a bad box file, names of the two
            modalities that have nothing in common.
    """
    base = Path(root) / layout.prefix
    if not base.is_dir():
        raise InputError(f"{base}: no such folder; give the folder that holds the sequences")
    wanted = _found(base, layout) if names is None else list(names)
    folders = locate(base, layout, wanted)
    missing = [name for name in wanted if name not in folders]
    if missing:
        raise InputError(
            f"{base}: {len(missing)} of {len(wanted)} sequences are not there: {first_few(missing)}; "
            "is this the right folder, and is the dataset complete?"
        )
    if not wanted:
        raise InputError(
            f"{base}: holds no sequence; one is a folder with {layout.boxes} and {layout.rgb}/ or {layout.aux}/"
        )
    with ThreadPoolExecutor(8) as pool:  # listing is waiting, above all on a network drive
        opened = list(pool.map(lambda name: _open(folders[name], layout, depth_colours), wanted))
    for key, words in _REMARKS.items():
        said = [remarks[key] for _, remarks in opened if key in remarks]
        if said:
            log.warning("%s: %d sequences %s: %s", base, len(said), words, first_few(said))
    return [sequence for sequence, _ in opened]


_REMARKS = {
    "lengths": "have lists of different length, cut to the shortest",
    "partners": "have auxiliary frames that are not one for each visible frame; those that lack count as missing",
    "late": "begin with frames that are labelled absent; tracking begins behind these",
}


def locate(base: Path, layout: Layout, names: Iterable[str]) -> dict[str, Path]:
    """Name -> folder, of those `names` that are there."""
    best: dict[str, Path] = {}
    for place in layout.places:
        paths = {name: base / place.format(path=name, name=name.rpartition("/")[2]) for name in names}
        found = {name: path for name, path in paths.items() if path.is_dir()}
        if len(found) > len(best):
            best = found
    return best


def open_lasher(root: str | Path, *, names: Iterable[str] | None = None, split: Split | None = None) -> list[Sequence]:
    """The sequences of LasHeR, or of any folder in its layout: `<root>/<seq>/{visible,infrared}/` and `init.txt`.

    Args:
        root: the folder that holds the sequences.
        names: the sequences to take; None for a split or the whole folder.
        split: the published train or test list; None for `names` or the whole folder.

    Raises:
        InputError: as `open_layout`.
    """
    return open_layout(root, LASHER, names=lasher_names(split) if split is not None else names)


def list_images(folder: Path) -> tuple[str, ...]:
    """Names of the images in a folder, sorted; names are shared in memory, since sequences repeat them."""
    return tuple(sys.intern(name) for name in sorted(os.listdir(folder)) if name.lower().endswith(SUFFIXES))


def _found(base: Path, layout: Layout) -> list[str]:
    folders = _folders(base)
    if layout.nested:
        folders = [f"{outer}/{inner}" for outer in folders for inner in _folders(base / outer)]
    parts = (layout.boxes, layout.rgb, layout.aux)
    names = [name for name in folders if any((base / name / part).exists() for part in parts)]
    other = sorted(set(folders) - set(names))
    if other:
        log.warning("%s: %d folders are no sequences and are left out: %s", base, len(other), first_few(other))
    return names


def _folders(base: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(base) if entry.is_dir() and not entry.name.startswith("."))


def _open(folder: Path, layout: Layout, depth_colours: Colours) -> tuple[Sequence, dict[str, str]]:
    """The sequence and what is to be said of it, by the keys of `_REMARKS`."""
    boxes = read_boxes(folder / layout.boxes, nan=layout.nan)
    start = layout.starts.get(folder.name, 0)
    remarks: dict[str, str] = {}
    sides: list[Frames | None] = []
    for part in (layout.rgb, layout.aux):
        if not (folder / part).is_dir():
            sides.append(None)
            continue
        names = list_images(folder / part)
        if layout.step != 1:
            names = _numbered(folder / part, names, [start + layout.step * row for row in range(len(boxes))])
        if not names:
            raise InputError(
                f"{folder / part}: holds no {', '.join(SUFFIXES)} image; remove it if that modality is missing"
            )
        sides.append(Frames(folder / part, names))
    rgb, aux = sides
    if layout.same_names and rgb is not None and aux is not None:
        partners, lacking = _partners(rgb, aux)
        if lacking or len(aux) != len(rgb):
            counts = f"{len(rgb)} and {len(aux)}, {lacking} lack"
            remarks["partners"] = f"{folder.name} ({layout.rgb} and {layout.aux} {counts})"
        aux = partners
    if layout.every != 1 or len(boxes) == 1:  # a first box alone: the frames are there to be tracked
        boxes = _spread(boxes, layout.every, min((len(side) for side in (rgb, aux) if side is not None), default=0))
    lengths = {"boxes": len(boxes)} | {side.folder.name: len(side) for side in (rgb, aux) if side is not None}
    if len(lengths) == 1:
        raise InputError(f"{folder}: neither {layout.rgb}/ nor {layout.aux}/ is there; a sequence needs at least one")
    shortest = min(lengths.values())
    if len(set(lengths.values())) > 1:
        remarks["lengths"] = f"{folder.name} ({', '.join(f'{k} {v}' for k, v in lengths.items())})"
    cut = [None if side is None else side[:shortest] for side in (rgb, aux)]
    labelled = read_labels(folder / layout.present, len(boxes)) if layout.present else None
    sequence = Sequence(
        folder.name,
        cut[0],
        cut[1],
        boxes[:shortest],
        kind=layout.kind,
        depth_colours=depth_colours,
        labelled=None if labelled is None else labelled[:shortest],
        min_side=layout.min_side,
    )
    if sequence.start:
        remarks["late"] = f"{sequence.name} ({sequence.start} frames)"
    return sequence, remarks


def _partners(rgb: Frames, aux: Frames) -> tuple[Frames, int]:
    """The auxiliary images by the names of the visible ones, and how many of them are not there."""
    by_stem = {Path(name).stem: name for name in aux.names}
    lacking = sum(Path(name).stem not in by_stem for name in rgb.names)
    if lacking == len(rgb):
        raise InputError(
            f"{aux.folder}: no image has the name of one in {rgb.folder.name}/ ({aux.names[0]}, {rgb.names[0]}); "
            "frames that belong together share a name"
        )
    return Frames(aux.folder, tuple(by_stem.get(Path(name).stem, name) for name in rgb.names)), lacking


def read_labels(path: Path, boxes: int) -> NDArray[np.bool_] | None:
    """(boxes,) where a file of labels, 0 or 1 a row, calls the target present; None where there is no such file.

    Raises:
        InputError: not one 0 or 1 a box.
    """
    if not path.is_file():
        return None
    (rows,) = parse_rows([path.read_bytes()], [str(path)], widths=(1,), row="0 or 1")
    if len(rows.values) != boxes:
        raise InputError(f"{path}: {len(rows.values)} labels for {boxes} boxes; it should be one 0 or 1 each")
    odd = np.flatnonzero(~np.isin(rows.values[:, 0], (0, 1)))
    if len(odd):
        raise InputError(f"{path}, row {odd[0] + 1}: got {rows.values[odd[0], 0]:g}, a label is 0 (absent) or 1")
    return np.asarray(rows.values[:, 0] == 1)


def _spread(boxes: NDArray[np.float64], every: int, frames: int) -> NDArray[np.float64]:
    spread = np.full((frames, 4), np.nan)
    labelled = boxes[: len(range(0, frames, every))]
    spread[: every * len(labelled) : every] = labelled
    return spread


def _numbered(folder: Path, names: tuple[str, ...], numbers: list[int]) -> tuple[str, ...]:
    wanted = tuple(f"{number:06d}.jpg" for number in numbers)
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} annotated frames are not there: {first_few(missing)}; is the dataset complete?"
        )
    return wanted
