"""Writing video: H.264 where PyAV brings an encoder for it, MPEG-4 through OpenCV otherwise."""

import errno
import importlib.util
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from duotrack.frames import Image


class Encoder(Protocol):
    """Takes (H, W, 3) uint8 RGB images of one even size; `finish` completes the file, `abandon` only lets go of it."""

    def write(self, image: Image) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


def open_encoder(path: Path, *, size: tuple[int, int], fps: float) -> Encoder:
    """An encoder for an MP4 file of `size` (width, height, both even); H.264 if there is an encoder for it.

    Its methods raise `OSError` where the file cannot be written, a full disk above all.
    """
    if importlib.util.find_spec("av") is not None:
        import av

        if "libx264" in av.codecs_available:
            return _H264(av, path, size, fps)
    return _Mpeg4(path, size, fps)


class _H264:
    def __init__(self, av: Any, path: Path, size: tuple[int, int], fps: float) -> None:
        self._av = av
        # index at the end is written last: a file cut short by a full disk fails to close rather than passing as whole
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "20", "preset": "veryfast"}

    def write(self, image: Image) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def finish(self) -> None:
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()

    def abandon(self) -> None:
        try:
            self._container.close()
        except OSError:  # what ended the writing is already on its way to the caller
            return


class _Mpeg4:
    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        self._path = path
        self._count = 0
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        try:
            self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._writer.isOpened():
            raise OSError(errno.EIO, "cannot encode video here (OpenCV has no MPEG-4 encoder)", str(path))

    def write(self, image: Image) -> None:
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._count += 1

    def finish(self) -> None:
        self._writer.release()
        # OpenCV reports no failed write, so the file is asked what it holds
        reader = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        held = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if held != self._count:
            reason = f"video could not be written ({held} of {self._count} frames arrived; is the disk full?)"
            raise OSError(errno.ENOSPC, reason, str(self._path))

    def abandon(self) -> None:
        self._writer.release()
