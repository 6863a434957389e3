"""The edge where frames and boxes come in: what can be used is converted and said once, the rest is refused."""

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duotrack.depth import Colours, depth_picture
from duotrack.errors import InputError
from duotrack.frames import Image, Kind, Modality
from duotrack.thermal16 import Thermal16Scaler

logger = logging.getLogger(__name__)


class FrameCheck:
    """Turns what callers hand in into (H, W, 3) uint8 images; one for each tracked video.

    Grey, 16-bit and four-channel images are converted, each kind said once in the log; 16-bit grey by the running
    percentiles that video sources use (`duotrack.thermal16`), or, where `kind` is depth, as the colour map of
    `duotrack.depth`: aux is then (H, W) uint16 millimetres, or a picture that has been rendered already. Depth of all
    zeros is a missing image. The input is never changed.
    """

    def __init__(self, kind: Kind = "thermal", depth_colours: Colours = "bgr") -> None:
        self._kind = kind
        self._depth_colours = depth_colours
        self._scalers: dict[Modality, Thermal16Scaler] = {}
        self._said: set[str] = set()

    def restart(self) -> None:
        """Forget the 16-bit percentiles: another video, or the same one from here on."""
        self._scalers.clear()

    def __call__(self, rgb: Any, aux: Any) -> tuple[Image | None, Image | None]:
        """Check one frame, (rgb, aux), each an array or None.

        Raises:
            InputError: not an image, pixels that its kind does not have, or the two differ in size.
        """
        first = None if rgb is None else self._image(rgb, "rgb")
        second = None if aux is None else self._depth(aux) if self._kind == "depth" else self._image(aux, "aux")
        if first is not None and second is not None and first.shape != second.shape:
            raise InputError(
                f"rgb is {first.shape[1]}x{first.shape[0]} and aux is {second.shape[1]}x{second.shape[0]} pixels: "
                "align them and give both in one size (`duotrack track --resize-aux` scales aux to rgb)"
            )
        return first, second

    def _depth(self, image: Any) -> Image | None:
        if not isinstance(image, np.ndarray) or (image.ndim == 3 and image.dtype == np.uint8 and image.shape[2] > 1):
            return self._image(image, "aux")
        picture, remark = depth_picture(image, "aux", colours=self._depth_colours)
        if remark is not None:
            self._say("aux", f"a depth frame: {remark}" if picture is not None else f"an empty frame: {remark}")
        return picture

    def _image(self, image: Any, name: Modality) -> Image:
        if not isinstance(image, np.ndarray):
            raise InputError(f"{name} is a {type(image).__name__}: give a NumPy array (H, W, 3), RGB order, or None")
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
            raise InputError(f"{name} has shape {image.shape}: give (H, W, 3), RGB order")
        if image.dtype not in (np.uint8, np.uint16):
            raise InputError(f"{name} holds {image.dtype} values: give uint8, 0 to 255 (or uint16, scaled down here)")
        if image.dtype == np.uint16 and name == "aux" and self._kind == "event":
            raise InputError("aux has 16 bits: event frames are pictures of 8 bits in which events were drawn")
        if image.dtype == np.uint16:
            image = self._to_8_bits(image, name)
        if image.shape[2] == 4:
            self._say(name, "four channels: the last one (transparency) is dropped")
            image = image[:, :, :3]
        if image.shape[2] == 1:
            self._say(name, "one channel (grey): it is repeated three times")
            image = np.repeat(image, 3, axis=2)
        return np.asarray(image, np.uint8)

    def _to_8_bits(self, image: NDArray[np.uint16], name: Modality) -> NDArray[np.uint8]:
        if image.shape[2] != 1:
            self._say(name, "16-bit colour: it is reduced to 8 bits")
            return (image >> 8).astype(np.uint8)
        self._say(name, "16-bit grey: it is scaled to 8 bits by running percentiles")
        return self._scalers.setdefault(name, Thermal16Scaler())(image[:, :, 0])[:, :, None]

    def _say(self, name: Modality, what: str) -> None:
        if (key := f"{name} {what.partition(':')[0]}") not in self._said:
            self._said.add(key)
            logger.warning("%s has %s", name, what)


def frame_size(*images: Image | None) -> tuple[int, int] | None:
    """(height, width) of the first image that is there; None when none is."""
    return next(((image.shape[0], image.shape[1]) for image in images if image is not None), None)


def check_box(box: ArrayLike, height: int, width: int) -> NDArray[np.float64]:
    """A copy of an initial box as (4,) float64 `xywh`, if it can be tracked in a frame of that size.

    A box may reach over the edge, as labelled boxes do, but must share some area with the frame.

    Raises:
        InputError: wrong length, not numbers, NaN or infinite, no size, wholly outside, or larger than ten frames.
    """
    frame = f"the frame is {width}x{height} pixels"
    try:
        values = np.array(box, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"box {box!r:.200} is not four numbers x, y, w, h ({frame})") from error
    if box is None:
        raise InputError(f"a box is four numbers x, y, w, h; got None ({frame})")
    if values.shape != (4,):
        raise InputError(f"a box is four numbers x, y, w, h; got shape {values.shape} ({frame})")
    x, y, w, h = values.tolist()
    shown = f"box {x:g},{y:g},{w:g},{h:g}"
    if not all(map(math.isfinite, (x, y, w, h))):
        raise InputError(f"{shown} has a number that is not finite ({frame})")
    if w <= 0 or h <= 0:
        raise InputError(f"{shown} has no size: width and height must be above zero ({frame})")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise InputError(f"{shown} lies outside: {frame}; x, y is its left top corner, in pixels from 0")
    if w > 10 * width or h > 10 * height:
        raise InputError(f"{shown} is far larger than what it is in: {frame}")
    return values
