"""ckd-tiny beside OpenCV's CSRT and KCF on the same sequences, in one run: success AUC and frames a second.

    python -m venv ocv && ocv/bin/pip install opencv-contrib-python-headless==4.13.0.92
    python benchmarks/compare_opencv.py ROOT --opencv ocv/bin/python --cache opencv.json

ROOT is in the LasHeR layout; a sequence may have one modality. OpenCV's trackers see one modality at a time, the model
each alone and, where there are two, both. One pass from the first box. Success AUC: mean over the thresholds 0, 0.05,
.. 1 of the share of frames with IoU above, over frames with a visible target but the first; mean over sequences. Frames
a second: those tracked by the time spent in `update`, without decoding, over all sequences of a row. OpenCV's boxes and
times are kept in the cache and not computed again: CSRT is slow. NanoTrack is left out: OpenCV carries its code, but no
package carries its weights.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duotrack.boxes import iou_xywh
from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.sequence import Frames, Sequence
from duotrack.evaluation.success import success_curve
from duotrack.files import write_text

MODALITIES = {"visible": "rgb", "thermal": "aux"}


@dataclass(frozen=True)
class Run:
    """What a tracker made of a sequence; `seconds` were spent on its frames but the first."""

    sequence: str
    auc: float
    frames: int
    seconds: float


def success_auc(boxes: NDArray[np.float64], sequence: Sequence) -> float:
    """Success AUC of boxes for all frames but the first; nan where the target is never visible."""
    seen = sequence.visible[1:]
    return float(success_curve(iou_xywh(boxes[seen], sequence.boxes[1:][seen])).mean())


def side(sequence: Sequence, modality: str) -> Frames | None:
    """The images of one modality."""
    return sequence.rgb if MODALITIES[modality] == "rgb" else sequence.aux


def job_of(sequence: Sequence, modality: str, tracker: str, threads: int) -> dict[str, Any]:
    """What `opencv_trackers.py` is asked."""
    frames = side(sequence, modality)
    assert frames is not None
    paths = [str(path.resolve()) for path in frames]
    return {"tracker": tracker, "threads": threads, "box": sequence.boxes[0].tolist(), "frames": paths}


def key_of(job: dict[str, Any]) -> str:
    """Where the cache keeps the answer to a job: the same only while the files are the same size."""
    sizes = [os.path.getsize(path) for path in job["frames"]]
    tail = [Path(path).parts[-3:] for path in (job["frames"][0], job["frames"][-1])]
    digest = hashlib.sha256(json.dumps([sizes, tail, job["box"], job["threads"]]).encode()).hexdigest()[:16]
    return f"{job['tracker']} {'/'.join(tail[0][:2])} {digest}"


def ask_opencv(python: str, job: dict[str, Any]) -> dict[str, Any]:
    """One sequence through one of OpenCV's trackers, in its own environment."""
    script = Path(__file__).with_name("opencv_trackers.py")
    done = subprocess.run([python, str(script)], input=json.dumps(job), capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode} and said nothing"])[-1]
        raise SystemExit(f"{python} {script.name}: {last}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def opencv_rows(
    sequences: Iterable[Sequence],
    *,
    python: str | None,
    trackers: Iterable[str],
    cache: Path,
    workers: int,
    threads: int,
) -> dict[str, list[Run]]:
    """Each of OpenCV's trackers on each modality; every answer is in the cache before the next is waited for.

    Raises:
        SystemExit: the cache lacks answers and `python` is not there to give them; nothing was started.
    """
    known: dict[str, Any] = json.loads(cache.read_text(encoding="utf-8")) if cache.exists() else {}
    jobs = [
        (f"{tracker.upper()}, {modality}", sequence, job_of(sequence, modality, tracker, threads))
        for tracker in trackers
        for modality in MODALITIES
        for sequence in sequences
        if side(sequence, modality) is not None
    ]
    missing = {key_of(job): job for *_, job in jobs if key_of(job) not in known}
    if missing and (python is None or shutil.which(python) is None):
        given = "no --opencv" if python is None else f"no program {python}"
        raise SystemExit(
            f"{len(missing)} of {len(jobs)} answers of OpenCV are not in {cache}, and there is {given}; give --opencv "
            "PYTHON of an environment with opencv-contrib-python-headless, or --cache of a run that had them"
        )
    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(ask_opencv, python or "", job): key for key, job in missing.items()}
        for number, answer in enumerate(as_completed(waiting), 1):
            known[waiting[answer]] = answer.result()
            write_text(cache, json.dumps(known))
            print(f"OpenCV {number}/{len(waiting)}: {waiting[answer]}", flush=True)
    rows: dict[str, list[Run]] = {}
    for row, sequence, job in jobs:
        answer = known[key_of(job)]
        boxes = np.array(answer["boxes"]).reshape(-1, 4)
        run = Run(sequence.name, success_auc(boxes, sequence), len(boxes), answer["seconds"])
        rows.setdefault(row, []).append(run)
    return rows


