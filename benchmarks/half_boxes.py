"""How far boxes in 16 or 8 bits lie from those in float32, back-end by back-end.

    python benchmarks/half_boxes.py [--only clip|golden] [--frames 301] [--backends torch,openvino] [--precision bf16]
        [--json FILE]

The clip of `duotrack demo`, followed by ckd-tiny: "clip" searches each frame around the box that float32 had in the
frame before, so what differs is the arithmetic; "own way" lets each configuration go its own way from the first box on.
Where it ends there says as much of the loop as of the arithmetic, so the row "torch fp32, begun 0.05 px off" stands
beside it: the same float32, its first box moved by a twentieth of a pixel. Golden crops: ckd-base with the weights and
inputs of tests/golden (functions of their names), the box of one forward pass in pixels of the search crop. A box
differs by the largest of the differences of its x, y, width and height.
"""

import argparse
import json
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_table import write_made_weights
from numpy.typing import NDArray

from duotrack import load_tracker
from duotrack.cli.demo_clips import RECORDED
from duotrack.files import write_text
from duotrack.video import open_source

Boxes = NDArray[np.float64]
Measure = Callable[..., Boxes]


def clip_boxes(backend: str, precision: str, *, frames: int, around: Boxes | None = None, moved: float = 0.0) -> Boxes:
    """(frames, 4) boxes x, y, w, h of the demo's target in pixels, as ckd-tiny follows it, without re-detection.

    `around`: the boxes about which to search, frame by frame; else its own. `moved`: pixels that the first box is off.
    """
    data = files("duotrack").joinpath("demo")
    first = np.array(
        [
            float(each)
            for each in data.joinpath(f"{RECORDED['thermal']}.txt").read_text().split("\n")[0].replace(",", " ").split()
        ]
    )
    tracker = load_tracker(
        "ckd-tiny", backend=backend, precision=precision, device="cpu", prepare_for=("aux",), redetect=False
    )
    found: list[NDArray[np.float64]] = []
    with as_file(data.joinpath(f"{RECORDED['thermal']}.mp4")) as clip, open_source(None, clip) as source:
        for pair in source:
            if pair.index >= frames:
                break
            if not found:
                found.append(tracker.init(pair.rgb, pair.aux, first).box)
                tracker.move(first + moved)
                continue
            if around is not None:
                tracker.move(around[pair.index - 1])
            found.append(tracker.update(pair.rgb, pair.aux).box)
    return np.array(found)


def golden_boxes(backend: str, precision: str, *, weights: Path) -> Boxes:
    """(1, 4) box x, y, w, h in pixels of the search crop, as ckd-base answers the reference inputs."""
    tracker = load_tracker("ckd-base", weights=weights, backend=backend, precision=precision, device="cpu")
    size = tracker.geometry.search_size

    def image(name: str, side: int) -> torch.Tensor:
        draw = np.random.default_rng(zlib.crc32(f"ckd.{name}".encode()))
        return torch.from_numpy(draw.standard_normal((1, 3, side, side), dtype=np.float32))

    net: Any = tracker.net
    with torch.inference_mode():
        pair = (
            image("rgb.template", tracker.geometry.template_size),
            image("tir.template", tracker.geometry.template_size),
        )
        template = net.remember(pair) if hasattr(net, "remember") else pair
        search = image("rgb.search", size), image("tir.search", size)
        peak = tracker.peaks(net(template=template, search=search, available=("rgb", "aux")))[0]
    cx, cy, w, h = np.asarray(peak.box, dtype=np.float64) * size
    return np.array([[cx - w / 2, cy - h / 2, w, h]])


def compared(boxes: Boxes, exact: Boxes) -> dict[str, float]:
    """Largest and median difference of a box in pixels, and how many differ by more than one."""
    each = np.abs(boxes - exact).max(axis=1)
    return {"largest": float(each.max()), "median": float(np.median(each)), "over": int((each > 1).sum())}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["clip", "golden"])
    parser.add_argument("--frames", type=int, default=301)
    parser.add_argument("--backends", default="torch,openvino", help="of int8 torch alone")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32", "int8"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.precision == "int8":
        args.backends = "torch"
    found: dict[str, Any] = {}
    print("| boxes | back-end | frames | largest, px | median, px | over 1 px |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="duotrack-") as room:
        weights = Path(room) / "base.safetensors"

        def report(kind: str, name: str, boxes: Boxes, exact: Boxes) -> None:
            row = compared(boxes, exact)
            found.setdefault(kind, {})[name] = row
            figures = f"{row['largest']:.3f} | {row['median']:.3f} | {row['over']}"
            print(f"| {kind} | {name} | {len(exact)} | {figures} |", flush=True)

        if args.only != "golden":
            own = clip_boxes("torch", "fp32", frames=args.frames)
            ways: dict[str, Measure] = {
                "clip": partial(clip_boxes, frames=args.frames, around=own),
                "own way": partial(clip_boxes, frames=args.frames),
            }
            for kind, measure in ways.items():
                # what is reported lacks the first frame's bias, what was searched around does not: float32 once more
                exact = measure("torch", "fp32") if kind == "clip" else own
                if kind == "own way":
                    report(kind, "torch fp32, begun 0.05 px off", measure("torch", "fp32", moved=0.05), exact)
                for backend in args.backends.split(","):
                    report(kind, f"{backend} {args.precision}", measure(backend, args.precision), exact)
        if args.only != "clip":
            write_made_weights(weights, "ckd-base")
            exact = golden_boxes("torch", "fp32", weights=weights)
            for backend in args.backends.split(","):
                report(
                    "golden",
                    f"{backend} {args.precision}",
                    golden_boxes(backend, args.precision, weights=weights),
                    exact,
                )
    if args.json:
        write_text(args.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
