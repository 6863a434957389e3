"""How well a model follows targets in a folder of annotated sequences: success AUC, mean IoU, per sequence and in all.

    python benchmarks/track_quality.py ROOT --model ckd-tiny [--weights FILE | --untrained] [--workers 2] [--json FILE]

ROOT is in the LasHeR layout; a sequence may have one modality. One pass from the first box, no re-initialisation.
Success AUC: mean over the thresholds 0, 0.05 .. 1 of the share of frames with IoU above, over frames with a visible
target but the first, which is given; mean over sequences. With `--calibration` it also fits the confidence map and says
how the state rule fares.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from duotrack.boxes import iou_xywh
from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.sequence import Sequence
from duotrack.files import write_text
from duotrack.models.zoo import model_spec


def track(
    sequence: Sequence, *, model: str, weights: str | None, untrained: bool, precision: str, use: str
) -> dict[str, Any]:
    """One pass over a sequence: boxes against ground truth."""
    import torch

    from duotrack.tracking.load import load_tracker
    from duotrack.tracking.tracker import Tracker

    torch.set_num_threads(1)
    if untrained:
        torch.manual_seed(0)
        spec = model_spec(model)
        tracker = Tracker(spec.build(elimination=spec.elimination).eval(), geometry=spec.geometry)
    else:
        tracker = load_tracker(model, weights=weights, precision=precision, device="cpu")
    ious, raw, states = [], [], []
    for index in range(len(sequence)):
        frame = sequence.read(index)
        rgb, aux = (frame.rgb if use != "aux" else None), (frame.aux if use != "rgb" else None)
        if index == 0:
            tracker.init(rgb, aux, sequence.boxes[0])
            continue
        result = tracker.update(rgb, aux)
        seen = bool(sequence.visible[index])
        ious.append(float(iou_xywh(result.box, sequence.boxes[index])) if seen else float("nan"))
        raw.append(result.score)
        states.append(result.state)
    overlap = np.array(ious)
    seen_ious = overlap[np.isfinite(overlap)]
    thresholds = np.arange(21) / 20
    success = (seen_ious[:, None] > thresholds).mean(axis=0).mean() if len(seen_ious) else float("nan")
    return {
        "name": sequence.name,
        "auc": float(success),
        "iou": float(seen_ious.mean()) if len(seen_ious) else float("nan"),
        "frames": len(ious),
        "ious": ious,
        "scores": raw,
        "states": states,
    }


def fit_calibration(results: list[dict[str, Any]], present: tuple[float, float]) -> tuple[float, float]:
    """Logistic regression of "IoU above 0.5" on the logit of the raw score: (slope, intercept).

    `present` is the calibration that the scores went through; the fit on top of it is put together with it.
    """
    scores = np.concatenate([r["scores"] for r in results])
    good = np.nan_to_num(np.concatenate([r["ious"] for r in results]), nan=0.0) > 0.5
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    x = np.stack([np.log(clipped / (1 - clipped)), np.ones_like(clipped)], axis=1)
    beta = np.zeros(2)
    for _ in range(50):  # Newton's method
        p = 1 / (1 + np.exp(-x @ beta))
        beta += np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2), x.T @ (good - p))
    return float(beta[0] * present[0]), float(beta[0] * present[1] + beta[1])


def main() -> None:
    """Track every sequence and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", default="ckd-tiny")
    parser.add_argument("--weights")
    parser.add_argument("--untrained", action="store_true", help="random initial values: the floor")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument(
        "--use", choices=["both", "rgb", "aux"], default="both", help="which modalities the tracker gets"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--calibration", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sequences = open_lasher(args.root)
    job = partial(
        track,
        model=args.model,
        weights=args.weights,
        untrained=args.untrained,
        precision=args.precision,
        use=args.use,
    )
    with ProcessPoolExecutor(args.workers) as pool:
        results = list(pool.map(job, sequences))
    for r in results:
        print(f"{r['name']:32s} AUC {r['auc']:.3f}  IoU {r['iou']:.3f}  frames {r['frames']}")
    groups = {
        "all": results,
        "rgb only": [r for r, s in zip(results, sequences, strict=True) if s.aux is None],
        "aux only": [r for r, s in zip(results, sequences, strict=True) if s.rgb is None],
    }
    for name, group in groups.items():
        if group:
            auc, iou = (np.nanmean([r[key] for r in group]) for key in ("auc", "iou"))
            print(f"{name:9s} {len(group):4d} sequences  success AUC {auc:.4f}  mean IoU {iou:.4f}")
    if args.calibration:
        present = (1.0, 0.0) if args.untrained else model_spec(args.model).calibration
        print("calibration (slope, intercept):", fit_calibration(results, present))
        states = np.concatenate([r["states"] for r in results])
        overlap = np.concatenate([r["ious"] for r in results])
        for state in ("tracking", "uncertain", "lost"):
            here = overlap[states == state]
            if len(here):
                print(f"{state:10s} {len(here):6d} frames, IoU > 0.5 in {np.mean(np.nan_to_num(here) > 0.5):.3f}")
    if args.json:
        write_text(args.json, json.dumps(results))


if __name__ == "__main__":
    main()
