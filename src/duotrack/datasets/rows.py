"""Rows of numbers from text, many files in one pass: ground truths and result files hold little else."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_INTEGER, _REAL, _GAP, _END, _FOREIGN = range(5)
_COMMA = ord(",")
_BLANKS = bytes.maketrans(b",\t\r\n", b"    ")


def _classes() -> bytes:
    table = bytearray([_FOREIGN] * 256)
    for kind, members in ((_INTEGER, b"0123456789+-"), (_REAL, b".eEnNaAiIfF"), (_GAP, b" ,\t"), (_END, b"\r\n")):
        for member in members:
            table[member] = kind
    return bytes(table)


_CLASSES = _classes()


@dataclass(frozen=True, eq=False)
class Rows:
    """The numbers of one file, (N, width) float64, and how many blank lines stood before the last row."""

    values: NDArray[np.float64]
    blank: int


def parse_rows(
    texts: Sequence[bytes], names: Sequence[str], *, widths: Sequence[int] = (4, 8), row: str = "4 or 8 numbers"
) -> list[Rows]:
    """The rows of many files, each of one width out of `widths`.

    Numbers are separated by a comma, blanks or tabs and may be scientific, `nan` or `inf`; line ends are LF, CR LF or
    a lone CR. Blank lines are skipped and counted (docs/specs/evaluation.md, section 1). All files are parsed in one
    pass; only where that fails is the line looked for.

    Args:
        texts: the content of each file.
        names: what to call each file in an error.
        widths: how many numbers a row may have.
        row: what a row is, in words, for an error.

    Raises:
        InputError: an empty file, foreign text, another delimiter, a row of another width; names file and line.
    """
    parsed = _parse(texts, widths) if texts else []
    if parsed is not None:
        return parsed
    single = ((text, name, _parse([text], widths)) for text, name in zip(texts, names, strict=True))
    return [found[0] if found is not None else _line_by_line(text, name, widths, row) for text, name, found in single]


def _parse(texts: Sequence[bytes], widths: Sequence[int]) -> list[Rows] | None:
    """All files at once, or None where one of them is anything but regular."""
    clean = [_plain(text) for text in texts]
    joined = b"\n".join([b"", *clean, b""])
    letters = np.frombuffer(joined, np.uint8)
    kinds = np.frombuffer(joined.translate(_CLASSES), np.uint8)
    if kinds.max() == _FOREIGN:
        return None
    inside = kinds <= _REAL
    tokens = np.cumsum(inside[1:] & ~inside[:-1], dtype=np.int32)  # numbers begun up to byte i + 1
    commas = np.flatnonzero(letters == _COMMA)
    if len(commas):
        before = tokens[commas - 1]
        if (before[1:] == before[:-1]).any() or (kinds[commas - 1] == _END).any():
            return None  # an empty field
    values = _numbers(joined, integers=not (kinds == _REAL).any())
    if values is None or len(values) != tokens[-1]:
        return None
    ends = np.flatnonzero(kinds == _END)[1:]
    per_line = np.diff(tokens[ends - 1], prepend=0)
    last_lines = np.searchsorted(ends, np.cumsum([len(text) + 1 for text in clean]))
    rows, line, value = [], 0, 0
    for last in last_lines.tolist():
        counts = per_line[line : last + 1]
        filled = np.flatnonzero(counts)
        if not len(filled):
            return None
        width = int(counts[filled[0]])
        if width not in widths or (counts[filled] != width).any():
            return None
        size = width * len(filled)
        rows.append(Rows(values[value : value + size].reshape(-1, width), int(filled[-1]) + 1 - len(filled)))
        line, value = last + 1, value + size
    return rows


def _plain(text: bytes) -> bytes:
    text = text.removeprefix(b"\xef\xbb\xbf")
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text


def _numbers(text: bytes, *, integers: bool) -> NDArray[np.float64] | None:
    blank = text.translate(_BLANKS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # older NumPy only warns of text that is no number
        try:
            if integers:  # eight times as fast as real numbers
                whole = np.fromstring(blank, np.int64, sep=" ")
                if not len(whole) or np.abs(whole).max() < 2**53:
                    return whole.astype(np.float64)
            return np.fromstring(blank, np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


def _line_by_line(text: bytes, name: str, widths: Sequence[int], row: str) -> Rows:
    rows: list[list[float]] = []
    blank = 0
    try:
        text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not a text file; it should hold one row a frame: {row}") from error
    for number, line in enumerate(split_lines(text.rstrip()), 1):
        fields = re.split(rb"[ \t]*,[ \t]*|[ \t]+", line.strip().removesuffix(b","))
        if fields == [b""]:
            blank += 1
            continue
        if not all(_NUMBER.fullmatch(field) for field in fields):
            raise InputError(f"{name}, line {number}: got {shown(line)}; a row is {row}{_delimiter(line)}")
        if len(fields) not in widths or (rows and len(fields) != len(rows[0])):
            before = f" and the rows before it have {len(rows[0])}" if rows else ""
            raise InputError(f"{name}, line {number}: got {len(fields)} values{before}; a row is {row}")
        rows.append([float(field) for field in fields])
    if not rows:
        raise InputError(f"{name}: empty; it should hold one row a frame: {row}")
    return Rows(np.array(rows, np.float64), blank)


def split_lines(text: bytes) -> list[bytes]:
    """The lines of a text, whatever their ends."""
    return re.split(rb"\n|\r", _plain(text))


def shown(line: bytes) -> str:
    """A line as an error shows it."""
    return repr(line.strip()[:60].decode("utf-8", "replace"))


def _delimiter(line: bytes) -> str:
    found = next((mark for mark in (b";", b"|", b":") if mark in line), None)
    return "" if found is None else f" separated by a comma, blanks or a tab, not by {found.decode()!r}"