def follow(sequence: Sequence, *, use: str, redetect: bool, options: dict[str, Any], threads: int) -> Run:
    """The model on a sequence."""
    import torch

    from duotrack.tracking.load import load_tracker

    torch.set_num_threads(threads)
    tracker = load_tracker(redetect=redetect, device="cpu", **options)
    boxes, seconds, started = [sequence.boxes[0]], 0.0, False
    for index in range(len(sequence)):
        frame = sequence.read(index)
        rgb, aux = (frame.rgb if use != "aux" else None), (frame.aux if use != "rgb" else None)
        before = time.perf_counter()
        if started:
            boxes.append(tracker.update(rgb, aux).box)
            seconds += time.perf_counter() - before
        elif rgb is None and aux is None:
            boxes += [sequence.boxes[0]] * (index > 0)
        else:
            tracker.init(rgb, aux, sequence.boxes[0])
            boxes += [sequence.boxes[0]] * (index > 0)
            started = True
    return Run(sequence.name, success_auc(np.array(boxes[1:]), sequence), len(boxes) - 1, seconds)


def model_rows(
    sequences: list[Sequence], *, options: dict[str, Any], redetection: Iterable[bool], workers: int, threads: int
) -> dict[str, list[Run]]:
    """The model, with and without re-detection, on each modality and on both."""
    rows: dict[str, list[Run]] = {}
    with ProcessPoolExecutor(workers) as pool:
        for redetect in redetection:
            for use, label in (("both", "both"), ("rgb", "visible"), ("aux", "thermal")):
                there = {"both": lambda s: s.rgb and s.aux, "rgb": lambda s: s.rgb, "aux": lambda s: s.aux}[use]
                fitting = [sequence for sequence in sequences if there(sequence)]
                job = partial(follow, use=use, redetect=redetect, options=options, threads=threads)
                if fitting:
                    row = f"{options['model']}{', re-detection' if redetect else ''}, {label}"
                    rows[row] = list(pool.map(job, fitting))
                    print(summary(row, rows[row]), flush=True)
    return rows


def summary(row: str, runs: list[Run]) -> str:
    """One line of the table."""
    fps = sum(run.frames for run in runs) / max(sum(run.seconds for run in runs), 1e-9)
    auc = float(np.nanmean([run.auc for run in runs]))
    return f"| {row} | {len(runs)} | {auc:.3f} | {fps:.1f} |"


def main() -> None:
    """Run what is not known yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--opencv", help="python of an environment with opencv-contrib; without it, the cache must do")
    parser.add_argument("--cache", type=Path, default=Path("opencv_cache.json"))
    parser.add_argument("--trackers", nargs="*", choices=["csrt", "kcf"], default=["csrt", "kcf"])
    parser.add_argument("--model", default="ckd-tiny")
    parser.add_argument("--weights")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--redetection", choices=["on", "off", "both"], default="both")
    parser.add_argument("--without-model", action="store_true", help="only OpenCV's trackers, to fill the cache")
    parser.add_argument("--workers", type=int, default=2, help="sequences at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each tracker")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sequences = open_lasher(args.root)
    rows = opencv_rows(
        sequences,
        python=args.opencv,
        trackers=args.trackers,
        cache=args.cache,
        workers=args.workers,
        threads=args.threads,
    )
    if not args.without_model:
        options = {key: getattr(args, key) for key in ("model", "weights", "backend", "precision")}
        wanted = {"on": [True], "off": [False], "both": [False, True]}[args.redetection]
        rows |= model_rows(sequences, options=options, redetection=wanted, workers=args.workers, threads=args.threads)
    print("\n| tracker | sequences | success AUC | frames a second |\n|---|---|---|---|")
    for row, runs in rows.items():
        print(summary(row, runs))
    if args.json:
        write_text(args.json, json.dumps({row: [vars(run) for run in runs] for row, runs in rows.items()}, indent=1))


if __name__ == "__main__":
    main()
