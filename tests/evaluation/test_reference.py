"""Measured reference values of real trackers: docs/specs/evaluation.md, section 5."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.ground_truth import GroundTruth, read_ground_truth
from duotrack.evaluation.metrics import Rates, Score, score
from duotrack.evaluation.protocols import preset
from duotrack.evaluation.results import read_results

KEYS = (
    *(f"GTOT/{name}" for name in ("PATrack", "APFNet", "JMMAC", "GMMT", "MANet++", "MIRNet")),
    *(f"{title}/{name}" for title in ("RGBT234", "RGBT210") for name in ("GMMT", "JMMAC")),
    *(f"LasHeR/{name}" for name in ("APFNet", "mfDiMP", "MaCNet", "MANet++")),
)
PRESETS = {
    "toolkit_exact": "toolkit",
    "matlab_toolbox": "matlab",
    "unrounded": "plain",
    "unrounded_step005": "plain",
}
TOLERANCE = 1e-5


@pytest.fixture(scope="session")
def data(shared_data: Path) -> Path:
    folder = shared_data / "evaluation"
    if not (folder / "reference.json").is_file():
        pytest.skip("the real tracker results are not beside this checkout")
    return folder


@cache
def truth(data: Path, title: str) -> list[GroundTruth]:
    return read_ground_truth(benchmark(title), data / f"gt_{title}.zip")


def check(ours: Score | Rates, expected: dict[str, float]) -> None:
    for metric in ("PR", "SR", "NPR"):
        if metric in expected:
            assert getattr(ours, metric) == pytest.approx(expected[metric], abs=TOLERANCE), metric


def test_every_entry_is_checked(data: Path) -> None:
    assert set(json.loads((data / "reference.json").read_text())) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_entry(data: Path, key: str) -> None:
    entry: dict[str, Any] = json.loads((data / "reference.json").read_text())[key]
    which = benchmark(entry["dataset"])
    truths = truth(data, entry["dataset"])
    results = read_results(data / entry["results_zip"], truths)
    assert results.format == entry["box_format"]
    assert results.tracker == entry["tracker"]
    for name, rules in PRESETS.items():
        if name in entry:
            made = score(truths, results, preset(rules, which))
            assert made.sequences == entry["n_sequences"]
            assert made.frames == entry["n_frames"]
            check(made, entry[name])
    made = score(truths, results, preset("toolkit", which))
    assert made.protocol.startswith("toolkit: ")
    for name, expected in entry.get("attributes_toolkit_exact", {}).items():
        assert made.attributes[name].n == expected["n"]
        check(made.attributes[name], expected)


def test_known_irregularities_are_counted(data: Path) -> None:
    lasher = score(
        truth(data, "LasHeR"),
        read_results(data / "raw_LasHeR_mfDiMP.zip", truth(data, "LasHeR")),
        preset("toolkit", benchmark("lasher")),
    )
    assert (lasher.counts["absent"], lasher.counts["repaired"]) == (1260, 2354)
    rgbt234 = score(
        truth(data, "RGBT234"),
        read_results(data / "raw_RGBT234_JMMAC.zip", truth(data, "RGBT234")),
        preset("toolkit", benchmark("rgbt234")),
    )
    assert rgbt234.counts["shorter"] == 1  # orangeman1 has 920 rows for 921 frames


def test_ground_truth_scored_against_itself_is_limited_by_absence(data: Path) -> None:
    """VisEvent: absent frames are misses, so a perfect tracker gets the share of present frames."""
    which = benchmark("visevent")
    truths = truth(data, "VisEvent")
    assert (len(truths), sum(map(len, truths))) == (which.sequences, which.frames)
    absent = [each.absent for each in truths if each.absent is not None]
    assert sum(int(flags.sum()) for flags in absent) == 21_026
    made = score(truths, _as_results(truths), preset("matlab", which))
    present = sum(1 - flags.mean() for flags in absent) / len(absent)
    rates = {"PR": made.PR, "SR": made.SR}
    assert rates == pytest.approx({"PR": present, "SR": present * 20 / 21}, abs=1e-12)


def _as_results(truths: list[GroundTruth]) -> Any:
    from duotrack.evaluation.results import Results

    return Results("perfect", {each.name: each.boxes[0] for each in truths}, "ltwh")
