"""Folders of images."""

import logging
import math
import re
from collections.abc import Iterator
from itertools import pairwise
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


def numbering(files: list[Path]) -> range | None:
    """The numbers that the names of a folder's images end in, those in between that are not there included.

    None where the names are not one word and a number each, or most of the numbers would be missing.
    """
    found = [re.fullmatch(r"(.*?)(\d{1,15})", file.stem) for file in files]
    words = [None if match is None else match[1] for match in found]
    if not files or None in words or len(set(words)) > 1:
        return None
    numbers = sorted({int(match[2]) for match in found if match is not None})
    step = math.gcd(*(after - before for before, after in pairwise(numbers))) or 1
    span = range(numbers[0], numbers[-1] + 1, step)
    return span if len(numbers) == len(files) and len(span) <= 4 * len(files) else None


def joint_numbering(rgb: range | None, aux: range | None) -> tuple[range | None, range | None]:
    """The same numbers for both where one lacks some at its ends; folders of equal length keep to their own.

    Two cameras may well count from different numbers, so numbers are only compared where lengths tell that something
    is missing.
    """
    if rgb is None or aux is None or len(rgb) == len(aux) or rgb.step != aux.step:
        return rgb, aux
    step = rgb.step
    if rgb.start % step != aux.start % step or rgb.start >= aux.stop or aux.start >= rgb.stop:
        return rgb, aux
    both = range(min(rgb.start, aux.start), max(rgb.stop, aux.stop), step)
    return both, both


def open_folder(
    path: Path, *, name: str, convert: RgbConverter, fps: float | None = None, numbers: range | None = None
) -> Stream:
    """Open a folder of images as a stream; `convert` makes RGB of them, in their order.

    An image that cannot be read is a frame without an image, with a note. A frame's time is its name where all names
    are decimal seconds (1305031102.175304.png), otherwise index / `fps` where a rate is given. With `numbers`
    (`numbering`) there is a frame for each of them, without an image where no name ends in it.

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
    slots: list[Path | int] = list(files) if numbers is None else _slots(files, numbers)
    times = _times(files, fps) if len(slots) == len(files) else [_time(index, fps) for index in range(len(slots))]

    def frames() -> Iterator[Frame]:
        said = False
        for index, (file, time) in enumerate(zip(slots, times, strict=True)):
            raw = None if isinstance(file, int) else read_raw(file)
            if raw is None:
                what = f"no image numbered {file}" if isinstance(file, int) else f"corrupt image {file.name}"
                note = f"{name}: {what}, frame {index} counts as missing"
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

    return Stream(name, "folder of images", size, fps, len(slots), frames(), lambda: None)


def _slots(files: list[Path], numbers: range) -> list[Path | int]:
    """For each number the file whose name ends in it, or the number itself where there is none."""
    by_number = {int(match[0]): file for file in files if (match := re.search(r"\d+$", file.stem)) is not None}
    return [by_number.get(number, number) for number in numbers]


def _times(files: list[Path], fps: float | None) -> list[float | None]:
    if all(re.fullmatch(r"\d+\.\d+", file.stem) for file in files):
        return [float(file.stem) for file in files]
    return [_time(index, fps) for index in range(len(files))]


def _time(index: int, fps: float | None) -> float | None:
    return None if fps is None else index / fps
