"""Which frames of a sequence lack a modality: masks, and the `missing_results` files in which they are published.

Source: docs/specs/ipl.md, section 8. Patterns of loss are in `duotrack.datasets.patterns`; drawing masks is the work of
`duotrack.datasets.dropouts`.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError, first_few
from duotrack.files import write_text

Mask = NDArray[np.bool_]
"""(F, 2): whether the visible image (column 0) and the auxiliary one (column 1) of each frame is there."""

MAX_FRAMES = 4_000_000
"""Frames in one file, all sequences together; the largest published one has 631,447."""
MAX_BYTES = 256 * 2**20
ABOUT = "; is this the right file?"


def read_masks(path: str | Path) -> dict[str, Mask]:
    """Sequence name -> its mask, of a `missing_results` file, plain or gzip.

    Rows are those of the file. Row 0 is never used: the first frame, which initialises a tracker, counts as complete.

    Raises:
        InputError: no such file, no JSON of that form, too large, or a mask that is not one row of two numbers 0 or 1 a
            frame; names the sequence.
    """
    content = read_object(path)
    if not content:
        raise InputError(f"{path}: holds no mask{ABOUT}")
    return {name: _mask(path, name, value) for name, value in content.items()}


def write_masks(path: str | Path, masks: Mapping[str, Mask]) -> None:
    """Write a `missing_results` file: `{name: {"frames": F, "data": [[1.0, 0.0], ...]}}`, a line a sequence."""
    lines = [
        f"{json.dumps(name)}: {json.dumps({'frames': len(mask), 'data': mask.astype(np.float64).tolist()})}"
        for name, mask in masks.items()
    ]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def check_rows(
    path: str | Path, rows: Mapping[str, int], lengths: Mapping[str, int], *, known: Iterable[str] | None = None
) -> None:
    """Refuse masks that do not fit the data.

    Args:
        path: where they come from, for the message.
        rows: sequence name -> rows of its mask.
        lengths: the sequences that are wanted, and how many frames each has.
        known: every sequence that there is; None where that is not known.

    Raises:
        InputError: a sequence without a mask, a mask of another length, or one of a sequence that there is not; names
            the sequence.
    """
    everything = set(rows if known is None else known)
    strange = sorted(set(rows) - everything)
    if strange:
        raise InputError(
            f"{path}: {len(strange)} of {len(rows)} are of no sequence of this data set: {shown_names(strange)}{ABOUT}"
        )
    missing = [name for name in lengths if name not in rows]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(lengths)} sequences are not in it: {shown_names(missing)}{ABOUT}"
        )
    for name, frames in lengths.items():
        if rows[name] != frames:
            raise InputError(
                f"{path}: sequence {name!r} has {rows[name]} rows there and {frames} frames here; "
                "one row a frame is needed"
            )


def digest(masks: Mapping[str, Mask]) -> str:
    """SHA-256 (hex) of masks, whatever file they come from and in whatever order."""
    found = hashlib.sha256()
    for name in sorted(masks):
        found.update(f"{name}\0{len(masks[name])}\0".encode())
        found.update(np.packbits(masks[name]).tobytes())
    return found.hexdigest()


def read_object(path: str | Path) -> dict[str, Any]:
    """A JSON object, plain or gzip; nothing is built before its size is known to be reasonable."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: a damaged gzip file ({error}); fetch it again") from error
    # a value takes a hundred bytes in memory and two in a file
    if (
        len(text) > MAX_BYTES
        or text.count(b"[") + text.count(b"{") > 2 * MAX_FRAMES
        or text.count(b",") > 3 * MAX_FRAMES
    ):
        raise InputError(f"{path}: over {MAX_BYTES >> 20} MiB or {MAX_FRAMES} frames{ABOUT}")
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON ({error}){ABOUT}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object by sequence or group is needed, got a {type(content).__name__}{ABOUT}")
    return content


def shown_names(names: list[str]) -> str:
    """Some names, cut, and with control characters escaped: they come from a file."""
    return first_few([repr(name[:60])[1:-1] for name in names])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"{twice[:60]!r} is there twice; remove one")
    return made


def _mask(path: str | Path, name: str, value: Any) -> Mask:
    where = f"{path}: sequence {name[:60]!r}"
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise InputError(f'{where}: needs {{"frames": F, "data": [[rgb, aux], ...]}}, got {str(value)[:40]}{ABOUT}')
    rows, frames = value["data"], value.get("frames")
    if isinstance(frames, bool) or not isinstance(frames, int) or frames != len(rows) or not rows:
        raise InputError(f"{where}: {str(frames)[:20]} frames and {len(rows)} rows; one row a frame is needed")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 2 or not all(_is_bit(value) for value in row):
            raise InputError(f"{where}, row {number}: {str(row)[:40]} is not two numbers 0 or 1")
    return np.array(rows, np.bool_)


def _is_bit(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1)
