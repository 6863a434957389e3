"""Reading box files: one row of numbers a frame."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError

_SEPARATORS = str.maketrans(",;\t", "   ")


def read_boxes(path: Path) -> NDArray[np.float64]:
    """(N, 4) float64 x, y, w, h of a box file (docs/specs/ckd.md, section 4).

    Numbers are separated by commas, tabs or blanks. A row of more than four numbers is a polygon x1, y1, x2, y2, ...
    and becomes its enclosing box.

    Raises:
        InputError: the file is missing, empty, or a row is not numbers; names the file and the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such box file; it should hold one row of x,y,w,h a frame") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; it should hold one row of x,y,w,h a frame") from error
    if not lines:
        raise InputError(f"{path}: empty; it should hold one row of x,y,w,h a frame")
    return np.array([_row(path, number, line) for number, line in enumerate(lines, 1)], np.float64)


def _row(path: Path, number: int, line: str) -> list[float]:
    fields = line.translate(_SEPARATORS).split()
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = []
    if len(values) < 4 or len(values) % 2 or not np.isfinite(values).all():
        raise InputError(
            f"{path}, line {number}: got {line.strip()[:60]!r}; a row is x,y,w,h or the corners of a polygon"
        )
    if len(values) == 4:
        return values
    x, y = values[0::2], values[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
