"""Folders of images."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from duotrack.errors import InputError
from duotrack.images import SUFFIXES, RgbConverter, read_raw
from duotrack.video.stream import Frame, Stream

log = logging.getLogger(__name__)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts img2 before img10 and ignores case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in parts]


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order; hidden files are left out."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()]
    return sorted(files, key=lambda path: (natural_key(path.name), path.name))


def open_folder(path: Path, *, name: str, convert: RgbConverter, fps: float | None = None) -> Stream:
    """Open a folder of images as a stream; `convert` makes RGB of them, in their order.

    An image that cannot be read is a frame without an image, with a note. A frame's time is its name where all names
    are decimal seconds (1305031102.175304.png), otherwise index / `fps` where a rate is given.

    Raises:
        InputError: no images, none that can be read or converted, or (while iterating) images of different size.
    """
    files = image_files(path)
    if not files:
        held = sorted({p.suffix or p.name for p in path.iterdir()})[:5]
        raise InputError(
            f"{path} holds no images ({', '.join(SUFFIXES)}), found {', '.join(held) or 'nothing'}; "
            "give the folder with the frames"
        )
    first = next((raw for raw in map(read_raw, files) if raw is not None), None)
    if first is None:
        raise InputError(f"none of the {len(files)} images in {path} can be read; copy them again")
    convert.check(first)
    size = (first.shape[1], first.shape[0])
    times = _times(files, fps)

    def frames() -> Iterator[Frame]:
        said = False
        for index, (file, time) in enumerate(zip(files, times, strict=True)):
            raw = read_raw(file)
            if raw is None:
                note = f"{name}: corrupt image {file.name}, frame {index} counts as missing"
                log.log(logging.INFO if said else logging.WARNING, note)
                said = True
                yield Frame(index, None, time, note)
                continue
            if (raw.shape[1], raw.shape[0]) != size:
                got = f"{raw.shape[1]}x{raw.shape[0]}"
                raise InputError(
                    f"{file} is {got}, the images before it {size[0]}x{size[1]}; scale all images to one size first"
                )
            image, remark = convert(raw)
            yield Frame(index, image, time, remark)

    return Stream(name, "folder of images", size, fps, len(files), frames(), lambda: None)


def _times(files: list[Path], fps: float | None) -> list[float | None]:
    if all(re.fullmatch(r"\d+\.\d+", file.stem) for file in files):
        return [float(file.stem) for file in files]
    return [None if fps is None else index / fps for index in range(len(files))]
