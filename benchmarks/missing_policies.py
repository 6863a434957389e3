"""What a tracker had best do about a sensor that drops out: success AUC of every policy, same frames, same masks.

    python benchmarks/missing_policies.py ROOT --stills PAIRS [--model ckd-tiny] [--frames 24] [--json FILE]

ROOT is in the LasHeR layout; the partner that a sequence lacks is made up (`duotrack.training.synthesis`). PAIRS holds
`boxes.csv` (file, x, y, w, h, ...) and aligned stills `SUBSET/{visible,infrared}/NAME`: each becomes a short video by
panning and zooming a window over both. Every sequence loses a share of its frames by one of the five patterns of the
modality-missing benchmarks, dealt in turn. One pass from the first box. Success AUC: mean over the thresholds
0, 0.05 .. 1 of the share of frames with IoU above, over frames with a visible target but the first; mean over
sequences.
"""

import argparse
import csv
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.boxes import iou_xywh
from duotrack.datasets.dropouts import draw_masks
from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.patterns import PATTERNS, Loss
from duotrack.datasets.sequence import Sequence, read_picture
from duotrack.files import write_text
from duotrack.frames import MODALITIES, Image
from duotrack.tracking.load import load_tracker
from duotrack.tracking.missing import POLICIES
from duotrack.tracking.tracker import Tracker
from duotrack.training.synthesis import Rendering, draw_rendering, render

COMPLETE = "nothing missing"
LEAST_SIDE = 24
"""Pixels of the smaller side of a box on a still that is used."""


@dataclass
class Clip:
    """Frames (rgb, aux) in memory and the box of each, NaN where the target is not seen."""

    name: str
    frames: list[tuple[Image, Image]]
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """One clip to make and the pattern that it loses frames by; `source` is a sequence, or a row of boxes.csv."""

    kind: str
    source: Sequence | dict[str, str]
    pattern: str


def from_sequence(sequence: Sequence, *, count: int, every: int) -> Clip:
    """The first frames of a sequence, each `every`-th, the absent partner made up."""
    rng = np.random.default_rng(len(sequence.name) * 7919 + sum(map(ord, sequence.name)))
    rendering = draw_rendering(rng, "aux" if sequence.aux is None else "rgb")
    frames, boxes = [], []
    for index in range(0, min(len(sequence), count * every), every):
        pair = sequence.read(index)
        box = sequence.boxes[index] if sequence.visible[index] else np.full(4, np.nan)
        given = pair.rgb if pair.rgb is not None else pair.aux
        assert given is not None
        rgb, aux = (made_up(given, rendering, box, rng) if side is None else side for side in (pair.rgb, pair.aux))
        frames.append((rgb, aux))
        boxes.append(box)
    return Clip(sequence.name, frames, np.array(boxes))


def made_up(image: Image, rendering: Rendering, box: NDArray[np.float64], rng: np.random.Generator) -> Image:
    """The partner of a whole frame; renderings are of squares."""
    height, width = image.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = image
    padding = np.ones((side, side), np.bool_)
    padding[:height, :width] = False
    inside = np.nan_to_num(box) / side
    return render(square, rendering, box=inside, padding=padding, rng=rng)[:height, :width]


def from_still(root: Path, row: dict[str, str], *, count: int) -> Clip:
    """A window that wanders over both images of a pair, with a little noise of its own in each frame and sensor."""
    visible = root / row["file"]
    infrared = visible.parent.parent / "infrared" / visible.name
    pair = [read_picture(path)[0] for path in (visible, infrared)]
    assert pair[0] is not None, visible
    assert pair[1] is not None, infrared
    box = np.array([float(row[key]) for key in "xywh"])
    height, width = pair[0].shape[:2]
    rng = np.random.default_rng(sum(map(ord, row["file"])) + round(box.sum()))
    size = np.array([0.6 * width, 0.6 * height])
    centre = box[:2] + box[2:] / 2
    phase, speed = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.08, 0.2, 3)
    frames, boxes = [], []
    for index in range(count):
        wave = np.sin(phase + speed * index)
        scale = 1 + 0.12 * wave[2]
        room = np.maximum(size / scale - box[2:], 0) / 2  # the target stays in view
        middle = centre + 0.7 * room * wave[:2]
        middle = np.clip(middle, size / scale / 2, np.array([width, height]) - size / scale / 2)
        corner = middle - size / scale / 2
        to_window = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
        shown = (round(size[0]), round(size[1]))
        views = [cv2.warpAffine(image, to_window, shown, borderMode=cv2.BORDER_REPLICATE) for image in pair]
        noisy = [np.clip(view + rng.normal(0, 2, view.shape), 0, 255).astype(np.uint8) for view in views]
        frames.append((noisy[0], noisy[1]))
        boxes.append(np.concatenate([(box[:2] - corner) * scale, box[2:] * scale]))
    return Clip(f"{visible.stem} {row['class']}", frames, np.array(boxes))


