"""A crop cache: the same sequences with only the surroundings of the target kept, so that training decodes less.

What comes out is a dataset in LasHeR's layout like any other. Its pictures are re-encoded, and those of large targets
scaled down to what a network's crops can show: pairs drawn from it are like those of the whole frames, not bit-equal.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.fingerprint import fingerprint
from duotrack.datasets.sequence import Frames, Sequence
from duotrack.errors import InputError
from duotrack.files import write_text
from duotrack.frames import FramePair, Image

RECORD = "crops.json"
"""In each folder of a cache: how it was made, and the fingerprint of what it was made from."""
_FOLDERS = ("visible", "infrared")


@dataclass(frozen=True, kw_only=True)
class CropCache:
    """How much is kept.

    `reach`: side of the square that is kept, in target sizes (square root of the box area); with the released jitter 10
    holds the whole search crop nearly always, and what lies beyond counts as outside the frame. `pixels`: a target
    larger than so many pixels is scaled down to it. `quality`: of the JPEG files.
    """

    reach: float = 10.0
    pixels: float = 96.0
    quality: int = 95

    def __post_init__(self) -> None:
        if not (self.reach >= 1 and self.pixels >= 1 and 1 <= self.quality <= 100):
            got = f"reach {self.reach:g}, pixels {self.pixels:g}, quality {self.quality}"
            raise InputError(f"{got}: reach and pixels are at least 1, quality is from 1 to 100")


def build_cache(
    sequences: Iterable[Sequence],
    out: str | Path,
    settings: CropCache,
    *,
    workers: int = 1,
    watch: Callable[[str, bool], None] = lambda name, made: None,
) -> None:
    """Write the cache of each sequence into `<out>/<sequence>/`; one that is there already is kept.

    Args:
        sequences: as `duotrack.datasets.layouts` opens them.
        out: the cache's folder; a run that was interrupted goes on where it stopped.
        settings: how much is kept.
        workers: threads that read, cut and write.
        watch: is told each sequence's name, and whether it was made now.

    Raises:
        InputError: `out` holds a cache made otherwise or from other data, the modalities of a frame differ in size, or
            the auxiliary frames show depth or events, which a cache in LasHeR's layout cannot say.
    """
    if other := next((sequence.kind for sequence in sequences if sequence.kind != "thermal"), None):
        raise InputError(f"crop caches are for RGB and thermal, this is {other}; train from the data set itself")
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for sequence in sequences:
            folder = Path(out) / sequence.name
            record = json.dumps({**asdict(settings), "source": fingerprint([sequence])}, indent=2) + "\n"
            if folder.exists():
                if not (folder / RECORD).is_file() or (folder / RECORD).read_text(encoding="utf-8") != record:
                    raise InputError(f"{folder} holds no such cache of this data; remove it, or give another --out")
                watch(sequence.name, False)
                continue
            _write(sequence, folder, settings, record, pool)
            watch(sequence.name, True)


def _write(sequence: Sequence, folder: Path, settings: CropCache, record: str, pool: ThreadPoolExecutor) -> None:
    """One sequence, whole or not at all."""
    partial = folder.with_name(f".{folder.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    sides = [(side, partial / name) for side, name in zip((sequence.rgb, sequence.aux), _FOLDERS, strict=True) if side]
    for _, place in sides:
        place.mkdir(parents=True)
    boxes = list(pool.map(lambda index: _frame(sequence, index, sides, settings), range(len(sequence))))
    rows = "".join(",".join(f"{value:.3f}" for value in box) + "\n" for box in boxes)
    write_text(partial / "init.txt", rows)
    write_text(partial / RECORD, record)
    partial.rename(folder)


def _frame(
    sequence: Sequence, index: int, sides: list[tuple[Frames, Path]], settings: CropCache
) -> NDArray[np.float64]:
    """Write one frame's files and give the box in them.

    Frames that training never draws (no target) and images that cannot be read become empty files: the count of frames
    stays, and what could not be read still cannot.
    """
    box = sequence.boxes[index]
    visible = bool(sequence.visible[index])
    pair = sequence.read(index) if visible else None
    images = [image for image, side in zip(_images(pair), (sequence.rgb, sequence.aux), strict=True) if side]
    shapes = {image.shape for image in images if image is not None}
    if len(shapes) > 1:
        raise InputError(
            f"{sequence.name}, frame {index}: the modalities differ in size; training needs aligned frames"
        )
    kept = box if visible else np.zeros(4)
    for image, (_, place) in zip(images, sides, strict=True):
        data = b""
        if image is not None:
            small, kept = _keep(image, box, settings)
            encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, settings.quality])[1]
            data = encoded.tobytes()
        (place / f"{index:06d}.jpg").write_bytes(data)
    return kept


def _images(pair: FramePair | None) -> tuple[Image | None, Image | None]:
    return (None, None) if pair is None else (pair.rgb, pair.aux)


def _keep(image: Image, box: NDArray[np.float64], settings: CropCache) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The square around the box as far as it lies in the image, BGR and perhaps smaller, and the box in it."""
    height, width = image.shape[:2]
    target = float(np.sqrt(box[2] * box[3]))
    half, centre = settings.reach * target / 2, box[:2] + box[2:] / 2
    left, top = (
        int(np.clip(np.floor(at - half), 0, limit - 1)) for at, limit in zip(centre, (width, height), strict=True)
    )
    right, bottom = (
        int(np.clip(np.ceil(at + half), low + 1, limit))
        for at, low, limit in zip(centre, (left, top), (width, height), strict=True)
    )
    part = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_RGB2BGR)
    size = np.array([right - left, bottom - top], np.float64)
    wanted = np.maximum(np.rint(size * min(1.0, settings.pixels / target)), 1)
    if (wanted < size).any():
        part = cv2.resize(part, (int(wanted[0]), int(wanted[1])), interpolation=cv2.INTER_AREA)
    factor = wanted / size
    kept = np.concatenate([(box[:2] - (left, top)) * factor, box[2:] * factor])
    return np.asarray(part, np.uint8), kept
