"""16-bit grey video through PyAV: OpenCV would reduce it to 8 bits."""

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duotrack.errors import InputError
from duotrack.images import RgbConverter
from duotrack.video.stream import Frame, Stream

log = logging.getLogger(__name__)


def import_av(purpose: str) -> Any:
    """PyAV, which OpenCV cannot replace here.

    Raises:
        InputError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise InputError(f"{purpose} needs PyAV, which is not installed; pip install 'duotrack[video16]'") from error


def open_video16(path: Path, *, name: str, convert: RgbConverter) -> Stream:
    """Open a 16-bit grey video (for example FFV1 gray16le in Matroska); `convert` makes RGB of its frames, in order.

    Raises:
        InputError: PyAV is missing, the file cannot be read, or it is depth of fewer than 16 bits.
    """
    av = import_av(f"{name}: 16-bit video (OpenCV would reduce it to 8 bits)")
    try:
        container = av.open(str(path))
        video = container.streams.video[0]
    except (av.FFmpegError, IndexError) as error:
        raise InputError(
            f"cannot read {path} as 16-bit video ({error}); convert it with ffmpeg to FFV1 gray16le"
        ) from error
    pixels = str(video.codec_context.pix_fmt)
    if convert.kind == "depth" and not pixels.startswith("gray16"):
        # 10 and 12 bits come out stretched over 16, which is no longer millimetres
        container.close()
        raise InputError(f"{name}: pixels are {pixels}; depth comes as 16 bits in millimetres, FFV1 gray16le for video")

    def frames() -> Iterator[Frame]:
        index = 0
        try:
            for index, frame in enumerate(container.decode(video)):
                image, note = convert(frame.to_ndarray(format="gray16le"))
                yield Frame(index, image, frame.time, note)
        except av.FFmpegError as error:
            log.warning("%s: reading ended after %d frames (%s)", name, index + 1, error)

    fps = float(video.average_rate) if video.average_rate else None
    length = video.frames or (round(container.duration / av.time_base * fps) if container.duration and fps else None)
    size = (int(video.width), int(video.height))
    return Stream(name, "16-bit video", size, fps, length, frames(), container.close, exact=bool(video.frames))
