"""Measure tracking and training on a GPU and print the tables of benchmarks/README.md.

    python benchmarks/gpu_table.py [--model ckd-base] [--device cuda] [--weights FILE] [--rounds 7] [--json FILE]

One stream end to end from decoded frames (crops on the device, one result a frame back), many streams in one forward,
and training in bf16. First the answers of the device are held against those of the CPU: speed of wrong boxes is none.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cpu_table import write_made_weights

from duotrack import load_tracker
from duotrack.evaluation.speed import spread
from duotrack.files import write_text
from duotrack.frames import Image
from duotrack.models.zoo import model_spec
from duotrack.runtime.backends import BACKENDS
from duotrack.tracking.batch import answer_together
from duotrack.tracking.tracker import Tracker
from duotrack.training.recipe import load_recipe
from duotrack.training.speed import measure_training
from duotrack.video.made import scene

SIZE = (640, 512)
Frames = list[tuple[Image, Image]]


def frames_of(count: int) -> tuple[Frames, tuple[float, ...]]:
    """Frames in memory and the first box."""
    rgb, aux = (list(scene(SIZE, count, name)) for name in ("rgb", "aux"))
    return [(a, b) for (a, _), (b, _) in zip(rgb, aux, strict=True)], rgb[0][1]


def largest_difference(tracker: Tracker, other: Tracker, frames: Frames, box: tuple[float, ...]) -> dict[str, float]:
    """Of two trackers' search crops (in normalised levels) and score maps on the second frame."""
    asked = []
    for each in (tracker, other):
        each.init(*frames[0], box)
        question = each.ask(*frames[1])
        assert question is not None
        search = torch.cat([image for image in question.search if image is not None])
        asked.append((search.cpu(), each.maps(question).score_map.float().cpu()))
    (crop, score), (other_crop, other_score) = asked
    return {"crop": float((crop - other_crop).abs().max()), "score": float((score - other_score).abs().max())}


def one_stream(tracker: Tracker, frames: Frames, box: tuple[float, ...], rounds: int) -> list[float]:
    """Frames a second of `Tracker.update`, a figure a round."""

    def track() -> None:
        tracker.init(*frames[0], box)
        for pair in frames[1:]:
            tracker.update(*pair)

    return [(len(frames) - 1) / seconds for seconds in timed(track, tracker.device, rounds)]


def many_streams(tracker: Tracker, frames: Frames, box: tuple[float, ...], rounds: int, stack: int) -> list[float]:
    """Frames a second of the network and the peaks of its maps, `stack` streams in one forward."""
    trackers = [tracker.clone() for _ in range(stack)]
    for each in trackers:
        each.init(*frames[0], box)
    questions = [each.ask(*frames[1]) for each in trackers]

    def look() -> None:
        answer_together(trackers, questions, stack=stack)

    return [stack / seconds for seconds in timed(look, tracker.device, 4 * rounds)]


def timed(run: Callable[[], None], device: torch.device, rounds: int) -> list[float]:
    """Seconds of each run after three that are not counted."""
    seconds = []
    for number in range(rounds + 3):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds += [time.perf_counter() - began] if number >= 3 else []
    return seconds


def track_table(args: argparse.Namespace, weights: Path | None) -> list[dict[str, Any]]:
    """Every torch back-end and precision."""
    frames, box = frames_of(args.frames)
    cpu = load_tracker(args.model, weights=weights, device="cpu", redetect=False)
    rows = []
    print(
        "| back-end | one stream, frames/s | " + " | ".join(f"{n} streams" for n in args.stacks) + " | score off by |"
    )
    print("|---" * (len(args.stacks) + 3) + "|")
    for backend in ("torch", "compiled"):
        for precision in BACKENDS[backend]:
            if precision == "fp16" and args.device == "cpu":
                continue
            tracker = load_tracker(
                args.model, weights=weights, device=args.device, backend=backend, precision=precision, redetect=False
            )
            off = largest_difference(tracker, cpu, frames, box)
            alone = one_stream(tracker, frames, box, args.rounds)
            together = {n: many_streams(tracker, frames, box, args.rounds, n) for n in args.stacks}
            found = {"backend": backend, "precision": precision, "off": off, "one": vars(spread(alone))}
            rows.append(found | {"stacks": {n: vars(spread(rates)) for n, rates in together.items()}})
            rates = [statistics.median(alone), *(statistics.median(each) for each in together.values())]
            words = " | ".join(f"{rate:.0f}" for rate in rates)
            print(f"| {backend} {precision} | {words} | {off['score']:.1e} (crop {off['crop']:.1e}) |")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ckd-base")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=100, help="of one stream, a round")
    parser.add_argument("--stacks", type=int, nargs="*", default=[8, 32, 128])
    parser.add_argument("--recipe", default="ckd-base-stage1")
    parser.add_argument("--set", action="append", default=[], help="changes of the recipe")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    name = torch.cuda.get_device_name(args.device) if args.device != "cpu" else "cpu"
    print(f"{name}, torch {torch.__version__}, {args.model}, {SIZE[0]}x{SIZE[1]}, both modalities\n")
    found: dict[str, Any] = {"device": name}
    with tempfile.TemporaryDirectory(prefix="duotrack-") as room:
        weights = args.weights
        if weights is None and model_spec(args.model).weights is None:
            weights = Path(room) / "made.safetensors"
            write_made_weights(weights, args.model)
        found["tracking"] = track_table(args, weights)
    recipe = load_recipe(args.recipe, ["precision=bf16", *args.set])
    speed = measure_training(recipe, batches=args.batches, device=args.device.partition(":")[0])
    print(f"\n{args.recipe}, bf16, batch {speed.batch_size}: {speed.pairs_per_second:.0f} pairs/s, ", end="")
    print(f"{speed.waiting_share:.0%} of the time waiting for data ({recipe.workers} workers)")
    found["training"] = {"pairs_per_second": speed.pairs_per_second, "waiting_share": speed.waiting_share}
    if args.json:
        write_text(args.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
