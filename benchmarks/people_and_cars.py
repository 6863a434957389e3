"""Make sequences of people and cars from aligned picture pairs and object crops: validation data, not for training.

    python benchmarks/people_and_cars.py PAIRS CROPS OUT [--sequences 24] [--frames 120] [--seed 8] [--front 1]

PAIRS is `rgbt_pairs` (pairs.csv, SUBSET/{visible,infrared}/), CROPS `rgbt_object_crops` (crops.zip, index.csv). Each
sequence is an object that moves with inertia over a background seen by a moving camera, among others of its class, two
of which cross its way, one in front of it and one behind (`--front 0`: both behind); in the first frames nothing covers
it. By turns: night in the visible frames, crossover in the thermal ones (for a while the object is hardly warmer than
what is behind it), a sensor that gives nothing for a while (empty files: they cannot be read, and the frame counts as
missing). OUT is in the LasHeR layout; `attributes.csv` says what each sequence has. Every draw is from the seed.

The sets are for research only, so nothing made from them is shipped either.
"""

import argparse
import csv
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Pair = tuple[Image, Image]
Floats = NDArray[np.float64]

SIZE = (320, 256)
CANVAS = (460, 368)
SIDE = 50.0
"""Middle of the target's size, square root of its area, in pixels."""


@dataclass
class Scene:
    """What one sequence has: intervals of frames are (first, last), None where there is none."""

    night: bool = False
    crossover: tuple[int, int] | None = None
    dropout: tuple[int, int] | None = None
    lost: str = ""
    names: list[str] = field(default_factory=list)


