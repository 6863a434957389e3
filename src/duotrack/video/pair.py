"""Keeping two streams in step: by index, by timestamps, or by arrival."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from types import TracebackType
from typing import Literal, Self

import cv2
import numpy as np

from duotrack.errors import InputError
from duotrack.frames import FramePair, Image, Modality, available_modalities
from duotrack.video.live import LiveStream
from duotrack.video.stream import Frame, Source, Stream

log = logging.getLogger(__name__)

Sync = Literal["index", "time"]
LengthMismatch = Literal["error", "shortest", "longest"]
Sides = tuple[Frame | None, Frame | None]

LIVE_TOLERANCE = 0.1
"""Seconds within which two live frames belong together, where the caller gives none."""
UNKNOWN_RATE_TOLERANCE = 0.02
"""The same for recorded streams whose frame rate is unknown."""


class PairedSource:
    """Two streams in step, or one alone: iterate over `FramePair`, once.

    `fps` is the frame rate where known, `length` the number of pairs where known in advance, `exact` whether that is a
    count and no estimate, `size` (width, height) of every image, `sides` the modalities that there are, `live` whether
    frames arrive in real time (and old ones are dropped). Close it, or use it as a context manager: files, cameras and
    threads are released also after an error.
    """

    def __init__(
        self,
        rgb: Source | None,
        aux: Source | None,
        *,
        sides: Iterator[Sides],
        fps: float | None,
        length: int | None,
        how: str,
        resize_aux: bool,
    ) -> None:
        self._streams = {name: stream for name, stream in (("rgb", rgb), ("aux", aux)) if stream is not None}
        self._sides = sides
        self._how = how
        self._resize_to = rgb.size if resize_aux and rgb is not None else None
        self.fps = fps
        self.length = length
        self.size = next(iter(self._streams.values())).size
        self.sides: tuple[Modality, ...] = available_modalities(rgb, aux)
        self.exact = length is not None and all(isinstance(s, Stream) and s.exact for s in self._streams.values())
        self.live = any(isinstance(stream, LiveStream) for stream in self._streams.values())
        self._pairs = self._number()

    @property
    def dropped(self) -> int:
        """Frames that live streams have dropped so far because newer ones were there."""
        return sum(stream.dropped for stream in self._streams.values() if isinstance(stream, LiveStream))

    def describe(self) -> str:
        """One line on what is read and how it is paired."""
        parts = []
        for name, stream in self._streams.items():
            facts = [stream.kind, f"{stream.size[0]}x{stream.size[1]}"]
            facts += [f"{stream.fps:.4g} fps"] if stream.fps else []
            facts += [f"{stream.length} frames"] if stream.length else []
            parts.append(f"{name}: {stream.name.removeprefix(name + ' ')} ({', '.join(facts)})")
        return "; ".join([*parts, self._how] if len(parts) == 2 else parts)

    def __iter__(self) -> Iterator[FramePair]:
        return self._pairs

    def close(self) -> None:
        """Release everything; may be called more than once."""
        for stream in self._streams.values():
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _number(self) -> Iterator[FramePair]:
        lacking = dict.fromkeys(self._streams, 0)
        origin: float | None = None
        for index, sides in enumerate(self._sides):
            notes = [side.note for side in sides if side is not None and side.note]
            for name, side in zip(("rgb", "aux"), sides, strict=True):
                if name in self._streams and side is None:
                    lacking[name] += 1
                    notes.append(f"{name}: no frame to go with frame {index}")
            now = next((side.time for side in sides if side is not None and side.time is not None), None)
            origin = now if origin is None else origin
            since = None if now is None or origin is None else max(now - origin, 0.0)
            rgb, aux = (None if side is None else side.image for side in sides)
            yield FramePair(index, rgb, self._resized(aux), since, tuple(notes))
        for name, count in lacking.items():
            if count:
                log.warning("%s: %d of %d frames have no %s frame to go with them", self._how, count, index + 1, name)

    def _resized(self, image: Image | None) -> Image | None:
        if image is None or self._resize_to is None or (image.shape[1], image.shape[0]) == self._resize_to:
            return image
        return np.asarray(cv2.resize(image, self._resize_to, interpolation=cv2.INTER_LINEAR), np.uint8)


def pair(
    rgb: Source | None,
    aux: Source | None,
    *,
    sync: Sync = "index",
    tolerance: float | None = None,
    length_mismatch: LengthMismatch = "error",
    resize_aux: bool = False,
) -> PairedSource:
    """Pair two open streams, or pass one through; see `open_source` for the arguments.

    Raises:
        InputError: no stream, sizes or lengths differ, only one is live, or times are asked for and unknown.
    """
    if rgb is None or aux is None:
        only = rgb or aux
        if only is None:
            raise InputError("neither an rgb nor an aux source is given; give at least one")
        sides: Iterator[Sides] = ((f, None) if aux is None else (None, f) for f in only)
        return PairedSource(rgb, aux, sides=sides, fps=only.fps, length=only.length, how="alone", resize_aux=False)
    if rgb.size != aux.size and not resize_aux:
        raise InputError(
            f"rgb is {rgb.size[0]}x{rgb.size[1]} and aux {aux.size[0]}x{aux.size[1]}; the two must show the same view "
            "pixel by pixel: align them, or have aux resized (--resize-aux) if only the scale differs"
        )
    rates = [stream.fps for stream in (rgb, aux) if stream.fps]
    fps = rgb.fps or aux.fps
    if isinstance(rgb, LiveStream) and isinstance(aux, LiveStream):
        tolerance = LIVE_TOLERANCE if tolerance is None else tolerance
        how = f"paired by arrival within {tolerance:g} s"
        sides = by_arrival(rgb, aux, tolerance=tolerance)
        return PairedSource(rgb, aux, sides=sides, fps=fps, length=None, how=how, resize_aux=resize_aux)
    if not isinstance(rgb, Stream) or not isinstance(aux, Stream):
        raise InputError(f"rgb is a {rgb.kind} and aux a {aux.kind}; pair two live streams or two recorded ones")
    if sync == "time":
        if tolerance is None:
            tolerance = 0.5 / min(rates) if rates else UNKNOWN_RATE_TOLERANCE
        how = f"paired by time within {tolerance:.3g} s"
        sides = by_time(rgb, aux, tolerance=tolerance)
        return PairedSource(rgb, aux, sides=sides, fps=fps, length=None, how=how, resize_aux=resize_aux)
    sides = by_index(rgb, aux, length_mismatch=length_mismatch)
    length = _joint_length(rgb, aux, length_mismatch)
    return PairedSource(rgb, aux, sides=sides, fps=fps, length=length, how="paired by index", resize_aux=resize_aux)


def _joint_length(rgb: Stream, aux: Stream, length_mismatch: LengthMismatch) -> int | None:
    if rgb.length is None or aux.length is None:
        return None
    if rgb.length != aux.length and rgb.exact and aux.exact and length_mismatch == "error":
        raise InputError(_lengths(str(rgb.length), str(aux.length)))
    return max(rgb.length, aux.length) if length_mismatch == "longest" else min(rgb.length, aux.length)


def _lengths(rgb: str, aux: str) -> str:
    remedy = "cut them to the same frames, or choose --length-mismatch shortest or longest, or --sync time"
    return f"rgb has {rgb} frames and aux {aux}; {remedy}"


def by_index(rgb: Stream, aux: Stream, *, length_mismatch: LengthMismatch) -> Iterator[Sides]:
    """Frame i with frame i; where one ends before the other: error, stop there, or go on with None."""
    for index, sides in enumerate(zip_longest(rgb, aux)):
        if None in sides and length_mismatch == "shortest":
            return
        if None in sides and length_mismatch == "error":
            ended = (str(index), f"more than {index}")
            raise InputError(_lengths(*(ended if sides[0] is None else reversed(ended))))
        yield sides


def by_time(rgb: Stream, aux: Stream, *, tolerance: float) -> Iterator[Sides]:
    """Each frame with the one nearest in time within `tolerance` seconds; one without a partner stands alone.

    Two frames belong together where each is the nearest to the other of all frames that are still to come. Every frame
    comes exactly once and in order.

    Raises:
        InputError: at once, where a stream has no timestamps.
    """
    left, right = _Ahead(rgb), _Ahead(aux)
    _ = left.time, right.time
    return _merge(left, right, tolerance)


def _merge(left: "_Ahead", right: "_Ahead", tolerance: float) -> Iterator[Sides]:
    while left.frame is not None or right.frame is not None:
        if left.frame is None or right.frame is None:
            yield left.take(), right.take()
            continue
        gap = abs(left.time - right.time)
        earlier = left if left.time < right.time else right
        # the earlier frame loses its partner only to its own successor, where that one is nearer
        other = right if earlier is left else left
        if gap > tolerance or abs(earlier.next_time - other.time) < gap:
            yield (left.take(), None) if earlier is left else (None, right.take())
        else:
            yield left.take(), right.take()


class _Ahead:
    """The next frame of a stream and the time of the one after it."""

    def __init__(self, stream: Stream) -> None:
        self._name = stream.name
        self._frames = iter(stream)
        self.frame = next(self._frames, None)
        self._next = next(self._frames, None)

    def take(self) -> Frame | None:
        frame, self.frame = self.frame, self._next
        self._next = next(self._frames, None)
        return frame

    @property
    def time(self) -> float:
        return self._time_of(self.frame)

    @property
    def next_time(self) -> float:
        return self._time_of(self._next)

    def _time_of(self, frame: Frame | None) -> float:
        if frame is None:
            return math.inf
        if frame.time is None:
            raise InputError(
                f"{self._name} has no timestamps; give the frame rate of image folders (--fps), "
                "or name the images in seconds (12.345.png)"
            )
        return frame.time


def by_arrival(
    rgb: LiveStream, aux: LiveStream, *, tolerance: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Sides]:
    """The newest frames of two live streams that share `changed`, where they arrived within `tolerance` seconds.

    The first to arrive waits at most `tolerance` for the other, not at all for one that is being reconnected. Ends when
    both have.
    """
    changed = rgb.changed
    while True:
        with changed:
            changed.wait_for(lambda: rgb.fresh or aux.fresh or (rgb.ended and aux.ended))
            if not (rgb.fresh or aux.fresh):
                rgb.take(), aux.take()  # raises what ended them, if anything
                return
            waiting = aux if rgb.fresh else rgb
            patience = min(rgb.arrived, aux.arrived) + tolerance - clock()
            if not waiting.fresh and waiting.connected and patience > 0:
                changed.wait_for(lambda: waiting.fresh or not waiting.connected, patience)  # noqa: B023 - waits at once
            if rgb.fresh and aux.fresh and abs(rgb.arrived - aux.arrived) > tolerance:
                (rgb if rgb.arrived < aux.arrived else aux).drop()
            sides = rgb.take(), aux.take()
        yield sides
