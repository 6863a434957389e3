"""Video files through OpenCV."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError
from duotrack.images import RgbConverter, check_pixels
from duotrack.video.stream import Frame, Stream
from duotrack.video.video16 import open_video16

log = logging.getLogger(__name__)

Truncated = Literal["deliver", "error"]


def capture(source: str | int, backend: int, parameters: list[int] | None = None) -> cv2.VideoCapture:
    """A `cv2.VideoCapture` that keeps its libraries' chatter off standard error; it may turn out not to be opened."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, when OpenCV first touches FFmpeg
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source, backend, parameters or [])
    finally:
        cv2.utils.logging.setLogLevel(level)


def open_video(
    path: Path,
    *,
    name: str,
    convert: RgbConverter,
    truncated: Truncated = "deliver",
) -> Stream:
    """Open a video file, one that holds 16-bit grey through PyAV; `convert` makes RGB of its frames, in order.

    A file that ends before the frames it declares delivers what it has, and then says so in the log
    (`truncated="deliver"`) or raises `InputError` (`"error"`).

    Raises:
        InputError: empty, no video, unreadable, larger than `images.MAX_PIXELS`, 16-bit without PyAV, or pixels
            that `convert` does not take.
    """
    _check_is_video(path)
    reader = capture(str(path), cv2.CAP_FFMPEG)
    try:
        width, height = (int(reader.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_pixels(str(path), width, height)
        grey, bits = _pixel_format(reader)
        good, first = reader.read() if grey is None or bits == 8 else (True, None)
        if not good:
            raise InputError(
                f"cannot read {path} as video (truncated, damaged or no video); "
                f"copy it again, or convert it with ffmpeg -i {path.name} out.mp4"
            )
        if first is not None:
            convert.check(first[..., 0] if grey else first)
    except InputError:
        reader.release()
        raise
    if first is None:
        reader.release()
        return _watched(open_video16(path, name=name, convert=convert), truncated)
    fps = float(reader.get(cv2.CAP_PROP_FPS))
    length = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))

    def frames() -> Iterator[Frame]:
        raw: NDArray[Any] | None = first
        index = 0
        while raw is not None:
            if raw.shape != first.shape:
                raise InputError(_size_change(name, index, first, raw))
            image, note = convert(raw[..., 0] if grey else raw)
            yield Frame(index, image, float(reader.get(cv2.CAP_PROP_POS_MSEC)) / 1000, note)
            index += 1
            raw = reader.read()[1]

    return _watched(
        Stream(
            name=name,
            kind="video",
            size=(first.shape[1], first.shape[0]),
            fps=fps if np.isfinite(fps) and fps > 0 else None,
            length=length if length > 0 else None,
            frames=frames(),
            release=reader.release,
            exact=_counts_frames(path),
        ),
        truncated,
    )


def _size_change(name: str, index: int, first: NDArray[Any], now: NDArray[Any]) -> str:
    sizes = f"from {first.shape[1]}x{first.shape[0]} to {now.shape[1]}x{now.shape[0]}"
    return f"{name}: the size changes {sizes} at frame {index}; scale all frames to one size first"


def _check_is_video(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise InputError(f"{path} is empty; copy or record it again")
    # FFmpeg would render a text file as terminal output, and follow a playlist to other files
    if b"\0" not in head and not any(byte < 9 for byte in head):
        raise InputError(
            f"{path} is text, not a video; give a video file, a folder of images, a camera number or an address"
        )


def _pixel_format(reader: cv2.VideoCapture) -> tuple[bool | None, int]:
    """(True, bits) where the video is grey, (None, 8) otherwise; the tags are FFmpeg's raw pixel formats."""
    code = int(reader.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))
    tag = code.to_bytes(4, "little") if code > 0 else b""
    if tag in (b"Y800", b"GREY"):
        return True, 8
    if tag[:3] == b"Y1\0":  # little endian
        return True, tag[3]
    if tag[1:] == b"\x001Y":  # big endian
        return True, tag[0]
    return None, 8


def _counts_frames(path: Path) -> bool:
    """Whether the container holds a table of its frames (MP4, QuickTime, AVI) rather than a duration."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") or head[:4] == b"RIFF"


def _watched(stream: Stream, truncated: Truncated) -> Stream:
    """The same stream, which is not silent where it ends before the frames that it declares."""
    inner = stream.frames

    def frames() -> Iterator[Frame]:
        count, last = 0, 0.0
        for frame in inner:
            count, last = count + 1, frame.time or 0.0
            yield frame
        if stream.length is None or count >= stream.length:
            return
        # an estimate is a duration times an average rate: only the duration can be relied on
        duration = 0.0 if stream.fps is None else stream.length / stream.fps
        if stream.exact or duration - last > max(1.0, 0.05 * duration):
            message = f"{stream.name} ended early: it declares {stream.length} frames, got {count}"
            if truncated == "error":
                raise InputError(
                    f"{message}; the file is truncated: copy it again, or take what it has (--allow-truncated)"
                )
            log.warning("%s; the file is truncated", message)

    stream.frames = frames()
    return stream
