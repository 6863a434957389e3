"""Turn single-modality videos with boxes into a dataset folder that `duotrack train` reads.

Input: `SOURCE/{infrared,visible}/NAME.mp4` beside `NAME.txt`, one row of x,y,w,h a frame (0,0,0,0: target absent).
Output: `OUT/NAME/{infrared,visible}/000000.jpg ...` and `OUT/NAME/init.txt`;
the other modality's folder is simply not there.

A video that cuts to another scene (the target jumps, or the whole picture changes) is split into `NAME`,
`NAME_part2`, ..., because a training pair must never straddle a cut; `--keep-cuts` leaves it whole.

    python examples/prepare_single_modality_videos.py videos/ data/train --exclude val_names.txt
    python examples/prepare_single_modality_videos.py videos/ data/val --names val_names.txt --keep-cuts
"""

import argparse
import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FOLDERS = ("infrared", "visible")


def read_boxes(path: Path) -> NDArray[np.float64]:
    """(N, 4) x, y, w, h of one annotation file."""
    try:
        boxes = np.loadtxt(path, delimiter=",", dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise SystemExit(f"{path}: not rows of x,y,w,h ({error})") from error
    if boxes.size == 0 or boxes.shape[1] != 4:
        raise SystemExit(f"{path}: got {boxes.shape[1] if boxes.size else 0} columns; each row must be x,y,w,h")
    return boxes


def read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video, BGR uint8."""
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            good, frame = capture.read()
            if not good:
                return
            yield np.asarray(frame, np.uint8)
    finally:
        capture.release()


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A small grey picture, enough to tell one scene from another."""
    small = cv2.resize(frame, (32, 24), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)


def spikes(values: NDArray[np.float64], reach: int = 8) -> NDArray[np.bool_]:
    """Where a value is over 2.5 times the largest of its neighbours: a cut, not a fast pan or a stuttering camera."""
    around = [np.delete(values[max(0, i - reach) : i + reach + 1], min(i, reach)) for i in range(len(values))]
    return np.array([value > 2.5 * near.max(initial=0.0) for value, near in zip(values, around, strict=True)])


def split_points(
    thumbnails: list[NDArray[np.float32]], boxes: NDArray[np.float64], margin: float, limit: float
) -> list[int]:
    """Frame numbers at which a new part begins; the first is 0.

    A cut: the target moves by over two box sides plus `margin` pixels; or by over one and stands out from its
    neighbours; or the mean picture changes by over `limit` grey levels; or by over 4 and stands out.
    """
    if len(boxes) < 2:
        return [0]
    change = np.array([np.abs(b - a).mean() for a, b in itertools.pairwise(thumbnails)], np.float64)
    centres, sides = boxes[:, :2] + boxes[:, 2:] / 2, np.sqrt(boxes[:, 2] * boxes[:, 3])
    seen = (sides[1:] > 0) & (sides[:-1] > 0)
    step = np.where(seen, np.linalg.norm(centres[1:] - centres[:-1], axis=1), 0.0)
    side = np.maximum(sides[1:], sides[:-1])
    jumps = (step > 2 * side + margin) | ((step > side + margin) & spikes(step))
    cuts = jumps | (change > limit) | ((change > 4) & spikes(change))
    return [0, *(np.flatnonzero(cuts) + 1).tolist()]


def write_part(
    frames: list[NDArray[np.uint8]], boxes: NDArray[np.float64], out: Path, name: str, folder: str, quality: int
) -> None:
    """One sequence in the dataset layout, complete or not at all."""
    temporary = out / f".{name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    images = temporary / folder
    images.mkdir(parents=True)
    for i, frame in enumerate(frames):
        path = images / f"{i:06d}.jpg"
        if not cv2.imwrite(str(path), frame, [cv2.IMWRITE_JPEG_QUALITY, quality]):
            raise SystemExit(f"cannot write {path}: is the disk full?")
    np.savetxt(temporary / "init.txt", boxes, fmt="%g", delimiter=",")
    shutil.rmtree(out / name, ignore_errors=True)
    temporary.rename(out / name)


def convert(
    video: Path, out: Path, *, every: int, keep_cuts: bool, margin: float, limit: float, shortest: int, quality: int
) -> list[str]:
    """Write one video as one or more sequences; returns their names."""
    boxes = read_boxes(video.with_suffix(".txt"))
    frames = list(read_frames(video))
    if not frames:
        raise SystemExit(f"{video}: no frame can be read; is it a video?")
    if len(frames) != len(boxes):
        print(f"{video.name}: {len(frames)} frames, {len(boxes)} boxes; the rest is left out", file=sys.stderr)
    count = min(len(frames), len(boxes))
    frames, boxes = frames[:count], boxes[:count]
    starts = [0] if keep_cuts else split_points([thumbnail(frame) for frame in frames], boxes, margin, limit)
    written: list[str] = []
    for part, (start, end) in enumerate(zip(starts, [*starts[1:], count], strict=True), 1):
        name = video.stem if part == 1 else f"{video.stem}_part{part}"
        visible = (boxes[start:end, 2:] > 0).all(axis=1)
        if visible.sum() < shortest:
            print(f"{name}: {int(visible.sum())} of {end - start} frames show the target; left out", file=sys.stderr)
            continue
        first = start + int(visible.argmax())  # a sequence starts with its target in view
        write_part(frames[first:end:every], boxes[first:end:every], out, name, video.parent.name, quality)
        written.append(name)
    return written


def read_names(path: Path | None) -> set[str] | None:
    """Names, one a line; blank lines and `#` comments do not count."""
    if path is None:
        return None
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder that holds infrared/ and visible/ (one of them will do)")
    parser.add_argument("out", type=Path, help="dataset folder to write")
    parser.add_argument("--names", type=Path, help="take only the videos named in this file")
    parser.add_argument("--exclude", type=Path, help="leave out the videos named in this file")
    parser.add_argument("--every", type=int, default=1, help="take every N-th frame (default: all)")
    parser.add_argument("--keep-cuts", action="store_true", help="one sequence a video, also where it cuts")
    parser.add_argument(
        "--margin", type=float, default=10.0, help="pixels that a target may jump beyond two box sides (10)"
    )
    parser.add_argument("--change", type=float, default=25.0, help="mean grey-level change that counts as a cut (25)")
    parser.add_argument(
        "--shortest", type=int, default=10, help="leave out parts with fewer frames that show the target (10)"
    )
    parser.add_argument("--quality", type=int, default=95, help="JPEG quality (95)")
    options = parser.parse_args()
    names, exclude = read_names(options.names), read_names(options.exclude) or set()
    videos = sorted(path for folder in FOLDERS for path in (options.source / folder).glob("*.mp4"))
    if not videos:
        raise SystemExit(
            f"no .mp4 under {options.source}/infrared or {options.source}/visible; give the folder that holds them"
        )
    unknown = ((names or set()) | exclude) - {video.stem for video in videos}
    if unknown:
        raise SystemExit(f"no such video: {', '.join(sorted(unknown))}")
    chosen = [v for v in videos if (names is None or v.stem in names) and v.stem not in exclude]
    options.out.mkdir(parents=True, exist_ok=True)
    total = 0
    for video in chosen:
        written = convert(
            video, options.out, every=options.every, keep_cuts=options.keep_cuts, margin=options.margin,
            limit=options.change, shortest=options.shortest, quality=options.quality,
        )  # fmt: skip
        total += len(written)
        if written != [video.stem]:
            print(f"{video.stem}: {len(written)} sequences")
    print(f"{len(chosen)} videos, {total} sequences in {options.out}")


if __name__ == "__main__":
    main()