def plan(number: int, frames: int, rng: np.random.Generator) -> Scene:
    """Conditions by turns, so that any number of sequences has each in like share."""
    start = int(rng.integers(frames // 4, frames // 2))
    crossover = (start, start + frames // 4) if number % 4 == 2 else None
    gap = int(rng.integers(frames // 2, 3 * frames // 4))
    lost = {0: "visible", 4: "infrared"}.get(number % 8, "")
    night = number % 8 in (1, 3, 4, 5, 7)
    return Scene(night, crossover, (gap, gap + frames // 6) if lost else None, lost)


def wander(frames: int, rng: np.random.Generator, speed: float, inertia: float) -> Floats:
    """(frames, 2) way of something with inertia, about `speed` pixels a frame: its velocity changes slowly."""
    velocity = rng.normal(0, speed, 2)
    way = np.zeros((frames, 2))
    for i in range(1, frames):
        velocity = inertia * velocity + rng.normal(0, speed * np.sqrt(1 - inertia**2), 2)
        way[i] = way[i - 1] + velocity
    return way


def reflect(way: Floats, low: Floats, high: Floats) -> Floats:
    """A way folded back at the borders."""
    span = high - low
    folded = np.mod(way - low, 2 * span)
    return np.where(folded > span, 2 * span - folded, folded) + low


def read_pair(visible: Path, infrared: Path, size: tuple[int, int]) -> Pair:
    """Both pictures of a pair, cut to the shape of `size` and resized."""
    found = []
    for path in (visible, infrared):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise SystemExit(f"{path}: cannot be read")
        height, width = picture.shape[:2]
        wide = min(width, round(height * size[0] / size[1]))
        tall = min(height, round(width * size[1] / size[0]))
        x, y = (width - wide) // 2, height - tall
        found.append(cv2.resize(picture[y : y + tall, x : x + wide], size, interpolation=cv2.INTER_CUBIC))
    return np.asarray(found[0], np.float32), np.asarray(found[1], np.float32)


def feather(width: int, height: int) -> Image:
    """(H, W, 1) opacity of a pasted crop: its corners, which are not the object, fade."""
    x = np.linspace(-1, 1, width)[None, :]
    y = np.linspace(-1, 1, height)[:, None]
    return np.clip((1.12 - (np.abs(x) ** 5 + np.abs(y) ** 5)) / 0.25, 0, 1).astype(np.float32)[..., None]


def paste(frame: Image, crop: Image, box: Floats, contrast: float = 1.0) -> None:
    """Draw a crop into the frame at a box x, y, w, h, sub-pixel; below 1 `contrast` fades it into what is behind."""
    x, y, w, h = box
    left, top = int(np.floor(x)), int(np.floor(y))
    wide, tall = int(np.ceil(w)) + 2, int(np.ceil(h)) + 2
    matrix = np.array([[w / crop.shape[1], 0, x - left], [0, h / crop.shape[0], y - top]])
    # the shift by half a pixel keeps outlines where they are when the scale changes
    matrix[:, 2] += (matrix[:, :2] @ np.array([0.5, 0.5])) - 0.5
    source = np.concatenate([crop, 255 * feather(crop.shape[1], crop.shape[0])], axis=2)
    if min(w / crop.shape[1], h / crop.shape[0]) < 0.6:
        source = cv2.GaussianBlur(source, (0, 0), 0.4 * max(crop.shape[1] / w, crop.shape[0] / h))
    drawn = cv2.warpAffine(source, matrix, (wide, tall), flags=cv2.INTER_LINEAR)
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(frame.shape[1], left + wide), min(frame.shape[0], top + tall)
    if x1 <= x0 or y1 <= y0:
        return
    part = drawn[y0 - top : y1 - top, x0 - left : x1 - left]
    behind = frame[y0:y1, x0:x1]
    opacity = part[..., 3:] / 255
    object_ = part[..., :3]
    if contrast < 1:
        object_ = behind.mean(axis=(0, 1)) + contrast * (object_ - object_.mean(axis=(0, 1)))
        opacity = opacity * (0.35 + 0.65 * contrast)
    frame[y0:y1, x0:x1] = behind + opacity * (object_ - behind)


def boxes_of(centres: Floats, sizes: Floats, camera: Floats) -> Floats:
    """(N, 4) boxes in the frames, from places in the scene."""
    return np.concatenate([centres - camera - sizes / 2, sizes], axis=1)


def sizes_of(crop: Image, frames: int, rng: np.random.Generator, side: float) -> Floats:
    """(N, 2) width and height over time: a slow, mild change of scale, and a little of the aspect."""
    height, width = crop.shape[:2]
    base = np.array([width, height]) * side / np.sqrt(width * height)
    time = np.arange(frames) / frames
    phase = rng.uniform(0, 2 * np.pi, 2)
    scale = 1 + 0.22 * (np.sin(2 * np.pi * time * rng.uniform(0.5, 1.2) + phase[0]))
    aspect = 1 + 0.06 * np.sin(2 * np.pi * time * rng.uniform(1, 4) + phase[1])
    return np.asarray(base * scale[:, None] * np.stack([aspect, 1 / aspect], axis=1))


def crossing(target: Floats, frame: int, frames: int, rng: np.random.Generator) -> Floats:
    """The way of another object that meets the target in a frame, from another direction, and goes on."""
    velocity = target[min(frame + 3, frames - 1)] - target[max(frame - 3, 0)]
    angle = rng.uniform(0.6, 1.4) * np.pi
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    speed = max(float(np.linalg.norm(velocity)) / 6, rng.uniform(2.0, 3.5))
    heading = turn @ (velocity / max(float(np.linalg.norm(velocity)), 1e-6)) * speed
    own = wander(frames, rng, 0.25, 0.9)
    return np.asarray(target[frame] + (np.arange(frames) - frame)[:, None] * heading + own - own[frame])


def stray(frames: int, rng: np.random.Generator) -> Floats:
    """The way of an object that is only about."""
    return rng.uniform(0, 1, 2) * CANVAS + wander(frames, rng, 1.2, 0.95)


def covered(box: Floats, other: Floats) -> float:
    """The share of a box x, y, w, h that another takes."""
    low = np.maximum(box[:2], other[:2])
    high = np.minimum(box[:2] + box[2:], other[:2] + other[2:])
    return float(np.prod(np.maximum(high - low, 0)) / (box[2] * box[3]))


def clear_way(
    draw: Callable[[], Floats], target: Floats, sizes: tuple[Floats, Floats], start: int = 12, tries: int = 200
) -> Floats:
    """A drawn way that leaves the target free in the first frames, in which a person would mark it.

    In a sequence of fewer than five times as many frames two that meet have no time to part: any way will do.
    """
    if len(target) < 5 * start:
        return draw()
    for _ in range(tries):
        way = draw()
        mine, other = (
            np.concatenate([place[:start] - size[:start] / 2, size[:start]], axis=1)
            for place, size in zip((target, way), sizes, strict=True)
        )
        if max(covered(*pair) for pair in zip(mine, other, strict=True)) == 0:
            return way
    raise SystemExit("no way that leaves the target free at the start was found; take another --seed")


def darken(frame: Image, rng: np.random.Generator, gain: float) -> Image:
    """A visible frame at night: little light, noise of photons and of the sensor."""
    dark = frame * gain * np.array([0.8, 0.9, 1.05], np.float32)
    return np.asarray(dark + rng.normal(0, 1, frame.shape) * np.sqrt(0.6 * np.maximum(dark, 0) + 55), np.float32)


def render(
    scene: Scene, background: Pair, crops: Sequence[Pair], frames: int, out: Path, seed: int, front: int
) -> None:
    """Write one sequence; the first crop is the target, of the next two that cross its way `front` hide it."""
    rng = np.random.default_rng(seed)
    room = np.array(CANVAS, float) - SIZE
    camera = reflect(wander(frames, rng, 1.0, 0.95) + room / 2, np.zeros(2), room)
    low, high = np.array([55.0, 60.0]), np.array(SIZE, float) - [55.0, 60.0]
    seen = reflect(rng.uniform(low, high) + wander(frames, rng, 2.2, 0.93), low, high)
    target = seen + camera
    kernel = np.ones(5) / 5  # no sharp turn where the way was folded
    padded = np.pad(target, ((2, 2), (0, 0)), mode="edge")
    target = np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in range(2)], axis=1)
    meetings = [int(np.clip(m * frames + rng.integers(-6, 7), 0, frames - 1)) for m in (0.3, 0.7)]
    sides = [SIDE * rng.uniform(0.85, 1.25)]
    sides += [sides[0] * rng.uniform(0.9, 1.1) for _ in crops[1:]]
    sizes = [sizes_of(crop[0], frames, rng, side) for crop, side in zip(crops, sides, strict=True)]
    ways = [target]
    for size in sizes[1:]:
        if len(ways) <= len(meetings):
            draw = partial(crossing, target, meetings[len(ways) - 1], frames, rng)
        else:
            draw = partial(stray, frames, rng)
        ways.append(clear_way(draw, target, (sizes[0], size)))
    boxes = [boxes_of(way, size, camera) for way, size in zip(ways, sizes, strict=True)]
    order = [*range(len(ways) - 1, front, -1), 0, *range(front, 0, -1)]  # drawn later, seen in front
    # some pairs were taken at night and need no more darkness
    gain = min(1.0, float(rng.uniform(10, 22) / background[0].mean()))
    mist = float(rng.uniform(2.5, 5))
    for name in ("visible", "infrared"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for i in range(frames):
        matrix = np.array([[1, 0, -camera[i, 0]], [0, 1, -camera[i, 1]]])
        pair = [cv2.warpAffine(side, matrix, SIZE, borderMode=cv2.BORDER_REFLECT) for side in background]
        contrast = fade(scene.crossover, i)
        for k in order:
            paste(pair[0], crops[k][0], boxes[k][i])
            paste(pair[1], crops[k][1], boxes[k][i], contrast if k == 0 else 1.0)
        visible = darken(pair[0], rng, gain) if scene.night else pair[0] + rng.normal(0, 2, pair[0].shape)
        thermal = pair[1].mean(axis=2) + rng.normal(0, mist, pair[1].shape[:2])
        for name, picture in (("visible", visible), ("infrared", thermal)):
            path = out / name / f"{i:06d}.jpg"
            gone = scene.dropout is not None and name == scene.lost and scene.dropout[0] <= i < scene.dropout[1]
            coded = cv2.imencode(".jpg", np.clip(picture, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
            path.write_bytes(b"" if gone else coded.tobytes())
    np.savetxt(out / "init.txt", boxes[0], fmt="%.2f", delimiter=",")


def fade(interval: tuple[int, int] | None, frame: int, ramp: int = 8) -> float:
    """1 outside the interval, 0.2 inside, a ramp at either end."""
    if interval is None:
        return 1.0
    depth = min(frame - interval[0], interval[1] - frame) / ramp
    return float(1 - 0.8 * np.clip(depth, 0, 1))


def read_crops(folder: Path) -> dict[tuple[str, str], list[tuple[str, Pair]]]:
    """(class, time) -> named crops, of those large enough to be shown at 50 pixels without being enlarged much."""
    found: dict[tuple[str, str], list[tuple[str, Pair]]] = {}
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if float(row["w"]) * float(row["h"]) > 45**2]
    with zipfile.ZipFile(folder / "crops.zip") as archive:
        for row in rows:
            sides = []
            for part in ("visible", "infrared"):
                data = np.frombuffer(archive.read(f"{part}/{row['name']}.jpg"), np.uint8)
                sides.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32))
            found.setdefault((row["class"], row["time"]), []).append((row["name"], (sides[0], sides[1])))
    return found


def main() -> None:
    """Make the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("crops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", type=int, default=24)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--front", type=int, default=1, choices=(0, 1, 2), help="how many of those that cross hide it")
    args = parser.parse_args()
    if args.out.exists() and any(args.out.iterdir()):
        raise SystemExit(f"{args.out}: not empty; give a new folder")
    with open(args.pairs / "pairs.csv", newline="", encoding="utf-8") as file:
        places = [row for row in csv.DictReader(file) if int(row["width"]) >= 400]
    crops = read_crops(args.crops)
    rng = np.random.default_rng(args.seed)
    lines = ["sequence,class,night,crossover,dropout,background,target"]
    for number, place in enumerate(rng.choice(np.array(places, dtype=object), args.sequences, replace=False)):
        kind = ("car", "person", "person", "car", "bicycle")[number % 5]
        scene = plan(number, args.frames, rng)
        # the visible frames are darkened: a crop that was taken at night would be dark twice
        known = crops[kind, "day"]
        chosen = [known[int(k)] for k in rng.choice(len(known), 5, replace=False)]
        background = read_pair(args.pairs / place["visible"], args.pairs / place["infrared"], CANVAS)
        name = f"{number:02d}_{kind}"
        seed = int(rng.integers(1 << 31))
        render(scene, background, [pair for _, pair in chosen], args.frames, args.out / name, seed, args.front)
        spans = ["" if span is None else f"{span[0]}-{span[1]}" for span in (scene.crossover, scene.dropout)]
        lost = f"{scene.lost} {spans[1]}".strip()
        lines.append(f"{name},{kind},{int(scene.night)},{spans[0]},{lost},{place['visible']},{chosen[0][0]}")
        print(lines[-1], flush=True)
    (args.out / "attributes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
