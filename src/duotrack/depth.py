"""16-bit depth in millimetres to the colour pictures that RGB-D trackers see (docs/specs/patrack.md, section 3.1)."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError, nearest
from duotrack.frames import Image, Kind

Colours = Literal["bgr", "rgb"]
"""Order of the colour map's channels. `bgr` is what published RGB-D checkpoints were trained with: OpenCV hands its
maps out in that order and nobody turned them round."""
COLOURS: tuple[Colours, ...] = ("bgr", "rgb")
MAX_DEPTH = 10_000
"""Millimetres; whatever is farther looks like this."""
_NEAREST = 100
"""Millimetres; no depth camera measures a whole scene nearer than this, but metres in whole numbers are."""
NOTHING = "nothing was measured (all zero), the frame counts as missing"
"""What is said of a frame without any depth."""
_RAW = "depth comes as 16-bit integers in millimetres"


def colours_named(name: str, kind: Kind | None) -> Colours:
    """The order of that name, for auxiliary frames of that kind.

    Raises:
        InputError: there is none, or it turns the colours of frames that are no depth.
    """
    for colours in COLOURS:
        if colours == name:
            if kind != "depth" and colours != "bgr":
                frames = f"auxiliary frames are {kind}" if kind else "there are no auxiliary frames"
                raise InputError(f"--depth-colours {colours} is for rendered depth, but {frames}; leave it out")
            return colours
    raise InputError(f"depth colours {name!r} are neither bgr nor rgb{nearest(name, list(COLOURS))}")


def colour_depth(depth: NDArray[np.uint16], *, colours: Colours = "bgr") -> Image:
    """(H, W) uint16 millimetres to (H, W, 3) uint8 of the JET colour map.

    Values above cap = min(3 median, 10000) become the cap, cut to a whole number; the median counts zeros (holes) too.
    Then the least and the greatest value of the frame go to 0 and 255, rounded as OpenCV does, and through the map.
    A frame of one value is even. Each frame stands for itself: nothing is carried over from the one before.
    """
    cap = min(3 * float(np.median(depth)), MAX_DEPTH)
    levels = cv2.normalize(np.minimum(depth, np.uint16(cap)), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    picture = cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_JET)
    return np.asarray(picture if colours == "bgr" else picture[:, :, ::-1], np.uint8)


def check_depth(raw: NDArray[Any], name: str) -> NDArray[np.uint16]:
    """A decoded image as (H, W) uint16, where it is depth as cameras give it; `name` stands in errors.

    Raises:
        InputError: floating point (metres), 8 bits, several channels, or whole numbers that can only be metres.
    """
    if raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[:, :, 0]
    if raw.dtype.kind == "f":
        raise InputError(
            f"{name}: pixels are {raw.dtype}, {_RAW}; if these are metres multiply them by 1000, "
            "round and save 16-bit PNG"
        )
    if raw.dtype == np.uint8:
        raise InputError(
            f"{name}: pixels have 8 bits, {_RAW}; give what the camera recorded: 16-bit PNG or TIFF frames, "
            "or FFV1 gray16le video"
        )
    if raw.dtype != np.uint16 or raw.ndim != 2:
        shape = "x".join(map(str, raw.shape[2:])) or "1"
        raise InputError(f"{name}: pixels are {shape} x {raw.dtype}, {_RAW}, one channel; save them as 16-bit grey PNG")
    farthest = int(raw.max(initial=0))
    if 0 < farthest < _NEAREST and np.count_nonzero(raw) * 2 > raw.size:
        raise InputError(
            f"{name}: no pixel is farther than {farthest}, {_RAW}; if these are metres, multiply them by 1000"
        )
    return raw


def depth_picture(raw: NDArray[Any], name: str, *, colours: Colours = "bgr") -> tuple[Image | None, str | None]:
    """A decoded depth image as a picture, and a remark where there is something to say of it.

    A frame in which nothing was measured (all zero) gives no picture: it counts as missing, as a frame that cannot be
    read does. One with more holes than measurements is even by the rule of `colour_depth`, which the remark says.

    Raises:
        InputError: as `check_depth`.
    """
    depth = check_depth(raw, name)
    if not depth.any():
        return None, NOTHING
    remark = None
    median = float(np.median(depth))
    if median == 0:
        remark = "more than half of the frame are holes, which leaves an even picture (the cap is 3 times the median)"
    elif median >= MAX_DEPTH:
        remark = f"half of the frame is beyond {MAX_DEPTH} mm, which all looks alike; are these millimetres?"
    return colour_depth(depth, colours=colours), remark
