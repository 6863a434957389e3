"""Images as files hold them: size from the header, decoding, and conversion to (H, W, 3) uint8 RGB."""

import logging
import re
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.depth import Colours, check_depth, depth_picture
from duotrack.errors import InputError
from duotrack.frames import Image, Kind
from duotrack.thermal16 import Thermal16, Thermal16Scaler

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded: a few bytes can declare gigabytes."""

_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
"""The first marker behind coded data, in which 0xff is followed by zero or is a restart marker."""


def check_pixels(name: str, width: int, height: int) -> None:
    """Raise `InputError` where an image of this declared size is more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} declares {width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} megapixels; "
            "scale it down first"
        )


def declared_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a PNG, JPEG, BMP or TIFF file, None where it has none that can be read."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack(">II", data[16:24])
            return int(width), int(height)
        if data[:2] == b"BM":
            width, height = struct.unpack("<ii", data[18:26])
            return abs(int(width)), abs(int(height))  # a negative height means top row first
        if data[:2] == b"\xff\xd8":
            return _jpeg_size(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff_size(data)
    except (struct.error, IndexError):
        return None
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        else:
            at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether valid markers lead to the end marker: decoders fill a damaged scan with grey and call it well."""
    at = 2
    while (data[at : at + 1] == b"\xff" and at + 4 <= len(data)) or data[at : at + 2] == b"\xff\xd9":
        marker = data[at + 1]
        if marker == 0xD9:  # end of image; cameras may put more behind it
            return True
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker < 0xC0:  # reserved: bytes of a scan that were overwritten
            return False
        else:
            at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
            if marker == 0xDA:  # start of scan, coded data follow
                after = _AFTER_SCAN.search(data, at)
                at = len(data) if after is None else after.start()
    return False


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[at : at + 2])
    found: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack(order + "HH", data[entry : entry + 4])
        if tag in (256, 257):
            found[tag] = struct.unpack(
                order + ("H" if kind == 3 else "I"), data[entry + 8 : entry + (10 if kind == 3 else 12)]
            )[0]
    return (found[256], found[257]) if len(found) == 2 else None


def read_raw(path: Path, *, side: int | None = None) -> NDArray[Any] | None:
    """Decode an image file as it is: (H, W) or (H, W, 3 or 4) in OpenCV's BGR order; None where it is corrupt.

    With `side` a JPEG comes at a half, quarter or eighth of its size, in less time, if its longer side stays above it.

    Raises:
        InputError: it declares more than `MAX_PIXELS`.
    """
    data = path.read_bytes()
    size = declared_size(data)
    if size is None:
        return None
    check_pixels(str(path), *size)
    jpeg = data[:2] == b"\xff\xd8"
    if jpeg and not _jpeg_is_whole(data):
        return None
    if data[:4] == b"\x89PNG" and b"IEND" not in data[-64:]:  # truncated; asking libpng would print to standard error
        return None
    # only a JPEG carries an orientation that everybody honours; everything else is taken with all its channels and bits
    flags = cv2.IMREAD_ANYCOLOR if jpeg else cv2.IMREAD_UNCHANGED
    if jpeg and side is not None:
        smaller = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
        flags = next((smaller[by] for by in (8, 4, 2) if max(size) // by >= side), flags)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


class RgbConverter:
    """Turns decoded images of one stream into (H, W, 3) uint8 RGB and says each kind of conversion once.

    Args:
        name: what to call the stream in notes and errors.
        kind: what its images show; None: visible light, where a grey image is worth a word.
        thermal: how 16-bit grey becomes 8-bit, by one `Thermal16Scaler`: convert a stream's images in their order.
        depth_colours: order of the channels of rendered depth (`duotrack.depth`).
    """

    def __init__(
        self,
        name: str,
        *,
        kind: Kind | None = None,
        thermal: Thermal16 | None = None,
        depth_colours: Colours = "bgr",
    ) -> None:
        self.kind = kind
        self._name = name
        self._scaler = Thermal16Scaler(thermal)
        self._depth_colours = depth_colours
        self._said: set[str] = set()

    def check(self, raw: NDArray[Any]) -> None:
        """Whether images like this one can be converted.

        Raises:
            InputError: pixels of a type, or channels, that this kind of image does not have.
        """
        if self.kind == "depth":
            check_depth(raw, self._name)
            return
        if raw.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"{self._name}: pixels are {raw.dtype}, expected 8 or 16-bit integers; save them as 16-bit PNG or TIFF"
            )
        if self.kind == "event" and raw.dtype == np.uint16:
            raise InputError(
                f"{self._name}: pixels have 16 bits; event frames are pictures of 8 bits in which events were drawn: "
                "render them first"
            )
        if raw.ndim == 3 and raw.shape[2] not in (3, 4):
            raise InputError(
                f"{self._name}: images have {raw.shape[2]} channels, expected 1, 3 or 4; convert them to RGB"
            )

    def __call__(self, raw: NDArray[Any]) -> tuple[Image | None, str | None]:
        """One image, None where it holds nothing, and a note where this kind of conversion was met for the first time.

        An image that holds nothing has a note every time. Raises as `check`.
        """
        self.check(raw)
        if self.kind == "depth":
            picture, remark = depth_picture(raw, self._name, colours=self._depth_colours)
            note = self._note([remark] if remark else [])
            return picture, f"{self._name}: {remark}" if picture is None else note
        kinds = []
        if raw.dtype == np.uint16:
            grey = raw.ndim == 2
            kinds.append(
                "16-bit grey, scaled to 8 bits by running percentiles" if grey else "16-bit colour, reduced to 8 bits"
            )
            raw = self._scaler(raw) if grey else (raw >> 8).astype(np.uint8)
        if raw.ndim == 2:
            if self.kind is None and not kinds:
                kinds.append("grey where colour is expected, the one channel is used three times")
            image = cv2.cvtColor(raw, cv2.COLOR_GRAY2RGB)
        elif raw.shape[2] == 4:
            kinds.append("has transparency, which is dropped")
            image = cv2.cvtColor(raw, cv2.COLOR_BGRA2RGB)
        else:
            image = cv2.cvtColor(raw, cv2.COLOR_BGR2RGB)
        return np.asarray(image, np.uint8), self._note(kinds)

    def _note(self, kinds: list[str]) -> str | None:
        new = [kind for kind in kinds if kind not in self._said]
        self._said.update(new)
        if not new:
            return None
        note = f"{self._name}: {'; '.join(new)}"
        log.log(logging.WARNING if self.kind in (None, "depth") else logging.INFO, note)
        return note
