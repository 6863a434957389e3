"""How well a model finds a target in the picture that it was shown it in, when it looks in the wrong place.

    python benchmarks/same_frame.py PAIRS --model ckd-tiny [--weights FILE] [--shift 1.2] [--scale 1.25]

PAIRS is `rgbt_pairs`: every box of boxes.csv is the target once. The tracker gets pair and box; then it is told that
the target was last seen elsewhere, and gets the same pair again. Elsewhere: each axis is shifted by up to `shift` times
the square root of the box's area, uniformly, each side multiplied by up to `scale` or its inverse: what it looks
for is somewhere in its search region, at another size. Prints the mean IoU with both modalities, with each alone, and
of the shifted box itself: not moving (0.11 with the default shift). Validation only: the pictures are for research.
"""

import argparse
import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duotrack.boxes import iou_xywh
from duotrack.datasets.sequence import read_picture
from duotrack.tracking.load import load_tracker

Floats = NDArray[np.float64]


def read_boxes(root: Path) -> dict[str, Floats]:
    """Visible file -> (N, 4) boxes."""
    found = defaultdict(list)
    with open(root / "boxes.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["file"]].append([float(row[key]) for key in "xywh"])
    return {file: np.array(rows) for file, rows in found.items()}


def elsewhere(box: Floats, rng: np.random.Generator, *, shift: float, scale: float) -> Floats:
    """The box, moved and resized."""
    centre = box[:2] + box[2:] / 2 + rng.uniform(-shift, shift, 2) * np.sqrt(box[2] * box[3])
    size = box[2:] * np.exp(rng.uniform(-1, 1, 2) * np.log(scale))
    return np.concatenate([centre - size / 2, size])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", default="ckd-tiny")
    parser.add_argument("--weights")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--shift", type=float, default=1.2)
    parser.add_argument("--scale", type=float, default=1.25)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tracker = load_tracker(args.model, weights=args.weights, precision=args.precision, device="cpu", redetect=False)
    # what the network says of this very frame is what is measured: nothing of it may be learnt beforehand
    tracker.geometry = replace(tracker.geometry, unbias=0.0)
    rng = np.random.default_rng(args.seed)
    overlaps = defaultdict(list)
    for file, boxes in read_boxes(args.root).items():
        pair = [read_picture(args.root / name)[0] for name in (file, file.replace("/visible/", "/infrared/"))]
        for box in boxes:
            start = elsewhere(box, rng, shift=args.shift, scale=args.scale)
            overlaps["not moving"].append(float(iou_xywh(start, box)))
            for label, shown in (("both", pair), ("visible", [pair[0], None]), ("thermal", [None, pair[1]])):
                tracker.init(shown[0], shown[1], box)
                # where it last saw the target is the one thing that is changed
                tracker._target = replace(tracker._target, box=start)  # type: ignore[type-var]
                overlaps[label].append(float(iou_xywh(tracker.update(shown[0], shown[1]).box, box)))
    for label in ("not moving", "both", "visible", "thermal"):
        values = np.array(overlaps[label])
        print(
            f"{label:10s} {len(values)} boxes, mean IoU {values.mean():.3f}, IoU > 0.5 in {(values > 0.5).mean():.3f}"
        )


if __name__ == "__main__":
    main()
