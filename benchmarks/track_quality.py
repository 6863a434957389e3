"""How well a model follows targets in a folder of annotated sequences, and whether it knows when it does not.

    python benchmarks/track_quality.py ROOT [--model ckd-tiny] [--weights FILE | --untrained] [--json FILE]
        [--no-redetect | --redetect] [--calibration] [--absences] [--plots DIR] [--every 1]

ROOT is in the LasHeR layout; a sequence may have one modality. One pass from the first box, no re-initialisation, plain
and with re-detection. Success AUC: mean over the thresholds 0, 0.05 .. 1 of the share of frames with IoU above, over
frames with a visible target but the first, which is given; mean over sequences. `--calibration` fits the confidence map
on every other sequence and reports on the others. `--absences` also takes the target away for a while
(`benchmarks/absences.py`) and reports what the state says of it.
"""

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absences import KINDS, Shot, with_absence

from duotrack.boxes import iou_xywh
from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.sequence import Sequence
from duotrack.evaluation.lost import (
    GOOD,
    Followed,
    calibration_error,
    drift,
    fit_calibration,
    jumps,
    recalibrated,
    reliability,
    reported,
    size_ratio,
)
from duotrack.evaluation.lost_plots import drift_plot, reliability_plot
from duotrack.evaluation.success import success_curve
from duotrack.files import atomic_path, write_text
from duotrack.models.zoo import model_spec

PLAIN, AGAIN = "plain", "re-detection"


def open_tracker(*, model: str, weights: str | None, untrained: bool, redetect: bool, **options: Any) -> Any:
    """The tracker that is measured."""
    import torch

    from duotrack.tracking.load import load_tracker
    from duotrack.tracking.redetect import Redetection
    from duotrack.tracking.tracker import Tracker

    torch.set_num_threads(1)
    if not untrained:
        return load_tracker(model, weights=weights, device="cpu", redetect=redetect, **options)
    torch.manual_seed(0)
    spec = model_spec(model)
    net = spec.build(elimination=spec.elimination).eval()
    return Tracker(net, geometry=spec.geometry, redetect=Redetection() if redetect else None)


def whole(sequence: Sequence) -> Iterator[Shot]:
    """Its frames as they are."""
    for index in range(len(sequence)):
        pair = sequence.read(index)
        yield Shot((pair.rgb, pair.aux), sequence.boxes[index] if sequence.visible[index] else None)


def follow(job: tuple[Sequence, Sequence, str | None], *, use: str, most: int | None, **options: Any) -> Followed:
    """One pass over a sequence, or over one with an absence of that kind made with the help of the other."""
    sequence, other, kind = job
    tracker = open_tracker(**options)
    ious, sizes, scores, states = [], [], [], []
    for index, shot in enumerate(whole(sequence) if kind is None else with_absence(sequence, other, kind)):
        if most is not None and index >= most:
            break
        images = (shot.images[0] if use != "aux" else None, shot.images[1] if use != "rgb" else None)
        if index == 0:
            tracker.init(*images, sequence.boxes[0])
            continue
        result = tracker.update(*images)
        ious.append(float("nan") if shot.box is None else float(iou_xywh(result.box, shot.box)))
        sizes.append(float("nan") if shot.box is None else float(size_ratio(result.box, shot.box)))
        scores.append(result.score)
        states.append(result.state)
    name = sequence.name if kind is None else f"{sequence.name} ({kind})"
    return Followed(name, np.array(ious), np.array(scores), tuple(states), np.array(sizes))


def auc(run: Followed) -> float:
    """Success AUC; nan where the target is never visible."""
    return float(success_curve(run.ious).mean())


def groups_of(sequences: list[Sequence]) -> dict[str, list[int]]:
    """Which sequences a row of the table is over."""
    kinds = {
        "all": lambda s: True,
        "without cuts": lambda s: not jumps(s.boxes, s.visible),
        "with cuts": lambda s: jumps(s.boxes, s.visible),
        "visible only": lambda s: s.aux is None,
        "thermal only": lambda s: s.rgb is None,
        "both": lambda s: s.rgb is not None and s.aux is not None,
    }
    chosen = {name: [i for i, s in enumerate(sequences) if wanted(s)] for name, wanted in kinds.items()}
    return {name: members for name, members in chosen.items() if members}


def print_quality(runs: dict[str, list[Followed]], sequences: list[Sequence]) -> None:
    """Every sequence, then every group, a column a way of tracking."""
    ways = list(runs)
    print(f"{'success AUC':32s}" + "".join(f"{way:>14s}" for way in ways))
    for index, sequence in enumerate(sequences):
        print(f"{sequence.name:32s}" + "".join(f"{auc(runs[way][index]):14.3f}" for way in ways))
    for name, members in groups_of(sequences).items():
        means = [np.nanmean([auc(runs[way][i]) for i in members]) for way in ways]
        print(f"{name:18s} {len(members):3d} sequences" + " " * 3 + "".join(f"{mean:14.4f}" for mean in means))
    for way in ways:
        print(f"{way}: size over the true one, 10th, 50th, 90th percentile over sequences")
        for start, low, middle, high in drift(runs[way])[::4]:
            print(f"  from frame {start:4d}: {low:.2f} {middle:.2f} {high:.2f}")


