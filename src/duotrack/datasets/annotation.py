"""Reading box files: one row of numbers a frame."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.rows import parse_rows, shown, split_lines
from duotrack.errors import InputError

_EXPECTED = "it should hold one row of x,y,w,h a frame"
_ROW = "x,y,w,h or the corners of a polygon"
_WIDTHS = range(4, 66, 2)


def read_boxes(path: Path, *, nan: bool = False) -> NDArray[np.float64]:
    """(N, 4) float64 x, y, w, h of a box file (docs/specs/ckd.md, section 4).

    Numbers are separated by commas, tabs or blanks. A row of more than four numbers is a polygon x1, y1, x2, y2, ...
    and becomes its enclosing box.

    Args:
        path: the file.
        nan: whether rows may hold `nan`, which some benchmarks write where the target is absent.

    Raises:
        InputError: the file is missing, empty, or a row is not numbers; names the file and the line.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such box file; {_EXPECTED}") from error
    (rows,) = parse_rows([text], [str(path)], widths=_WIDTHS, row=_ROW)
    boxes = rows.values
    bad = np.isinf(boxes) if nan else ~np.isfinite(boxes)
    if rows.blank or bad.any():  # a blank line may be a frame without a box: no guess which frames the rest belong to
        lines = split_lines(text.rstrip())
        filled = [number for number, line in enumerate(lines, 1) if line.strip()]
        wrong = {filled[row] for row in np.flatnonzero(bad.any(axis=1))} | (set(range(1, len(lines))) - set(filled))
        number = min(wrong)
        raise InputError(f"{path}, line {number}: got {shown(lines[number - 1])}; a row is {_ROW}")
    return boxes if boxes.shape[1] == 4 else enclosing(boxes)


def enclosing(polygons: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) x, y, w, h around (N, 2k) polygons x1, y1, x2, y2, ..."""
    x, y = polygons[:, 0::2], polygons[:, 1::2]
    left, top = x.min(axis=1), y.min(axis=1)
    return np.stack([left, top, x.max(axis=1) - left, y.max(axis=1) - top], axis=1)
