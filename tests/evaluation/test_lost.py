"""Whether a tracker knows that it lost its target: figures of runs that are written down here."""

import numpy as np
import pytest

from duotrack.evaluation.lost import (
    Followed,
    absences,
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
from duotrack.tracking.state import calibrate

NAN = float("nan")


def run(pattern: str, states: str, *, sizes: float = 1.0) -> Followed:
    """`pattern`: + a good box, - a bad one, . the target is absent; `states`: t, u or l."""
    ious = np.array([{"+": 0.8, "-": 0.0, ".": NAN}[each] for each in pattern])
    names = {"t": "tracking", "u": "uncertain", "l": "lost"}
    ratios = np.where(np.isfinite(ious), sizes, NAN)
    return Followed("made up", ious, np.full(len(ious), 0.5), tuple(names[each] for each in states), ratios)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1" * 30, []),
        ("1" * 5 + "0" * 10 + "1" * 5, [(5, 15)]),
        ("1" * 5 + "0" * 9 + "1" * 5, []),
        ("0" * 12 + "1" + "0" * 11, [(0, 12), (13, 24)]),
        ("", []),
    ],
)
def test_absences_are_long_runs_without_the_target(visible, expected):
    assert absences([each == "1" for each in visible]) == expected


def test_lost_counts_when_it_comes_in_time():
    ten = "." * 12
    runs = [
        run("+++" + ten + "--++", "ttt" + "u" * 9 + "lll" + "lltt"),  # reported with its tenth frame
        run("+++" + ten + "----", "ttt" + "u" * 10 + "ll" + "llll"),  # one too late, and never found again
        run("+++" + ten, "ttt" + "l" * 12),  # nothing comes after it
        run("++++", "tttt"),
    ]
    found = reported(runs)
    assert found.absences == 3
    assert found.noticed == pytest.approx(2 / 3)
    assert found.recovery == (2, None)
    assert found.false_lost == pytest.approx(6 / (7 + 7 + 3 + 4))
    assert reported(runs, within=11).noticed == 1
    nothing = reported([run("+++", "ttt")])
    assert nothing.absences == 0
    assert np.isnan(nothing.noticed)


def test_recovery_ends_with_the_next_absence():
    found = reported([run("+" + "." * 10 + "--" + "." * 10 + "-+", "t" * 25)])
    assert found.recovery == (None, 1)


@pytest.mark.parametrize("present", [(1.0, 0.0), (1.864, 0.486), (0.5, -1.0)])
def test_a_calibration_is_found_again_whatever_the_scores_went_through(present):
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.02, 0.98, 20_000)
    truth = (2.0, -0.7)
    good = rng.uniform(size=len(raw)) < np.array([calibrate(value, truth) for value in raw])
    shown = np.array([calibrate(value, present) for value in raw])
    fitted = fit_calibration(shown, good, present)
    assert fitted == pytest.approx(truth, abs=0.1)
    np.testing.assert_allclose(
        recalibrated(shown, present, fitted), [calibrate(value, fitted) for value in raw], atol=1e-6
    )
    assert calibration_error(reliability(recalibrated(shown, present, fitted), good)) < 0.02


def test_a_perfect_split_has_a_calibration():
    scores = np.array([0.1] * 50 + [0.9] * 50)
    slope, intercept = fit_calibration(scores, scores > 0.5, (1.0, 0.0))
    assert np.isfinite([slope, intercept]).all()
    assert slope > 1


def test_reliability_counts_frames_in_steps():
    steps = reliability([0.05, 0.06, 0.95, 1.0], [False, True, True, True])
    assert [(step.frames, step.good) for step in steps] == [(2, 0.5), (2, 1.0)]
    assert calibration_error(steps) == pytest.approx((abs(0.055 - 0.5) * 2 + abs(0.975 - 1) * 2) / 4)


def test_cut_videos_are_told_by_jumps():
    boxes = np.array([[10.0 + i, 20, 10, 10] for i in range(10)])
    seen = np.ones(10, bool)
    assert not jumps(boxes, seen)
    boxes[5:, 0] += 50
    assert jumps(boxes, seen)
    seen[5] = False  # it went away and came back elsewhere
    assert not jumps(boxes, seen)


def test_sizes_over_time():
    assert size_ratio([[0, 0, 20, 20]], [[5, 5, 10, 10]]).tolist() == [2.0]
    assert np.isnan(size_ratio([0, 0, 20, 20], [5, 5, 0, 0]))
    runs = [run("+" * 40 + "-" * 10, "t" * 50, sizes=size) for size in (0.8, 1.0, 1.5, 1.0)]
    rows = drift(runs, every=25)
    assert [row[0] for row in rows] == [0, 25]
    assert rows[0][2] == 1.0
    assert drift(runs[:2]) == []


def test_success_is_over_frames_with_a_target():
    curve = success_curve([1.0, 0.0, NAN])
    assert curve.shape == (21,)
    assert curve.mean() == pytest.approx(0.5 * 20 / 21)
    assert np.isnan(success_curve([NAN])).all()


def test_figures_say_what_was_measured(tmp_path):
    pytest.importorskip("matplotlib")
    steps = reliability([0.05, 0.5, 0.95], [False, True, True])
    for name, figure in (
        ("a", reliability_plot({"present": steps, "fitted": steps}, "ckd-tiny: $confidence")),
        ("b", drift_plot({"plain": [(0, 0.9, 1.0, 1.1), (25, 0.8, 1.0, 1.3)]}, "size")),
    ):
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    labels = reliability_plot({"present": steps}, "x").axes[0].get_legend_handles_labels()[1]
    assert labels == [f"present: calibration error {calibration_error(steps):.3f}"]