def joined(runs: Iterable[Followed]) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of all frames, and whether their boxes are good."""
    known = list(runs)
    ious = np.concatenate([run.ious for run in known])
    return np.concatenate([run.confidences for run in known]), np.nan_to_num(ious) > GOOD


def halves(runs: list[Followed], sequences: list[Sequence]) -> tuple[list[Followed], list[Followed]]:
    """Runs over every other sequence, absences made of it counted in, and over the others."""
    first = {sequence.name for sequence in sequences[::2]}
    fit = [run for run in runs if run.name.partition(" (")[0] in first]
    return fit, [run for run in runs if run not in fit]


def calibrate(fit: list[Followed], rest: list[Followed], present: tuple[float, float]) -> dict[str, Any]:
    """Fit on some runs, report on the others; curves of both maps there, for the plot."""
    fitted = fit_calibration(*joined(fit), present)
    scores, good = joined(rest)
    curves = {"present": reliability(scores, good), "fitted": reliability(recalibrated(scores, present, fitted), good)}
    print(f"calibration (slope, intercept) fitted on {len(fit)} runs: ({fitted[0]:.3f}, {fitted[1]:.3f})")
    for name, steps in curves.items():
        print(f"{name} on the other {len(rest)}: calibration error {calibration_error(steps):.4f}")
        for step in steps:
            print(f"  confidence {step.confidence:.2f}: good {step.good:.3f} of {step.frames}")
    return curves


def print_state(way: str, runs: list[Followed], rest: list[Followed]) -> None:
    """What the state said, over all runs and over those that no calibration is fitted on."""
    for name, some in (("all", runs), ("not fitted on", rest)):
        found = reported(some)
        delays = [delay for delay in found.recovery if delay is not None]
        line = f"{way}, {name}: lost in {found.false_lost:.4f} of visible frames"
        if found.absences:
            line += f"; {found.absences} absences, lost reported within 10 frames in {found.noticed:.3f}"
            line += f"; found again after {len(delays)} of {len(found.recovery)} returns"
            line += f", after {np.median(delays):.0f} frames (median), {max(delays)} at most" if delays else ""
        print(line)
    states = np.concatenate([run.states for run in runs])
    _, good = joined(runs)
    for state in ("tracking", "uncertain", "lost"):
        here = states == state
        if here.any():
            print(f"  {state:10s} {int(here.sum()):6d} frames, IoU > 0.5 in {good[here].mean():.3f}")


def main() -> None:
    """Track every sequence and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", default="ckd-tiny")
    parser.add_argument("--weights")
    parser.add_argument("--untrained", action="store_true", help="random initial values: the floor")
    parser.add_argument("--backend")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument(
        "--use", choices=["both", "rgb", "aux"], default="both", help="which modalities the tracker gets"
    )
    parser.add_argument("--redetect", action=argparse.BooleanOptionalAction, help="only with, or only without")
    parser.add_argument("--calibration", action="store_true")
    parser.add_argument("--absences", nargs="*", choices=KINDS, help="kinds; none named: all of them in turn")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th sequence")
    parser.add_argument("--frames", type=int, help="stop after so many frames of a sequence")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plots", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sequences = list(open_lasher(args.root))
    options: dict[str, Any] = {"model": args.model, "weights": args.weights, "untrained": args.untrained}
    options |= {"use": args.use, "most": args.frames}
    options |= {} if args.untrained else {"precision": args.precision, "backend": args.backend}
    others = dict(zip([s.name for s in sequences], sequences[1:] + sequences[:1], strict=True))
    sequences = sequences[:: args.every]
    ways = {PLAIN: False, AGAIN: True} if args.redetect is None else {AGAIN if args.redetect else PLAIN: args.redetect}
    jobs: list[tuple[Sequence, Sequence, str | None]] = [(s, others[s.name], None) for s in sequences]
    made = [
        (s, others[s.name], kind)
        for i, s in enumerate(sequences if args.absences is not None else [])
        for kind in (args.absences or [KINDS[i % len(KINDS)]])
    ]
    with ProcessPoolExecutor(args.workers) as pool:
        runs = {way: list(pool.map(partial(follow, redetect=on, **options), jobs)) for way, on in ways.items()}
        gone = {way: list(pool.map(partial(follow, redetect=on, **options), made)) for way, on in ways.items()}
    print_quality(runs, sequences)
    figures = {}
    if args.calibration:
        present = (1.0, 0.0) if args.untrained else model_spec(args.model).calibration
        for way in ways:
            print(f"-- {way}")
            curves = calibrate(*halves([*runs[way], *gone[way]], sequences), present)
            figures[f"reliability-{way}"] = partial(reliability_plot, curves, f"{args.model}, {way}: confidence")
    if args.calibration or made:
        for way in ways:
            print_state(way, [*runs[way], *gone[way]], halves([*runs[way], *gone[way]], sequences)[1])
    if args.plots:
        figures["drift"] = partial(drift_plot, {way: drift(runs[way]) for way in ways}, f"{args.model}: box size")
        args.plots.mkdir(parents=True, exist_ok=True)
        for name, draw in figures.items():
            with atomic_path(args.plots / f"{name}.png") as temporary:
                draw().savefig(temporary, dpi=120)
    if args.json:
        rows = {way: [_plain(run) for run in [*runs[way], *gone[way]]] for way in ways}
        write_text(args.json, json.dumps(rows))


def _plain(run: Followed) -> dict[str, Any]:
    values = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(run).items()}
    return {**values, "auc": auc(run)}


if __name__ == "__main__":
    main()
