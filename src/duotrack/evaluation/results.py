"""Result files of trackers: found, read and understood, in every form in use."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from duotrack.boxes import iou_xywh
from duotrack.datasets.ground_truth import GroundTruth
from duotrack.datasets.rows import parse_rows, split_lines
from duotrack.datasets.tree import Tree, open_tree
from duotrack.errors import InputError, first_few, nearest

BoxFormat = Literal["ltwh", "ltrb", "xywh", "corner"]
FORMATS: dict[str, str] = {
    "ltwh": "left, top, width, height",
    "ltrb": "left, top, right, bottom",
    "xywh": "centre, width, height",
    "corner": "eight numbers, the corners of a box",
}
_QUOTES = str.maketrans("", "", "`'´’‘")
_JOINTS = "_-. "  # end what stands before a sequence's name
_SUFFIXES = ("", "_001")  # the second is the VOT toolkit's
RUN_FILE = "run.json"
"""Lies beside results that duotrack made, in `<tracker>/<benchmark>/` (`duotrack.evaluation.state`)."""
_CONFIDENCES = ("_confidence.value", "_confidence.txt")


@dataclass(frozen=True, eq=False)
class Results:
    """What a tracker wrote.

    Attributes:
        tracker: its name.
        boxes: sequence -> (N, 4) or (N, 8) float64, rows as written.
        format: how rows read, a key of `FORMATS`.
        files: sequence -> file, for messages.
        notes: what was decided or left out, in words.
        missing: sequences without a result, in order.
        blank: how many blank lines between rows were skipped.
        confidences: sequence -> (N,) float64, where the tracker wrote them.
        mask: SHA-256 of the masks of missing modalities that it ran under, "none" without; None where no record of a
            run of duotrack says.
    """

    tracker: str
    boxes: dict[str, NDArray[np.float64]]
    format: BoxFormat
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    blank: int = 0
    confidences: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    mask: str | None = None


def read_results(
    path: str | Path,
    ground_truth: Sequence[GroundTruth],
    *,
    box_format: str | None = None,
    allow_missing: bool = False,
    tracker: str | None = None,
) -> Results:
    """The result files of one tracker: `<prefix><sequence>.txt`, one row a frame, in a folder or a zip file.

    Args:
        path: the folder or zip file; the files may lie deeper inside, if all in the same way.
        ground_truth: the sequences to read, and what tells corners from sizes.
        box_format: a key of `FORMATS`; None to find out, which is said in the notes.
        allow_missing: go on without the sequences that have no file.
        tracker: its name; None for that of the folder or file, or as duotrack's own run was called.

    Raises:
        InputError: files are missing or broken, or the format is not clear; names file and line.
    """
    if box_format is not None and box_format not in FORMATS:
        raise InputError(f"box format {box_format!r} is not known{nearest(box_format, list(FORMATS))}")
    names = [each.name for each in ground_truth]
    with open_tree(path) as tree:
        shape, files, notes = _find(tree, names)
        missing = tuple(name for name in names if name not in files)
        if missing:
            message = f"{path}: {len(missing)} of {len(names)} sequences have no result file: {first_few(missing)}"
            if not allow_missing:
                raise InputError(f"{message}; complete them, or score the rest with --allow-missing")
            notes.append(
                f"{len(missing)} of {len(names)} sequences have no result and are left out: {first_few(missing)}"
            )
        ordered = [name for name in names if name in files]
        texts = tree.read_all(files[name] for name in ordered)
        if shape.endswith("_001.txt"):
            texts = [_without_code(text) for text in texts]
        parsed = parse_rows(texts, [tree.at(files[name]) for name in ordered])
        confidences = _confidences(tree, {name: files[name] for name in ordered})
        record = _record(tree, shape)
    mask = str(record.get("mask", "none")) if record else None
    if mask not in (None, "none"):
        notes.append(f"made under masks of missing modalities ({mask[:12]})")
    if record.get("redetect"):
        notes.append("made with re-detection: not standard one-pass results")
    blank = sum(rows.blank for rows in parsed)
    if blank:
        notes.append(f"{blank} blank lines between rows were skipped")
    boxes = {name: rows.values for name, rows in zip(ordered, parsed, strict=True)}
    _same_width(boxes, files, tree)
    chosen, why = _given(boxes, box_format) if box_format is not None else find_format(boxes, ground_truth)
    called = {each: tree.at(files[each]) for each in ordered}
    name = tracker or _tracker(Path(path), shape, ours=bool(record))
    return Results(name, boxes, chosen, called, (*notes, why), missing, blank, confidences, mask)


def _record(tree: Tree, shape: str) -> dict[str, Any]:
    """What a run of duotrack noted beside its results; empty where they are not of one."""
    file = str(PurePosixPath(shape).parent / RUN_FILE)
    if not tree.has(file):
        return {}
    try:
        content = json.loads(tree.read(file))
    except (ValueError, RecursionError):  # another program's
        return {}
    return content if isinstance(content, dict) and {"model", "dataset", "sequences"} <= content.keys() else {}


def _tracker(path: Path, shape: str, *, ours: bool) -> str:
    """What a tracker is called whose files lie in that shape at `path`; `ours` lie in `<tracker>/<benchmark>/`."""
    folder = PurePosixPath(shape).parent
    if ours:
        folder = folder.parent if path.is_file() else PurePosixPath((path / folder).resolve().parent)
    return folder.name if folder.name and "{name}" not in folder.name else path.resolve().stem


def find_format(boxes: Mapping[str, NDArray[np.float64]], ground_truth: Iterable[GroundTruth]) -> tuple[BoxFormat, str]:
    """Which format rows of four are in, and why.

    Trackers write the given box as their first row, so the reading that meets the first ground-truth boxes is the
    right one; where the first rows do not tell, overlap over the whole set may. A reading as corners is out where it
    turns boxes inside out.

    Raises:
        InputError: no reading stands out; asks for `--box-format`.
    """
    if next(iter(boxes.values())).shape[1] == 8:
        return "corner", "box format: corner, eight numbers a row"
    truths = [each for each in ground_truth if each.name in boxes]
    rows = np.concatenate([boxes[each.name] for each in truths])
    inverted = float(((rows[:, 2] < rows[:, 0]) | (rows[:, 3] < rows[:, 1])).mean())
    readings: list[BoxFormat] = ["ltwh", "xywh"] if inverted > 0.05 else ["ltwh", "ltrb", "xywh"]
    first = {each: _agreement(boxes, truths, each, slice(0, 1)) for each in readings}
    best, second = sorted(readings, key=lambda each: -float(np.median(first[each])))[:2]
    by_first = {each: float(np.median(first[each])) for each in readings}
    if by_first[best] >= 0.5 and by_first[best] - by_first[second] >= 0.2:
        share = float((first[best] > 0.5).mean())
        return best, (
            f"box format: {best} ({FORMATS[best]}), since {share:.0%} of first rows then meet the ground truth "
            f"(median overlap {by_first[best]:.2f}; as {second} {by_first[second]:.2f})"
        )
    whole = {each: float(_agreement(boxes, truths, each, slice(None)).mean()) for each in readings}
    best, second = sorted(readings, key=lambda each: -whole[each])[:2]
    if whole[best] >= 0.1 and whole[best] >= 1.5 * whole[second]:
        return best, (
            f"box format: {best} ({FORMATS[best]}), from the mean overlap {whole[best]:.2f} over all frames; "
            f"as {second} {whole[second]:.2f}; first rows do not tell"
        )
    overlaps = ", ".join(f"{each} {whole[each]:.2f}" for each in readings)
    raise InputError(
        f"{', '.join(list(boxes)[:1])}: the box format is not clear (mean overlap with the ground truth: {overlaps}); "
        f"give --box-format {' or '.join(readings)}"
    )


def to_ltwh(rows: NDArray[np.float64], box_format: BoxFormat, *, plus_one: bool = False) -> NDArray[np.float64]:
    """(N, 4) left, top, width, height of rows in any format; `plus_one`: w = x2 - x1 + 1, for corners."""
    if box_format == "ltwh":
        return rows
    if box_format == "xywh":
        return np.concatenate([rows[:, :2] - rows[:, 2:] / 2, rows[:, 2:]], axis=1)
    ends = rows[:, [2, 5]] if box_format == "corner" else rows[:, 2:]  # x1 y1 x2 y1 x2 y2 x1 y2
    with np.errstate(invalid="ignore"):  # inf less inf is nan, and counted as that
        return np.concatenate([rows[:, :2], ends - rows[:, :2] + plus_one], axis=1)


def _find(tree: Tree, names: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """How files are named, sequence -> file, and notes."""
    found = [file for file in tree.files() if file.endswith((".txt", ".csv"))]
    present = set(found)
    shapes = Counter(shape for file in found for shape in _shapes(file, set(names)))
    if not shapes:
        listed = f"it has {first_few(found)}" if found else "it has no text file"
        raise InputError(f"{tree.root}: no result file is there, such as {names[0]}.txt ({listed})")
    shape = max(shapes, key=lambda each: (shapes[each], *(-part for part in _remoteness(each))))
    rival = next((each for each in shapes if each != shape and _rivals(shapes, shape, each)), None)
    if rival is not None:
        raise InputError(
            f"{tree.root}: holds more than one set of results, {shape.format(name='*')} and {rival.format(name='*')}; "
            "give the folder of one"
        )
    notes = [] if shape == "{name}.txt" else [f"result files: {shape.format(name='<sequence>')}"]
    files = {name: file for name in names if (file := shape.format(name=name)) in present}
    plain = {file.translate(_QUOTES): file for file in found if file not in set(files.values())}
    for name in names:
        near = plain.get(shape.format(name=name).translate(_QUOTES))
        if name not in files and near is not None:
            files[name] = near
            notes.append(f"{PurePosixPath(near).name} is taken for {name}: they differ in quotation marks only")
    extra = sorted(present - set(files.values()))
    extra = [file for file in extra if not file.endswith(("_time.txt", *_CONFIDENCES))]
    if extra:
        notes.append(f"{len(extra)} files belong to no sequence and are not read: {first_few(extra)}")
    return shape, files, notes


def _shapes(file: str, names: set[str]) -> list[str]:
    """The ways to see the file's name as that of a sequence with something before or after it."""
    path = PurePosixPath(file)
    found = []
    for suffix in _SUFFIXES:
        stem = path.stem.removesuffix(suffix)
        starts = (start for start in range(len(stem)) if start == 0 or stem[start - 1] in _JOINTS)
        start = next((start for start in starts if stem[start:] in names), None)
        if start is not None and path.stem == stem + suffix:
            above = [_escaped(part) for part in path.parts[:-1]]
            if above and path.parts[-2] == stem[start:]:
                above[-1] = "{name}"
            found.append("/".join([*above, f"{_escaped(stem[:start])}{{name}}{suffix}{path.suffix}"]))
    return found


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _remoteness(shape: str) -> tuple[int, int]:
    """How deep the files lie, and whether their names have something before the sequence's."""
    return shape.count("/"), not PurePosixPath(shape).name.startswith("{name}")


