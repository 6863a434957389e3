"""From what a user writes (a path, a camera number, an address) to streams in step."""

import logging
import re
import threading
from contextlib import ExitStack
from pathlib import Path

from duotrack.depth import Colours
from duotrack.errors import InputError
from duotrack.frames import Kind
from duotrack.images import SUFFIXES, RgbConverter
from duotrack.thermal16 import Thermal16
from duotrack.video.folder import image_files, joint_numbering, numbering, open_folder
from duotrack.video.live import SCHEMES, Live, LiveStream
from duotrack.video.pair import LengthMismatch, PairedSource, Sync, pair
from duotrack.video.stream import Stream, prefetched
from duotrack.video.video import Truncated, open_video

log = logging.getLogger(__name__)

MAX_FPS = 1000
"""Faster image folders than this are a mistyped number, and no player shows them."""


def open_source(
    rgb: str | Path | None,
    aux: str | Path | None,
    *,
    sync: Sync = "index",
    tolerance: float | None = None,
    length_mismatch: LengthMismatch = "error",
    resize_aux: bool = False,
    fps: float | None = None,
    truncated: Truncated = "deliver",
    modality: Kind = "thermal",
    depth_colours: Colours = "bgr",
    thermal: Thermal16 | None = None,
    live: Live | None = None,
    missing_files: bool = False,
    prefetch: int = 4,
) -> PairedSource:
    """Open one stream or two in step; use the result as a context manager and iterate over its `FramePair`s.

    Args:
        rgb, aux: a video file, a folder of images, a camera number ("0"; a file or folder of that name goes first), an
            address (rtsp, http, tcp, ...), or None.
        sync: pair recorded streams by "index" or by "time"; two live streams are always paired by arrival.
        tolerance: seconds within which two frames belong together; None: half the longer frame interval, live 0.1.
        length_mismatch: by index, when lengths differ: "error", stop with the "shortest", or go on to the "longest"
            with None for the side that ended.
        resize_aux: resize aux to the size of rgb instead of refusing two sizes.
        fps: frame rate of image folders, for their times and the overlay.
        truncated: "deliver" the frames before a video breaks off and say so in the log, or raise an "error" there.
        modality: what aux shows: "thermal"; "depth", 16 bits in millimetres, rendered as `duotrack.depth` says; or
            "event", frames in which events were drawn.
        depth_colours: order of the channels of rendered depth; "bgr" for published checkpoints.
        thermal: how 16-bit grey becomes 8-bit, except depth.
        live: time limits and reconnection of live streams.
        missing_files: in folders of numbered images a number that is not there is a frame without an image, instead of
            shifting all that follow.
        prefetch: frames decoded ahead in a background thread, per recorded stream; 0 for none.

    Raises:
        InputError: a source is missing, unreadable or empty, holds no pixels of its modality (depth in metres or
            8 bits), the two do not go together, or `fps` is no frame rate.
    """
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise InputError(f"a frame rate of {fps:g} makes no video; give --fps between 0 and {MAX_FPS}")
    changed = threading.Condition()
    numbers = joint_numbering(_numbering(rgb), _numbering(aux)) if missing_files else (None, None)
    with ExitStack() as opened:
        streams: list[Stream | LiveStream | None] = []
        for name, address, numbered in zip(("rgb", "aux"), (rgb, aux), numbers, strict=True):
            stream = None
            if address is not None:
                stream = open_stream(
                    address,
                    name=name,
                    kind=modality if name == "aux" else None,
                    fps=fps,
                    truncated=truncated,
                    thermal=thermal,
                    depth_colours=depth_colours,
                    live=live,
                    changed=changed,
                    numbers=numbered,
                )
                opened.callback(stream.close)
                if isinstance(stream, Stream) and prefetch > 0:
                    stream = prefetched(stream, depth=prefetch)
                    opened.callback(stream.close)
            streams.append(stream)
        source = pair(*streams, sync=sync, tolerance=tolerance, length_mismatch=length_mismatch, resize_aux=resize_aux)
        opened.pop_all()  # from here on the source closes them
    return source


def open_stream(
    address: str | Path,
    *,
    name: str = "",
    kind: Kind | None = None,
    fps: float | None = None,
    truncated: Truncated = "deliver",
    thermal: Thermal16 | None = None,
    depth_colours: Colours = "bgr",
    live: Live | None = None,
    changed: threading.Condition | None = None,
    numbers: range | None = None,
) -> Stream | LiveStream:
    """Open one stream; `name` stands before its address in messages, `kind` is what it shows, None for visible light.

    `numbers` are those of a folder's images; the rest is as in `open_source`.

    Raises:
        InputError: the source is missing, unreadable or empty, or its pixels are none of its kind.
    """

    def converter(label: str) -> RgbConverter:
        return RgbConverter(label, kind=kind, thermal=thermal, depth_colours=depth_colours)

    text = str(address)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme and scheme[1].lower() not in SCHEMES:
        raise InputError(f"cannot read {scheme[1]}:// addresses; use a path or one of {', '.join(SCHEMES)}")
    if scheme or (text.isdecimal() and not Path(text).exists()):  # sequences are often called 0001
        label = f"{name} {hide_password(text) if scheme else 'camera ' + text}".strip()
        number_or_text = text if scheme else int(text)
        return _open_live(number_or_text, name=label, options=live, convert=converter(label), changed=changed)
    if not text:  # a path of no letters would be the folder one stands in
        raise InputError(
            f"the {name or 'source'} address is empty; give a file, a folder, a camera number or an address"
        )
    path = Path(text).expanduser()
    label = f"{name} {path.name or path}".strip()
    if not path.exists():
        raise InputError(
            f"{name or 'source'} {text} does not exist; give a video file, a folder of images, "
            "a camera number or an address"
        )
    if path.is_char_device():
        return _open_live(str(path), name=label, options=live, convert=converter(label), changed=changed)
    if path.is_dir():
        return open_folder(path, name=label, fps=fps, convert=converter(label), numbers=numbers)
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"{path} is a single image; give the folder with the frames")
    return open_video(path, name=label, convert=converter(label), truncated=truncated)


def _open_live(
    address: str | int,
    *,
    name: str,
    options: Live | None,
    convert: RgbConverter,
    changed: threading.Condition | None,
) -> LiveStream:
    if convert.kind == "depth":  # OpenCV hands out 8 bits of every live stream
        raise InputError(
            f"{name}: depth cannot come from a camera number or an address, which give 8 bits; take frames from the "
            "camera's own library and hand them to a tracker in Python as uint16 millimetres"
        )
    return LiveStream(address, name=name, options=options, convert=convert, changed=changed)


def _numbering(address: str | Path | None) -> range | None:
    folder = None if not address else Path(address).expanduser()
    if folder is None or not folder.is_dir():
        return None
    numbers = numbering(image_files(folder))
    if numbers is None:
        log.warning("%s: the images are not evenly numbered, so that files which are missing cannot be told", folder)
    return numbers


def hide_password(address: str) -> str:
    """The address as it may stand in a log: without user name and password."""
    return re.sub(r"://[^/@]*@", "://", address)
