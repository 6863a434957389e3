"""A tracker as a TraX server: how the VOT toolkit drives it (docs/specs/patrack.md, section 4.1).

The toolkit starts the tracker as a process of its own and speaks TraX with it over standard input and output: paths of
one image a channel and now and then a region come in, a rectangle and a confidence go out.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.depth import Colours
from duotrack.errors import InputError
from duotrack.frames import TrackResult
from duotrack.images import RgbConverter, read_raw
from duotrack.tracking.tracker import Tracker

log = logging.getLogger(__name__)

CHANNELS = (("color",), ("color", "ir"), ("color", "depth"), ("ir",), ("depth",))
"""What a tracker can ask the toolkit for; `color` is its rgb, the other its aux."""


def channels_named(text: str) -> tuple[str, ...]:
    """`"color,ir"` as names of channels.

    Raises:
        InputError: no set of channels that a tracker takes.
    """
    for channels in CHANNELS:
        if sorted(text.split(",")) == sorted(channels):
            return channels
    known = ", ".join(f"{','.join(channels)!r}" for channels in CHANNELS)
    raise InputError(f"channels {text!r} are none of {known}")


def import_trax() -> Any:
    """The module of `vot-trax`.

    Raises:
        InputError: it is not installed, or its library does not load on this machine.
    """
    try:
        import trax
    except ImportError as error:
        raise InputError("this needs vot-trax, which is not installed; pip install 'duotrack[vot]'") from error
    except OSError as error:
        raise InputError(
            f"the library of vot-trax does not load here ({error}); it comes for Linux, macOS and Windows on x86-64"
        ) from error
    return trax


def serve(tracker: Tracker, channels: Sequence[str], *, name: str, colours: Colours = "bgr") -> None:
    """Answer a TraX client until it says goodbye: on standard input and output, or the socket in `TRAX_SOCKET`.

    The client may give a region again at any time: a rectangle, or a polygon or a mask, of which the enclosing box is
    taken. An image that cannot be read counts as missing, one that is too large or of the wrong kind ends the session;
    the client is told why. What anybody prints meanwhile goes to standard error.

    Args:
        tracker: its target is replaced whenever the client gives a region.
        channels: one of `CHANNELS`.
        name: what the tracker calls itself.
        colours: order of the depth colour map, see `duotrack.depth`.

    Raises:
        InputError: `vot-trax` is missing, the client broke off or broke the protocol, or a frame or region cannot be
            used.
    """
    trax = import_trax()
    reader = ChannelReader(channels, colours)
    formats = ([trax.Region.RECTANGLE], [trax.Image.PATH])
    with redirect_stdout(sys.stderr):
        try:
            server = trax.Server(*formats, list(channels), tracker_name=name, tracker_family="duotrack")
        except trax.TraxException as error:
            raise InputError(f"cannot speak TraX on standard output or TRAX_SOCKET: {error}") from error
        try:
            while (request := _next_request(trax, server)) is not None:
                result = _answer(tracker, reader, request)
                region = trax.Rectangle.create(*result.box.tolist())
                server.status([(region, {"confidence": result.score})])
        except InputError as error:
            server.quit(reason=_printable(str(error)))
            raise
        except trax.TraxException as error:
            raise InputError(f"the TraX client went away in the middle: {error}") from error


def _printable(reason: str) -> str:
    """`reason` as the TraX library can carry it: ASCII, and no quotation mark, which it does not escape."""
    return reason.encode("ascii", "replace").decode("ascii").replace('"', "'")


def _next_request(trax: Any, server: Any) -> Any:
    """The next request, None when the client says goodbye."""
    try:
        request = server.wait()
    except trax.TraxException as error:
        raise InputError(
            f"{error}; the client went away or broke the TraX protocol (vot-trax carries paths in plain ASCII only)"
        ) from error
    return None if request.type == trax.TraxStatus.QUIT else request


def _answer(tracker: Tracker, reader: "ChannelReader", request: Any) -> TrackResult:
    rgb, aux = reader({channel: image.path() for channel, image in request.image.items()})
    objects = request.objects or []
    if request.type == "frame" and not objects:
        return tracker.update(rgb, aux)
    if request.type != "initialize" or len(objects) != 1:
        raise InputError("the TraX client gave a further object: this tracker follows one, start another for the next")
    region, _ = objects[0]
    return tracker.init(rgb, aux, enclosing_box(region))


def enclosing_box(region: Any) -> tuple[float, float, float, float]:
    """x, y, w, h of a TraX region: a rectangle as it is, the least box around a polygon or a mask's pixels.

    The toolkit turns regions into rectangles by itself when a tracker asks for these; other clients may not.

    Raises:
        InputError: an empty mask, or a special region, which is nowhere.
    """
    if region.type == "rectangle":
        x, y, w, h = region.bounds()
        return x, y, w, h
    if region.type == "polygon":
        points = np.array(list(region))
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
    if region.type == "mask":
        x, y = region.offset()
        rows, columns = (np.flatnonzero(region.array().any(axis=axis)) for axis in (1, 0))
        if rows.size:
            left, top = int(columns[0]), int(rows[0])
            return x + left, y + top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
    raise InputError(f"the TraX client gave an empty region ({region.type}): there is nothing to track")


class ChannelReader:
    """Reads one frame: a path a channel to the images (rgb, aux) for `Tracker`, None where one is missing.

    Depth goes through its colour map here, where the file's name is known; everything else that has to be converted
    (grey, 16 bits) is left to the tracker. A channel that the client leaves out and a file that cannot be read are said
    once and count as missing.
    """

    def __init__(self, channels: Sequence[str], colours: Colours = "bgr") -> None:
        self._channels = channels
        self._render = RgbConverter("depth", kind="depth", depth_colours=colours)
        self._said: set[str] = set()

    def __call__(self, paths: Mapping[str, str]) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        """Read one frame.

        Raises:
            InputError: an image too large to decode, or depth that is not 16-bit millimetres.
        """
        images = {channel: self._read(channel, paths.get(channel)) for channel in self._channels}
        return images.get("color"), images.get("ir", images.get("depth"))

    def _read(self, channel: str, path: str | None) -> NDArray[Any] | None:
        try:
            raw = None if path is None else read_raw(Path(path))
        except OSError:
            raw = None
        if raw is None:
            if channel not in self._said:
                self._said.add(channel)
                log.warning("%s: cannot read %s; such frames count as missing", channel, path or "its image: none came")
            return None
        if channel == "depth":
            return self._render(raw)[0]
        if channel == "ir" and raw.ndim == 2 and raw.dtype == np.uint8:  # as infrared is: worth no warning
            return cv2.cvtColor(raw, cv2.COLOR_GRAY2RGB)
        if raw.ndim == 2:
            return raw
        return cv2.cvtColor(raw, cv2.COLOR_BGR2RGB if raw.shape[2] == 3 else cv2.COLOR_BGRA2RGB)
