"""Cameras and network streams: the newest frame only, reconnecting."""

import logging
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import cv2
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from duotrack.errors import InputError
from duotrack.images import RgbConverter, check_pixels
from duotrack.video.stream import Frame
from duotrack.video.video import capture

log = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "rtp", "srt")


class Live(BaseModel):
    """How patient a live source is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    open_timeout: float = Field(default=10.0, gt=0, description="seconds to wait for a stream to open")
    read_timeout: float = Field(
        default=10.0, gt=0, description="seconds without a frame after which a stream counts as broken"
    )
    attempts: int = Field(default=8, ge=0, description="attempts to reconnect before a broken stream counts as ended")
    delay: float = Field(default=0.5, gt=0, description="seconds before the first attempt; doubles with each one")
    max_delay: float = Field(default=10.0, gt=0, description="longest wait between two attempts, in seconds")


class LiveStream:
    """A camera or network stream; a thread reads it all the time and keeps only the newest frame.

    Iterating waits for a frame that was not handed out yet; what came in between is dropped and counted in `dropped`.
    `Frame.index` counts the frames that arrived, `Frame.time` is the arrival in seconds of the monotonic clock. A
    stream that breaks is opened again as `options` say, which the log tells; one that stays away, or has a declared
    end, ends the iteration. `convert` makes RGB of the frames (visible light where None). `changed` is
    notified when a frame arrives or the state changes; streams may share one.
    """

    length: int | None = None

    def __init__(
        self,
        address: str | int,
        *,
        name: str,
        options: Live | None = None,
        convert: RgbConverter | None = None,
        changed: threading.Condition | None = None,
    ) -> None:
        """Open the stream and start reading.

        Raises:
            InputError: it does not open, or gives no frame, in time.
        """
        self.name = name
        self.kind = "camera" if isinstance(address, int) or address.startswith("/dev/") else "network stream"
        self.dropped = 0
        self.changed = changed or threading.Condition()
        self._address = address
        self._options = options or Live()
        self._convert = convert or RgbConverter(name)
        self._stop = threading.Event()
        self._fresh: Frame | None = None
        self._received = 0
        self._connected = True
        self._ended = False
        self._error: InputError | None = None
        opened = self._open()
        if opened is None:
            raise InputError(
                f"{name}: cannot open this {self.kind} within {self._options.open_timeout:g} s; "
                "check that it runs, and the address"
            )
        reader, first = opened
        self.size: tuple[int, int] = (first.shape[1], first.shape[0])
        fps = reader.get(cv2.CAP_PROP_FPS)
        self.fps: float | None = float(fps) if 0 < fps <= 1000 else None
        self._publish(first)
        self._thread = threading.Thread(target=self._read, args=(reader,), name="duotrack-live", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.fresh or self.ended)
                frame = self.take()
            if frame is None:
                return
            yield frame

    @property
    def fresh(self) -> bool:
        """A frame waits that was not handed out yet; ask while holding `changed`."""
        return self._fresh is not None

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        return self._ended

    @property
    def connected(self) -> bool:
        """False while the stream is being opened again."""
        return self._connected and not self._ended

    @property
    def arrived(self) -> float:
        """Arrival of the waiting frame, infinity where none waits; ask while holding `changed`."""
        return float("inf") if self._fresh is None or self._fresh.time is None else self._fresh.time

    def take(self) -> Frame | None:
        """The waiting frame, None where none waits; call while holding `changed`.

        Raises:
            InputError: the stream came back with another size.
        """
        frame, self._fresh = self._fresh, None
        if frame is None and self._error is not None:
            raise self._error
        return frame

    def drop(self) -> None:
        """Drop the waiting frame; call while holding `changed`."""
        if self._fresh is not None:
            self._fresh = None
            self.dropped += 1

    def close(self) -> None:
        """Stop reading and release the stream; waits for a read under way, at most about the longer timeout."""
        self._stop.set()
        with self.changed:
            self._ended = True
            self.changed.notify_all()
        self._thread.join(max(self._options.open_timeout, self._options.read_timeout) + 1)
        if self._thread.is_alive():
            log.warning("%s: the driver does not let go of it", self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> tuple[cv2.VideoCapture, NDArray[Any]] | None:
        if self.kind == "camera":
            reader = capture(self._address, cv2.CAP_ANY)
        else:
            limits = (self._options.open_timeout, self._options.read_timeout)
            keys = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
            pairs = zip(keys, limits, strict=True)
            reader = capture(
                self._address, cv2.CAP_FFMPEG, [n for key, limit in pairs for n in (key, int(limit * 1000))]
            )
        size = int(reader.get(cv2.CAP_PROP_FRAME_WIDTH)), int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT))
        try:
            check_pixels(self.name, *size)
        except InputError:
            reader.release()
            raise
        good, image = reader.read()
        if good:
            return reader, image
        reader.release()
        return None

    def _read(self, reader: cv2.VideoCapture) -> None:
        """The reader thread."""
        failed = True
        current: cv2.VideoCapture | None = reader
        try:
            while current is not None and not self._stop.is_set():
                good, image = current.read()
                if not good:
                    current = self._reopen(current)
                elif (image.shape[1], image.shape[0]) != self.size:
                    sizes = f"from {self.size[0]}x{self.size[1]} to {image.shape[1]}x{image.shape[0]}"
                    self._error = InputError(
                        f"{self.name}: the size changes {sizes} in mid-stream; fix the camera's resolution"
                    )
                    break
                else:
                    self._publish(image)
            failed = False
        finally:
            if current is not None:
                current.release()
            if failed:  # a fault of ours or the driver's, with its trace on standard error: not to be taken for an end
                self._error = InputError(f"{self.name}: reading failed; see the error above")
            with self.changed:
                self._ended = True
                self.changed.notify_all()

    def _publish(self, raw: NDArray[Any]) -> None:
        image, note = self._convert(raw)
        with self.changed:
            self.drop()
            self._fresh = Frame(self._received, image, time.monotonic(), note)
            self._received += 1
            self._connected = True
            self.changed.notify_all()

    def _reopen(self, broken: cv2.VideoCapture) -> cv2.VideoCapture | None:
        declared = broken.get(cv2.CAP_PROP_FRAME_COUNT)
        broken.release()
        if 0 < declared <= self._received:
            return None  # a file served over the network, read to its end
        if self._stop.is_set():
            return None
        with self.changed:
            self._connected = False
            self.changed.notify_all()
        log.warning("%s broke off after %d frames, reconnecting", self.name, self._received)
        delay = self._options.delay
        for attempt in range(1, self._options.attempts + 1):
            if self._stop.wait(delay):
                return None
            if (opened := self._open()) is not None:
                reader, image = opened
                log.warning("%s: reconnected at attempt %d", self.name, attempt)
                if (image.shape[1], image.shape[0]) == self.size:
                    self._publish(image)
                return reader  # a new size shows at the next frame
            log.warning("%s: attempt %d of %d failed", self.name, attempt, self._options.attempts)
            delay = min(2 * delay, self._options.max_delay)
        log.warning("%s stays away, the stream ends here", self.name)
        return None
