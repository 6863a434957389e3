"""What the first and last bytes of an image file say: its size, and whether its end is there."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

from duotrack.images import declared_size

_HEAD = 262_144
"""Where the size is looked for: a JPEG may carry a thumbnail before it."""
_TAIL = 65_536
"""Where the end mark is looked for: some cameras write after it."""


@dataclass(frozen=True)
class Header:
    """(width, height), None where the start is damaged or of a kind not known here; `whole`: the end is there."""

    size: tuple[int, int] | None
    whole: bool


def read_header(path: Path) -> Header:
    """Look at the start and the end of a JPEG, PNG, BMP or TIFF file; a file that cannot be read is neither."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD)
            length = file.seek(0, io.SEEK_END)
            if start[:4] in (b"II*\0", b"MM\0*") and length > _HEAD:  # a TIFF may keep its directory anywhere
                file.seek(0)
                start = file.read()
            file.seek(max(0, length - _TAIL))
            tail = file.read()
    except OSError:
        return Header(None, False)
    size = declared_size(start)
    if start[:2] == b"\xff\xd8":
        return Header(size, b"\xff\xd9" in tail)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return Header(size, b"IEND\xaeB`\x82" in tail)
    if start[:2] == b"BM" and len(start) >= 26:
        return Header(size, length >= struct.unpack("<I", start[2:6])[0])
    return Header(size, length > 0)
