"""Fitting the threshold of template renewal: the rule on tables, the tracker's part on files."""

import numpy as np
import pytest

from duotrack.datasets.layouts import open_lasher
from duotrack.errors import InputError
from duotrack.evaluation.threshold import Confidences, confidences, curve, fit_theta
from duotrack.evaluation.threshold_plot import theta_plot
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY, ScriptedNet
from sequences import box, write_sequence


def said(*pairs: tuple[float, float]) -> Confidences:
    confidence, iou = zip(*pairs, strict=True)
    return Confidences(np.array(confidence), np.array(iou))


@pytest.mark.parametrize(
    ("measured", "theta", "kept", "iou"),
    [
        (said((0.9, 0.8), (0.5, 0.6), (0.3, 0.1)), 0.5, 2 / 3, 0.7),
        (said((0.3, 0.1), (0.9, 0.8), (0.5, 0.6)), 0.5, 2 / 3, 0.7),
        (said((0.9, 0.7)), 0.9, 1, 0.7),
        (said((0.2, 0.9), (0.1, 0.9)), 0.1, 1, 0.9),
        # it need not fall all the way: the smallest threshold counts, not the first
        (said((0.9, 0.6), (0.8, 0.7), (0.7, 0.9), (0.6, 0.0)), 0.7, 3 / 4, 2.2 / 3),
        # equal confidences pass together
        (said((0.9, 0.8), (0.5, 0.9), (0.5, 0.1)), 0.9, 1 / 3, 0.8),
        (said((float("nan"), 1.0), (0.9, 0.8)), 0.9, 1, 0.8),
    ],
)
def test_the_smallest_threshold_with_enough_overlap(measured, theta, kept, iou):
    found = fit_theta(measured)
    assert (found.theta, found.kept, found.iou) == pytest.approx((theta, kept, iou))


def test_none_is_an_error_that_says_how_far_it_got():
    with pytest.raises(InputError, match=r"no threshold: whatever is left out of 2 boxes.*0\.600 at best, 0\.7 is"):
        fit_theta(said((0.9, 0.6), (0.5, 0.5)))
    assert fit_theta(said((0.9, 0.6), (0.5, 0.5)), least=0.55).theta == 0.5
    with pytest.raises(InputError, match="no frame to fit"):
        fit_theta(Confidences(np.array([]), np.array([])))


def test_the_curve_counts_every_frame_once():
    rng = np.random.default_rng(0)
    measured = Confidences(np.append(rng.random(99), 1.0), rng.random(100))
    steps = curve(measured)
    assert sum(count for _, _, count in steps) == 100
    assert np.average([s[1] for s in steps], weights=[s[2] for s in steps]) == pytest.approx(measured.iou.mean())


def test_what_a_tracker_says_and_does(tmp_path):
    """A network that stays where it is, on a target that moves away, then is not visible, then is not there at all."""
    rows = [",".join(map(str, box(i))) for i in range(5)] + ["0,0,0,0"]
    folder = write_sequence(tmp_path, "alpha", 6, boxes="\n".join(rows) + "\n")
    for side in ("visible", "infrared"):
        (folder / side / "000002.jpg").write_bytes(b"")
    side = 4 * np.sqrt(16 * 12)
    net = ScriptedNet(scores=[0.9, 0.8, 0.7, 0.6], size=(16 / np.ceil(side), 12 / np.ceil(side)))
    watched = []
    measured = confidences(Tracker(net, geometry=GEOMETRY), open_lasher(tmp_path), watch=watched.append)
    np.testing.assert_allclose(measured.confidence, [0.9, 0.8, 0.7, 0.6], atol=1e-6)
    moved = [1, 3, 4]  # frame 2 has no image
    np.testing.assert_allclose(measured.iou, [*((16 - m) / (16 + m) for m in moved), 0], atol=1e-6)
    assert [sequence.name for sequence in watched] == ["alpha"]


def test_the_figure_shows_it():
    rng = np.random.default_rng(0)
    confidence = rng.random(300)
    measured = Confidences(confidence, np.clip(confidence + rng.normal(scale=0.1, size=300), 0, 1))
    found = fit_theta(measured)
    axes = theta_plot(measured, found, 0.7, "title").axes[0]
    assert found.theta in [line.get_xdata()[0] for line in axes.lines]