def _rivals(shapes: Mapping[str, int], shape: str, other: str) -> bool:
    return 2 * shapes[other] >= shapes[shape] and _remoteness(other) <= _remoteness(shape)


def _same_width(boxes: Mapping[str, NDArray[np.float64]], files: Mapping[str, str], tree: Tree) -> None:
    widths = Counter(rows.shape[1] for rows in boxes.values())
    if len(widths) > 1:
        usual = widths.most_common(1)[0][0]
        name = next(name for name, rows in boxes.items() if rows.shape[1] != usual)
        got = boxes[name].shape[1]
        raise InputError(f"{tree.at(files[name])}, line 1: got {got} values; the other files have {usual} a row")


def _given(boxes: Mapping[str, NDArray[np.float64]], box_format: str) -> tuple[BoxFormat, str]:
    chosen = next(each for each in ("ltwh", "ltrb", "xywh", "corner") if each == box_format)
    width = next(iter(boxes.values())).shape[1]
    if width != (8 if chosen == "corner" else 4):
        raise InputError(f"box format {chosen} is {FORMATS[chosen]}, but the result files have {width} values a row")
    return chosen, f"box format: {chosen} ({FORMATS[chosen]}), as given"


def _agreement(
    boxes: Mapping[str, NDArray[np.float64]], truths: Sequence[GroundTruth], box_format: BoxFormat, rows: slice
) -> NDArray[np.float64]:
    """Overlap with the nearer ground truth, of some rows of every sequence; 0 where there is no box."""
    picked, sides = [], []
    for truth in truths:
        ours = boxes[truth.name]
        count = min(len(ours), len(truth))
        every = truth.frames[count - 1] != count - 1 and len(ours) > truth.frames[count - 1]
        picked.append((ours[truth.frames[:count]] if every else ours[:count])[rows])
        sides.append([side[:count][rows] for side in truth.boxes])
    ours = to_ltwh(np.concatenate(picked), box_format)
    best = [iou_xywh(ours, np.concatenate(side)) for side in zip(*sides, strict=True)]
    return np.clip(np.nan_to_num(np.maximum.reduce(best)), 0, 1)


def _without_code(text: bytes) -> bytes:
    """The VOT toolkit writes one number, a code, where the tracker was given the box."""
    lines = split_lines(text)
    return b"\n".join([b"nan,nan,nan,nan", *lines[1:]]) if re.fullmatch(rb"\s*\d+(\.0*)?\s*", lines[0]) else text


def _confidences(tree: Tree, files: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
    found = {}
    for name, file in files.items():
        stem = file.rpartition(".")[0]
        beside = next((stem + ending for ending in _CONFIDENCES if tree.has(stem + ending)), None)
        if beside is not None:
            found[name] = beside
    texts = []
    for file in found.values():
        lines = split_lines(tree.read(file).rstrip(b"\r\n"))
        texts.append(b"\n".join(line if line.strip() else b"nan" for line in lines))  # blank: none in that frame
    parsed = parse_rows(texts, [tree.at(file) for file in found.values()], widths=(1,), row="one confidence")
    return {name: rows.values[:, 0] for name, rows in zip(found, parsed, strict=True)}
