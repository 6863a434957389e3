"""Precision, recall and F over confidences, by hand."""

import numpy as np
import pytest

from duotrack.datasets.ground_truth import GroundTruth
from duotrack.errors import InputError
from duotrack.evaluation.longterm import find_thresholds, longterm
from duotrack.evaluation.results import Results
from reference import golden_file

NAN = [np.nan] * 4
BOX = [10.0, 10, 20, 20]
HALF = [10.0, 10, 20, 10]
AWAY = [100.0, 100, 20, 20]


def case(truth: list, ours: list, confidence: list, size: tuple[int, int] | None = None, name: str = "a") -> tuple:  # type: ignore[type-arg]
    boxes = np.array(truth, np.float64)
    return (
        GroundTruth(name, (boxes,), np.arange(len(boxes)), size=size),
        np.array(ours, np.float64),
        np.array(confidence, np.float64),
    )


def run(*cases: tuple) -> object:  # type: ignore[type-arg]
    boxes = {truth.name: ours for truth, ours, _ in cases}
    confidences = {truth.name: confidence for truth, _, confidence in cases}
    return longterm([each[0] for each in cases], Results("t", boxes, "ltwh", confidences=confidences))


def test_by_hand() -> None:
    # overlaps 1, 0.5, 0 and, where the target is absent, 0; three frames show the target
    made = run(case([BOX, BOX, BOX, NAN], [BOX, HALF, AWAY, BOX], [0.9, 0.8, 0.7, 0.6]))
    np.testing.assert_array_equal(made.thresholds, [np.inf, 0.9, 0.8, 0.7, 0.6, -np.inf])
    np.testing.assert_allclose(made.precisions, [1, 1, 0.75, 0.5, 0.375, 0.375])
    np.testing.assert_allclose(made.recalls, [0, 1 / 3, 0.5, 0.5, 0.5, 0.5])
    assert made.threshold == 0.8
    assert (made.precision, made.recall) == (0.75, 0.5)
    np.testing.assert_allclose(made.F, 0.6)


def test_mean_over_sequences() -> None:
    made = run(
        case([BOX], [BOX], [0.9], name="a"),
        case([BOX], [AWAY], [0.1], name="b"),
    )
    np.testing.assert_allclose(made.precisions, [1, 1, 0.5, 0.5])
    np.testing.assert_allclose(made.recalls, [0, 0.5, 0.5, 0.5])
    assert (made.precision, made.recall, made.threshold) == (1, 0.5, 0.9)


def test_rows_and_confidences_that_are_not_there() -> None:
    made = run(case([BOX, BOX, BOX], [BOX, NAN], [np.nan, 0.5]))
    # frame 0 has no confidence, frame 1 no box, frame 2 neither
    np.testing.assert_array_equal(made.thresholds, [np.inf, 0.5, -np.inf])
    np.testing.assert_allclose(made.precisions, [1, 0, 1 / 3])


def test_clipped_to_the_image() -> None:
    outside = [[-20.0, 10, 40, 20]]
    assert run(case([[0.0, 10, 20, 20]], outside, [1.0], size=(50, 50))).F == 1
    free = run(case([[0.0, 10, 20, 20]], outside, [1.0]))
    assert not free.clipped
    assert free.precision == 0.5


def test_nothing_met() -> None:
    assert run(case([BOX], [AWAY], [1.0])).F == 0


def test_thresholds() -> None:
    many = np.random.default_rng(0).permutation(1000) / 1000
    found = find_thresholds(np.concatenate([many, [np.nan, -np.inf]]))
    assert len(found) == 100
    assert (np.diff(found) < 0).all()
    assert find_thresholds(np.array([0.5, 0.1])).tolist() == [np.inf, 0.5, 0.1, -np.inf]


def test_confidences_are_needed() -> None:
    truth, ours, _ = case([BOX], [BOX], [1.0])
    with pytest.raises(InputError, match=r"1 of 1 sequences have no confidence file, such as a_confidence\.value"):
        longterm([truth], Results("t", {"a": ours}, "ltwh"))


def test_the_vot_toolkit_gives_the_same_curves() -> None:
    """Curves of vot-toolkit 0.7.4 over three generated sequences: absent targets, ties, boxes over the image's edge."""
    made = golden_file("longterm_vot")
    ends = np.cumsum(made["lengths"])
    parts = [slice(end - count, end) for end, count in zip(ends, made["lengths"], strict=True)]
    size = (int(made["size"][0]), int(made["size"][1]))
    ours = run(
        *(
            case(made["truth"][part], made["boxes"][part], made["confidences"][part], size, name=str(i))
            for i, part in enumerate(parts)
        )
    )
    np.testing.assert_array_equal(ours.thresholds, made["thresholds"])
    np.testing.assert_allclose(ours.precisions, made["precisions"], atol=1e-12)
    np.testing.assert_allclose(ours.recalls, made["recalls"], atol=1e-12)
