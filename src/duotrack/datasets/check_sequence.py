"""What is wrong with one sequence of a copy on disk, told instead of raised."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.annotation import read_boxes
from duotrack.datasets.benchmarks import Benchmark
from duotrack.datasets.headers import read_header
from duotrack.datasets.layouts import Layout, list_images, read_labels
from duotrack.datasets.sequence import read_picture
from duotrack.depth import NOTHING
from duotrack.errors import InputError, first_few
from duotrack.frames import Image, Kind
from duotrack.images import SUFFIXES

Size = tuple[int, int]
Say = Callable[..., None]
"""Notes a finding: its kind, its detail, and whether it is wrong."""


@dataclass(frozen=True)
class Finding:
    """Something about a sequence ("" for the copy as a whole).

    `wrong`: tracking or scoring suffers; otherwise a remark, which a faultless copy may have too.
    """

    sequence: str
    kind: str
    detail: str
    wrong: bool = True


@dataclass(frozen=True)
class Seen:
    """What a sequence has: frames (of the shorter modality), images of both, and what was found."""

    frames: int
    images: int
    findings: list[Finding]


def check_sequence(which: Benchmark, root: Path, name: str, path: str, folder: Path, *, quick: bool) -> Seen:
    """Look at the folders, names, counts, boxes and images of the sequence `name` in `folder`.

    `path` is its line in the benchmark's list. `quick`: images are not decoded.
    """
    findings: list[Finding] = []

    def say(kind: str, detail: str, *, wrong: bool = True) -> None:
        findings.append(Finding(name, kind, detail, wrong))

    own = which.name == "folder"  # where a modality may be missing, and where nobody else's results depend on order
    counts: dict[str, int] = {}
    sizes: dict[str, Size] = {}
    listed: dict[str, tuple[str, ...]] = {}
    for part in (which.layout.rgb, which.layout.aux):
        if not (folder / part).is_dir():
            say("modality", f"there is no {part}/", wrong=not own)
            continue
        names = listed[part] = list_images(folder / part)
        counts[part] = len(names)
        _look_at_names(folder / part, names, say, order_matters=own)
        kind = which.modality if part == which.layout.aux else None
        size = _look_at_images(folder / part, names, say, quick=quick, kind=kind)
        if size is not None:
            sizes[part] = size
    if not listed:
        say("modality", "there are no frames at all")
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{part} {width}x{height}" for part, (width, height) in sizes.items())
        say("size", f"the modalities differ: {shown}")
    if len(listed) == 2:
        pairs = list(zip(*listed.values(), strict=False))
        differing = [pair for pair in pairs if Path(pair[0]).stem != Path(pair[1]).stem]
        if differing:
            first = " with ".join(differing[0])
            say("names", f"{len(differing)} of {len(pairs)} pairs have two names, such as {first}", wrong=False)
    frames = min(counts.values(), default=0)
    boxes = _look_at_boxes(folder, which.layout, say, size=next(iter(sizes.values()), None))
    rows = {which.layout.boxes: boxes, **_labels(which, root, name, path, say)}
    _compare_counts(counts, rows, which.layout.every, say)
    return Seen(frames, sum(counts.values()), findings)


def _look_at_names(folder: Path, names: tuple[str, ...], say: Say, *, order_matters: bool) -> None:
    part = folder.name
    if not names:
        say("modality", f"{part}/ holds no {', '.join(SUFFIXES)} image")
        return
    known = set(names)
    other = sorted(name for name in os.listdir(folder) if name not in known and not name.startswith("."))
    if other:
        say("other files", f"{len(other)} in {part}/ are no frames: {first_few(other)}", wrong=False)
    numbers = [int(found[-1]) if (found := re.findall(r"\d+", Path(name).stem)) else None for name in names]
    whole = [number for number in numbers if number is not None]
    if len(whole) < len(numbers):
        if whole:
            unnumbered = [name for name, number in zip(names, numbers, strict=True) if number is None]
            say("names", f"{len(unnumbered)} in {part}/ have no number: {first_few(unnumbered)}", wrong=False)
        return
    steps = np.diff(whole)
    if (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0])
        detail = f"{part}/ sorted by name is not in the order of numbers: {names[at]}, {names[at + 1]}"
        say("order", detail, wrong=order_matters)
    elif len(steps) and (steps != np.median(steps)).any():
        at = int(np.flatnonzero(steps != np.median(steps))[0])
        jumps = int((steps != np.median(steps)).sum())
        say("names", f"numbers jump {jumps} times in {part}/, first from {names[at]} to {names[at + 1]}", wrong=False)


def _look_at_images(folder: Path, names: tuple[str, ...], say: Say, *, quick: bool, kind: Kind | None) -> Size | None:
    """The size of the images, of the first one where they differ."""
    broken: list[str] = []
    wrong: list[str] = []
    empty: list[str] = []
    even: list[str] = []
    sizes: dict[Size, str] = {}
    for name in names:
        header = read_header(folder / name)
        size = header.size
        if not quick:
            try:
                image, note = read_picture(folder / name, kind)
            except InputError as error:
                wrong.append(str(error))
                continue
            if note is not None and note.endswith(NOTHING):
                empty.append(name)
            elif image is None:
                size = None
            else:
                size = (image.shape[1], image.shape[0])
                even += [name] if kind == "depth" and _is_even(image) else []
        if size is None or not header.whole:
            broken.append(name)
        else:
            sizes.setdefault(size, name)
    if broken:
        say("images", f"{len(broken)} of {len(names)} in {folder.name}/ are damaged or no image: {first_few(broken)}")
    if wrong:
        say("pixels", f"{len(wrong)} of {len(names)} in {folder.name}/ cannot be used: {wrong[0]}")
    if empty:
        detail = f"{len(empty)} of {len(names)} in {folder.name}/ are all zero and count as missing: {first_few(empty)}"
        say("depth", detail, wrong=False)
    if even:
        detail = f"{len(even)} of {len(names)} in {folder.name}/ render to one colour: {first_few(even)}"
        say("depth", detail, wrong=False)
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height} ({name}, ...)" for (width, height), name in list(sizes.items())[:3])
        say("size", f"the images of {folder.name}/ differ: {shown}")
    return next(iter(sizes), None)


def _is_even(image: Image) -> bool:
    return bool((image == image[0, 0]).all())


def _look_at_boxes(folder: Path, layout: Layout, say: Say, *, size: Size | None) -> int | None:
    """The number of rows, None where they cannot be read."""
    path = folder / layout.boxes
    try:
        boxes = read_boxes(path, nan=layout.nan)
    except InputError as error:
        say("boxes", str(error))
        return None
    present = None
    if layout.present:
        try:
            present = read_labels(folder / layout.present, len(boxes))
        except InputError as error:
            say("labels", str(error))
    start = 0 if present is None else int(present.argmax())
    good = np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))
    if not good[start]:
        say("boxes", f"the first box of {path.name} cannot start a tracker: {_row(boxes[start])}")
    if not (later := np.delete(good, start)).all():
        say("absent", f"{int((~later).sum())} of {len(boxes)} boxes have no size", wrong=False)
    if size is not None:
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        strange = (low >= size) | (high <= 0) | (boxes[:, 2:] > size)
        odd = np.flatnonzero(good & strange.any(axis=1))
        if len(odd):
            detail = f"{len(odd)} lie outside the frame or are larger than it, first in row {odd[0] + 1}"
            say("odd boxes", detail, wrong=False)
    return len(boxes)


def _labels(which: Benchmark, root: Path, name: str, path: str, say: Say) -> dict[str, int | None]:
    """Ground-truth file -> its rows, of those that scoring needs beside the boxes that tracking starts from."""
    rows: dict[str, int | None] = {}
    needed = [labels.places for labels in which.labels]
    needed += [tuple(place for flags in which.absent for place in flags.places)] if which.absent else []
    for places in needed:
        files = [root / top / place.format(name=name, path=path) for top in ("", which.title) for place in places]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            say("ground truth", f"there is no {files[0].name} to score with (looked for {files[0]})")
        else:
            text = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            rows[file.name] = sum(bool(line.strip()) for line in text.split(b"\n"))
    return rows


def _compare_counts(counts: dict[str, int], rows: dict[str, int | None], every: int, say: Say) -> None:
    """Frames of each modality against each other and against box rows."""
    shown = [f"{part}/ {count} images" for part, count in counts.items()]
    shown += [f"{file} {count} rows" for file, count in rows.items() if count is not None]
    frames = min(counts.values(), default=0)
    expected = -(-frames // every)
    known = {file: count for file, count in rows.items() if count is not None}
    if known and expected > 1 and set(known.values()) == {1}:
        say("boxes", "there is a box for the first frame only: it can be tracked, not scored", wrong=False)
        known = {}
    wrong = any(count != expected for count in known.values())
    if counts and (len(set(counts.values())) > 1 or wrong):
        say("counts", ", ".join(shown) + (f" (a row every {every} frames)" if every > 1 else ""))


def _row(box: NDArray[np.float64]) -> str:
    return ",".join(f"{value:g}" for value in box.tolist())
