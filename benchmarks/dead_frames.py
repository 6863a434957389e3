"""How often `--detect-missing` is wrong: living videos called dead, and frozen ones not noticed.

    python benchmarks/dead_frames.py VIDEOS [--stills PAIRS] [--frames 300] [--frozen 6]

VIDEOS holds recordings of living sensors (`**/*.mp4`). Each is judged beside a picture that never stops moving, the
worst case: any moment in which nothing moves in the recording may be taken for freezing. Then the first videos of each
folder are frozen for 40 frames in their middle and judged beside the same picture, once as they are and once after
encoding, which changes pixels between equal frames. PAIRS: a folder of images (`**/*.jpg`, ...), each judged by itself.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.sequence import read_picture
from duotrack.frames import Image
from duotrack.images import SUFFIXES
from duotrack.video import open_source
from duotrack.video.dead import Dead, DeadFrames
from duotrack.video.encode import open_encoder

HELD = 40
BEFORE = 30


def wandering() -> Iterator[Image]:
    """A textured picture that moves on by two pixels a frame."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 2400, 3)).astype(np.uint8)
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 20, 235, cv2.NORM_MINMAX)
    at = 0
    while True:
        yield np.ascontiguousarray(scene[:, at : at + 160])
        at = (at + 2) % 2240


def judged(images: Iterable[Image | None]) -> list[str | None]:
    """What is said of each image of a recording."""
    judge = DeadFrames()
    return [judge(moving, image)[1] for moving, image in zip(wandering(), images, strict=False)]


def read(path: Path, count: int) -> Iterator[Image | None]:
    """The first frames of a video."""
    with open_source(path, None, prefetch=0) as source:
        for pair in islice(source, count):
            yield pair.rgb


def frozen(path: Path) -> list[Image]:
    """The video's first frames, the last of them held, and some more after it."""
    images = [image for image in read(path, 2 * BEFORE) if image is not None]
    return [*images[:BEFORE], *[images[BEFORE - 1]] * HELD, *images[BEFORE:]]


def encoded(images: list[Image], path: Path) -> Path:
    """A video of them, as the overlay is written: H.264 where PyAV has an encoder for it, else MPEG-4."""
    encoder = open_encoder(path, size=(images[0].shape[1], images[0].shape[0]), fps=30)
    for image in images:
        encoder.write(image)
    encoder.finish()
    return path


def noticed(images: Iterable[Image | None]) -> NDArray[np.int64]:
    """Of a recording that `frozen` made: held frames that are to be noticed, those that are, wrong ones after it."""
    states = judged(images)
    expected = states[BEFORE + Dead().frozen_after : BEFORE + HELD]
    after = states[BEFORE + HELD :]
    return np.array([len(expected), expected.count("frozen"), len(after) - after.count(None)])


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--stills", type=Path)
    parser.add_argument("--frames", type=int, default=300, help="frames of each video, at most (300)")
    parser.add_argument("--frozen", type=int, default=6, help="videos of each folder that are frozen (6)")
    args = parser.parse_args()
    folders: dict[str, list[Path]] = {}
    for path in sorted(args.videos.rglob("*.mp4")):
        folders.setdefault(path.parent.name, []).append(path)
    for name, paths in folders.items():
        said: Counter[str | None] = Counter()
        wrong = []
        for path in paths:
            found = Counter(judged(read(path, args.frames)))
            said += found
            if set(found) - {None}:
                wrong.append(f"{path.stem} { {k: v for k, v in found.items() if k} }")
        alarms = said.total() - said[None]
        kinds = {reason: count for reason, count in said.items() if reason}
        print(
            f"{name}: {len(paths)} videos, {said.total()} frames, {alarms} called dead ({alarms / said.total():.4%})",
            kinds,
        )
        print("".join(f"  {line}\n" for line in wrong), end="", flush=True)
        plain, coded = np.zeros(3, np.int64), np.zeros(3, np.int64)
        with tempfile.TemporaryDirectory() as folder:
            for path in paths[: args.frozen]:
                images = frozen(path)
                plain += noticed(images)
                coded += noticed(read(encoded(images, Path(folder) / path.name), len(images)))
        for way, (held, found_frozen, late) in (("as it is", plain), ("encoded", coded)):
            print(f"  frozen, {way}: {found_frozen} of {held} frames noticed, {late} wrong after its end", flush=True)
    if args.stills is not None:
        paths = [path for path in sorted(args.stills.rglob("*")) if path.suffix.lower() in SUFFIXES]
        reasons = Counter(DeadFrames()(read_picture(path)[0], None)[0] for path in paths)
        print(f"stills: {len(paths)} images, {len(paths) - reasons[None]} called dead")


if __name__ == "__main__":
    main()