def usable_stills(root: Path) -> list[dict[str, str]]:
    """The largest box of each picture that has one large enough and wholly inside."""
    best: dict[str, dict[str, str]] = {}
    with (root / "boxes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            area, side = float(row["w"]) * float(row["h"]), min(float(row["w"]), float(row["h"]))
            if side < LEAST_SIDE or float(row["visible_fraction"]) < 1:
                continue
            if row["file"] not in best or area > float(best[row["file"]]["w"]) * float(best[row["file"]]["h"]):
                best[row["file"]] = row
    return list(best.values())


def measure(job: Job, *, root: Path | None, model: str, ratio: float, count: int, every: int) -> dict[str, Any]:
    """Success AUC of every policy on one clip."""
    import torch

    torch.set_num_threads(1)
    if isinstance(job.source, Sequence):
        clip = from_sequence(job.source, count=count, every=every)
    else:
        assert root is not None
        clip = from_still(root, job.source, count=count)
    frames = len(clip.frames)
    loss = Loss(frames, job.pattern, ratio)  # type: ignore[arg-type]
    mask = draw_masks({clip.name: loss}, dataset="missing_policies")[clip.name]
    tracker = load_tracker(model, device="cpu", redetect=False)
    auc = {COMPLETE: follow(clip, np.ones_like(mask), tracker)}
    for policy in POLICIES:
        tracker.missing = policy
        auc[policy] = follow(clip, mask, tracker)
    return {"name": clip.name, "kind": job.kind, "pattern": job.pattern, "frames": frames, "auc": auc}


def follow(clip: Clip, mask: NDArray[np.bool_], tracker: Tracker) -> float:
    """Success AUC of one pass."""
    tracker.init(*clip.frames[0], clip.boxes[0])
    overlaps = []
    for pair, there, box in islice(zip(clip.frames, mask, clip.boxes, strict=True), 1, None):
        rgb, aux = (image if has else None for image, has in zip(pair, there, strict=True))
        found = tracker.update(rgb, aux).box
        if np.isfinite(box).all():
            overlaps.append(float(iou_xywh(found, box)))
    return float((np.array(overlaps)[:, None] > np.arange(21) / 20).mean())


def show(results: list[dict[str, Any]]) -> None:
    """The table: a line a policy, columns by source and by pattern, and the difference from the first policy."""
    kinds = sorted({r["kind"] for r in results})
    columns = [("all", results)] + [(kind, [r for r in results if r["kind"] == kind]) for kind in kinds]
    columns += [(pattern, [r for r in results if r["pattern"] == pattern]) for pattern in PATTERNS]
    print("| | " + " | ".join(f"{name} ({len(group)})" for name, group in columns) + f" | less {POLICIES[0]} |")
    print("|---" * (len(columns) + 2) + "|")
    for way in (COMPLETE, *POLICIES):
        means = [f"{np.mean([r['auc'][way] for r in group]):.3f}" if group else "-" for _, group in columns]
        apart = np.array([r["auc"][way] - r["auc"][POLICIES[0]] for r in results])
        error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else float("nan")
        print(f"| {way} | " + " | ".join(means) + f" | {apart.mean():+.3f} +- {error:.3f} |")


def main() -> None:
    """Measure every policy on every clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--stills", type=Path, help="folder with boxes.csv and aligned pairs")
    parser.add_argument("--model", default="ckd-tiny")
    parser.add_argument("--frames", type=int, default=24, help="frames a clip (24)")
    parser.add_argument("--every", type=int, default=3, help="take each so manyth frame of a sequence (3)")
    parser.add_argument("--clips", type=int, default=8, help="clips of either source, evenly chosen (8)")
    parser.add_argument("--ratio", type=float, default=0.6, help="share of frames that lack something (0.6)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sources: list[tuple[str, list[Any]]] = [("one real side", list(open_lasher(args.root)))]
    if args.stills is not None:
        sources.append(("panned pairs", usable_stills(args.stills)))
    jobs = []
    for kind, found in sources:
        places = np.linspace(0, len(found) - 1, min(args.clips, len(found))).round().astype(int)
        chosen = [found[i] for i in places]
        jobs += [Job(kind, source, PATTERNS[(len(jobs) + i) % len(PATTERNS)]) for i, source in enumerate(chosen)]
    work = partial(measure, root=args.stills, model=args.model, ratio=args.ratio, count=args.frames, every=args.every)
    with ProcessPoolExecutor(args.workers) as pool:
        results = []
        for result in pool.map(work, jobs):
            results.append(result)
            shown = ", ".join(f"{way} {auc:.2f}" for way, auc in result["auc"].items())
            print(f"{result['name']:28s} {result['pattern']:21s} {shown}", flush=True)
    show(results)
    print(f"modalities: {', '.join(MODALITIES)}; {args.ratio:.0%} of the frames of a clip lack one or both")
    if args.json:
        write_text(args.json, json.dumps(results))


if __name__ == "__main__":
    main()
