"""What the first and last bytes of an image file say: its size, and whether its end is there."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_PNG_END = b"IEND\xaeB`\x82"
_TAIL = 65_536
"""Where the end mark is looked for: some cameras write after it."""
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""JPEG markers of a frame header."""
_BARE = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without content."""


@dataclass(frozen=True)
class Header:
    """(width, height), None where the start is damaged or of a kind not known here; `whole`: the end is there."""

    size: tuple[int, int] | None
    whole: bool


def read_header(path: Path) -> Header:
    """Look at the start and the end of a JPEG, PNG or BMP file; a file that cannot be read is neither."""
    try:
        with path.open("rb") as file:
            start = file.read(26)
            size = _jpeg_size(file) if start[:2] == b"\xff\xd8" else _plain_size(start)
            length = file.seek(0, io.SEEK_END)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
    except OSError:
        return Header(None, False)
    if start[:2] == b"\xff\xd8":
        return Header(size, b"\xff\xd9" in tail)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return Header(size, _PNG_END in tail)
    if start[:2] == b"BM" and len(start) == 26:
        return Header(size, length >= struct.unpack("<I", start[2:6])[0])
    return Header(None, length > 0)


def _plain_size(start: bytes) -> tuple[int, int] | None:
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[12:16] == b"IHDR" and len(start) >= 24:
        return struct.unpack(">II", start[16:24])
    if start[:2] == b"BM" and len(start) == 26:
        width, height = struct.unpack("<ii", start[18:26])
        return width, abs(height)
    return None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Walk the segments up to the frame header."""
    file.seek(2)
    while (mark := file.read(2)) and mark[0] == 0xFF and len(mark) == 2:
        kind = mark[1]
        if kind == 0xFF:  # fill byte
            file.seek(-1, io.SEEK_CUR)
            continue
        if kind in _BARE:
            continue
        head = file.read(7)
        if len(head) < 7 or kind in (0xD9, 0xDA):
            return None
        if kind in _SIZES:
            height, width = struct.unpack(">HH", head[3:7])
            return width, height
        file.seek(int.from_bytes(head[:2], "big") - 7, io.SEEK_CUR)
    return None
