"""The mask of one video: out of a `missing_results` file, or two columns of text."""

import re
from codecs import BOM_UTF8
from pathlib import Path

import numpy as np

from duotrack.datasets.missing import MAX_BYTES, Mask, read_masks, shown_names
from duotrack.datasets.rows import parse_rows
from duotrack.errors import InputError, nearest

_HEADER = re.compile(rb"[ \t]*[\"A-Za-z_]+[\"A-Za-z_ \t,]*\r?\n")


def read_mask(path: str | Path, *, sequence: str | None = None) -> tuple[str, Mask]:
    """Which frames of a video have the visible and the auxiliary image; before it, what to call the mask in messages.

    Args:
        path: a `missing_results` file (JSON, plain or gzip), or text with two numbers 0 or 1 a line, visible first,
            a comma, blanks or a tab between; one line of column names may stand before them.
        sequence: which mask of the JSON to take; needed where it holds several.

    Raises:
        InputError: no such file, a file of neither form, several masks and none chosen, or none of that name.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).removeprefix(BOM_UTF8)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such mask file") from error
    if text[:2] == b"\x1f\x8b" or text.lstrip()[:1] in (b"{", b"["):
        masks = read_masks(path)
        name = _chosen(path, masks, sequence)
        return f"{path}: sequence {name[:60]!r}", masks[name]
    if sequence is not None:
        raise InputError(f"{path}: a text mask has no sequences; leave out --mask-sequence {sequence}")
    if len(text) > MAX_BYTES:
        raise InputError(f"{path}: over {MAX_BYTES >> 20} MiB; is this the right file?")
    row = "two numbers 0 or 1, visible and auxiliary"
    (rows,) = parse_rows(
        [_HEADER.sub(b"", text, count=1) if _HEADER.match(text) else text], [str(path)], widths=(2,), row=row
    )
    bad = np.flatnonzero(~np.isin(rows.values, (0, 1)).all(axis=1))
    if len(bad):
        got = ", ".join(f"{value:g}" for value in rows.values[bad[0]])
        raise InputError(f"{path}, frame {bad[0]}: got {got}; a row is {row}")
    if rows.blank:
        raise InputError(f"{path}: {rows.blank} blank lines between the rows; one row a frame is needed")
    return str(path), rows.values.astype(np.bool_)


def _chosen(path: Path, masks: dict[str, Mask], sequence: str | None) -> str:
    if sequence is None and len(masks) == 1:
        return next(iter(masks))
    if sequence is None:
        raise InputError(
            f"{path}: holds masks of {len(masks)} sequences ({shown_names(sorted(masks))}); choose one: --mask-sequence"
        )
    if sequence not in masks:
        hint = nearest(sequence, list(masks)) if len(masks) <= 50 else ""
        raise InputError(f"{path}: holds no mask of sequence {sequence!r}{hint}")
    return sequence
