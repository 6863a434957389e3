"""How far boxes in 16 bits lie from those in float32, back-end by back-end.

    python benchmarks/half_boxes.py [--only clip|golden] [--frames 301] [--backends torch,openvino] [--json FILE]

The clip of `duotrack demo` is followed by ckd-tiny, each configuration going its own way from the first box on. Golden
crops: ckd-base with the weights and inputs of tests/golden (functions of their names), the box of one forward pass in
pixels of the search crop. A box differs by the largest of the differences of its x, y, width and height.
"""

import argparse
import json
import tempfile
import zlib
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_table import write_made_weights
from numpy.typing import NDArray

from duotrack import load_tracker
from duotrack.cli.demo_clips import RECORDED
from duotrack.errors import InputError
from duotrack.files import write_text
from duotrack.video import open_source

Boxes = NDArray[np.float64]


def clip_boxes(backend: str, precision: str, *, frames: int) -> Boxes:
    """(frames, 4) boxes x, y, w, h of the demo's target in pixels, as ckd-tiny follows it."""
    data = files("duotrack").joinpath("demo")
    first = [
        float(each)
        for each in data.joinpath(f"{RECORDED['thermal']}.txt").read_text().split("\n")[0].replace(",", " ").split()
    ]
    tracker = load_tracker("ckd-tiny", backend=backend, precision=precision, device="cpu", prepare_for=("aux",))
    found = []
    with as_file(data.joinpath(f"{RECORDED['thermal']}.mp4")) as clip, open_source(None, clip) as source:
        for pair in source:
            if pair.index >= frames:
                break
            look = tracker.update if found else lambda rgb, aux: tracker.init(rgb, aux, first)
            found.append(look(pair.rgb, pair.aux).box)
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
    parser.add_argument("--backends", default="torch,openvino")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    print("| boxes | back-end | frames | largest, px | median, px | over 1 px |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="duotrack-") as room:
        weights = Path(room) / "base.safetensors"
        for kind in ("clip", "golden") if args.only is None else (args.only,):
            if kind == "golden":
                write_made_weights(weights, "ckd-base")

            def boxes(backend: str, precision: str, kind: str = kind) -> Boxes:
                if kind == "clip":
                    return clip_boxes(backend, precision, frames=args.frames)
                return golden_boxes(backend, precision, weights=weights)

            exact = boxes("torch", "fp32")
            for backend in args.backends.split(","):
                try:
                    row = compared(boxes(backend, args.precision), exact)
                except InputError as error:
                    print(f"left out, {backend}: {error}")
                    continue
                found.setdefault(kind, {})[f"{backend} {args.precision}"] = row
                figures = f"{row['largest']:.3f} | {row['median']:.3f} | {row['over']}"
                print(f"| {kind} | {backend} {args.precision} | {len(exact)} | {figures} |", flush=True)
    if args.json:
        write_text(args.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
