"""Every rule of the protocols on sequences small enough to count by hand."""

# ruff: noqa: SIM300  # the names of rates look like constants

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.ground_truth import GroundTruth
from duotrack.errors import InputError
from duotrack.evaluation.metrics import Score, score
from duotrack.evaluation.protocols import Protocol, preset
from duotrack.evaluation.results import Results

BOX = [100.0, 100, 20, 20]
AWAY = [500.0, 500, 20, 20]
NAN = [np.nan] * 4


def moved(x: float, y: float = 0) -> list[float]:
    return [100 + x, 100 + y, 20, 20]


def made(
    rules: Protocol | tuple[str, str],
    truth: Any,
    ours: Any,
    *,
    box_format: Any = "ltwh",
    second: Any = None,
    absent: Any = None,
) -> Score:
    """The score of one sequence, or of several where lists are nested one deeper."""
    several = isinstance(truth[0][0], list)
    truths, results = [], {}
    for index in range(len(truth) if several else 1):
        sides = [truth[index] if several else truth] + ([] if second is None else [second])
        boxes = tuple(np.array(side, np.float64) for side in sides)
        flags = None if absent is None else np.array(absent)
        truths.append(GroundTruth(f"s{index}", boxes, np.arange(len(boxes[0])), flags))
        results[f"s{index}"] = np.array(ours[index] if several else ours, np.float64)
    rules = preset(rules[1], benchmark(rules[0])) if isinstance(rules, tuple) else rules
    return score(truths, Results("t", results, box_format), rules)


@pytest.mark.parametrize(
    ("title", "x", "y", "precise"),
    [
        ("lasher", 12, 16, 1),  # exactly 20 pixels
        ("lasher", 12, 17, 0),
        ("rgbt210", 20, 0, 1),
        ("rgbt234", 20, 0, 1),
        ("gtot", 3, 4, 0),  # exactly 5 pixels, and GTOT is strict
        ("gtot", 3, 3, 1),
    ],
)
def test_precision_threshold(title: str, x: float, y: float, precise: float) -> None:
    second = None if title in ("lasher", "rgbt210") else [BOX, BOX]
    score = made((title, "plain"), [BOX, BOX], [BOX, moved(x, y)], second=second)
    assert score.PR == (1 + precise) / 2


def test_success_is_above_the_threshold() -> None:
    # overlap 12 x 20 of a union of 28 x 20: 3/7; and exactly 3/5
    for width, thresholds_met in ((12, 9), (15, 12)):
        ours = [100 + 20 - width, 100, 20, 20]
        overlap = width / (40 - width)
        assert made(("rgbt234", "plain"), [BOX], [ours], second=[BOX]).SR == thresholds_met / 21, overlap


def test_perfect_is_less_than_one_by_the_mean_and_not_by_the_area() -> None:
    assert made(("rgbt234", "plain"), [BOX] * 3, [BOX] * 3, second=[BOX] * 3).SR == pytest.approx(20 / 21)
    assert made(("gtot", "toolkit"), [BOX] * 3, [BOX] * 3, second=[BOX] * 3).SR == pytest.approx(1 - 0.05 / 2)
    assert made(("gtot", "matlab"), [BOX] * 3, [BOX] * 3, second=[BOX] * 3).SR == pytest.approx(1 - 0.02 / 2)


def test_better_of_two_annotations_each_by_itself() -> None:
    ours = [[100.0, 100, 60, 20]]
    visible, infrared = [[130.0, 100, 60, 20]], [[120.0, 105, 10, 10]]  # overlap 1/3 and 1/12, error 30 and 5
    score = made(("rgbt234", "plain"), visible, ours, second=infrared)
    assert (score.PR, score.SR) == (1, pytest.approx(7 / 21))


def test_pooled_over_frames_or_mean_over_sequences() -> None:
    truth = [[BOX] * 9, [BOX]]
    ours = [[BOX] * 9, [AWAY]]
    rules = preset("toolkit", benchmark("rgbt234"))
    assert made(rules, truth, ours).PR == 0.5
    assert made(replace(rules, pooled=True), truth, ours).PR == 0.9


@pytest.mark.parametrize(("title", "expected"), [("lasher", 1), ("rgbt210", 1), ("gtot", 0.5), ("rgbt234", 0.5)])
def test_first_frame(title: str, expected: float) -> None:
    second = None if title in ("lasher", "rgbt210") else [BOX, BOX]
    assert made((title, "toolkit"), [BOX, BOX], [AWAY, BOX], second=second).PR == expected


def test_lasher_repairs_with_the_frame_before() -> None:
    bad = [500.0, 500, 0, 20]
    score = made(("lasher", "toolkit"), [BOX] * 4, [AWAY, bad, bad, [0.0, 0, 20, -1]])
    assert (score.PR, score.counts["repaired"], score.counts["non_positive"]) == (1, 3, 3)
    # rounding comes first: a width of 0.4 is none
    assert made(("lasher", "toolkit"), [BOX] * 2, [BOX, [500.0, 500, 0.4, 20]]).PR == 1
    assert made(("lasher", "plain"), [BOX] * 2, [BOX, [500.0, 500, 0.4, 20]]).PR == 0.5
    # nan is repaired by the original tool only
    assert made(("lasher", "toolkit"), [BOX] * 2, [BOX, NAN]).PR == 0.5
    assert made(("lasher", "matlab"), [BOX] * 2, [BOX, NAN]).PR == 1
    assert made(("rgbt210", "toolkit"), [BOX] * 2, [BOX, bad]).counts["repaired"] == 0


def test_repair_stays_in_its_sequence() -> None:
    bad = [0.0, 0, 0, 0]
    score = made(("lasher", "toolkit"), [[BOX, BOX], [AWAY, AWAY]], [[BOX, BOX], [bad, bad]])
    assert (score.PR, score.counts["repaired"]) == (1, 1)


@pytest.mark.parametrize("gone", [[0.0, 0, 0, 0], [0.0, 100, 20, 20], [100.0, -3, 20, 20]])
def test_absent_frames_of_lasher_hit_and_miss(gone: list[float]) -> None:
    score = made(("lasher", "toolkit"), [BOX, gone], [BOX, AWAY])
    assert (score.PR, score.NPR, score.SR) == (1, 1, pytest.approx(0.5 * 20 / 21))
    assert (score.frames, score.counts["absent"]) == (2, 1)


def test_absent_frames_of_visevent_miss_whatever_the_result() -> None:
    score = made(("visevent", "matlab"), [BOX] * 4, [BOX] * 4, absent=[False, True, False, True])
    assert (score.PR, score.SR, score.NPR) == (0.5, pytest.approx(0.5 * 20 / 21), None)


def test_absent_frames_of_a_folder_are_left_out() -> None:
    score = made(("folder", "plain"), [BOX, NAN, [1.0, 1, 0, 5], BOX], [BOX, BOX, BOX, AWAY])
    assert (score.PR, score.frames, score.counts["absent"]) == (0.5, 2, 2)


def test_a_sequence_without_any_compared_frame_counts_in_no_mean() -> None:
    score = made(("folder", "plain"), [[BOX], [NAN]], [[BOX], [BOX]])
    assert score.PR == 1
    assert np.isnan(score.per_sequence["s1"].PR)


@pytest.mark.parametrize("title", ["gtot", "rgbt210", "rgbt234"])
def test_length_mismatch(title: str) -> None:
    second = None if title == "rgbt210" else [BOX] * 4
    longer = made((title, "toolkit"), [BOX] * 4, [BOX] * 4 + [AWAY] * 4, second=second)
    assert (longer.PR, longer.frames, longer.counts["longer"]) == (1, 4, 1)
    shorter = made((title, "toolkit"), [BOX] * 4, [BOX] * 2, second=second)
    assert (shorter.PR, shorter.frames, shorter.counts["shorter"]) == (1, 2, 1)


@pytest.mark.parametrize(("title", "absent"), [("lasher", None), ("visevent", [False] * 4)])
def test_shorter_results_fail(title: str, absent: Any) -> None:
    assert made((title, "matlab"), [BOX] * 4, [BOX] * 5, absent=absent).frames == 4
    with pytest.raises(InputError, match="s0: 3 rows for 4 frames"):
        made((title, "matlab"), [BOX] * 4, [BOX] * 3, absent=absent)


@pytest.mark.parametrize(
    ("title", "name", "width"),
    [
        ("lasher", "plain", 21),
        ("lasher", "toolkit", 21),
        ("gtot", "plain", 20),
        ("rgbt234", "toolkit", 20),
        ("rgbt210", "toolkit", 20),
    ],
)
def test_corners_are_inclusive_for_lasher_only(title: str, name: str, width: float) -> None:
    ours = [100.0, 100, 120, 120]
    two = len(benchmark(title).labels) == 2
    perfect = made(
        (title, name),
        [BOX, [100.0, 100, width, width]],
        [ours] * 2,
        box_format="ltrb",
        second=[BOX, [100.0, 100, width, width]] if two else None,
    )
    assert perfect.success.values[-2] >= 0.5
    assert perfect.per_sequence["s0"].SR == perfect.SR
    worse = made(
        (title, name),
        [BOX, [100.0, 100, 41 - width, 41 - width]],
        [ours] * 2,
        box_format="ltrb",
        second=[BOX, [100.0, 100, 41 - width, 41 - width]] if two else None,
    )
    assert worse.SR < perfect.SR


def test_rounding() -> None:
    corner = [[99.5, 99.5, 120.4, 99.5, 120.4, 120.4, 99.5, 120.4]]
    # columns, half to even: 100, 100, 120, 120; rectangle: 99.5 -> 100, 20.9 -> 21; none
    for name, box in (
        ("toolkit", [100, 100, 20, 20]),
        ("matlab", [100, 100, 21, 21]),
        ("plain", [99.5, 99.5, 20.9, 20.9]),
    ):
        rules = preset(name, benchmark("gtot"))
        truth = [[float(value) for value in box]]
        assert made(rules, truth, corner, box_format="corner", second=truth).success.values[-2] == 1, name
    # the original tool leaves x, y, w, h as they are
    ours = [[100.4, 100.4, 20.4, 20.4]]
    assert made(("gtot", "matlab"), ours, ours, second=ours).success.values[-2] == 1
    assert made(("gtot", "toolkit"), ours, ours, second=ours).success.values[-2] == 0


def test_original_tools_leave_out_complete_failures() -> None:
    truth, ours = [[BOX] * 3] * 2, [[BOX] * 3, [AWAY] * 3]
    assert made(replace(preset("matlab", benchmark("lasher")), first_frame=False), truth, ours).PR == 1
    assert made(replace(preset("toolkit", benchmark("lasher")), first_frame=False), truth, ours).PR == 0.5


def test_both_definitions_of_npr() -> None:
    ours = [BOX] + [moved(4)] * 3 + [moved(5)]  # errors of 0.2 and 0.25 of the width
    truth = [BOX] * 5
    value = made(preset("plain", benchmark("lasher")), truth, ours)
    assert value.NPR == 0.8
    area = made(preset("plain", benchmark("lasher"), npr="area"), truth, ours)
    assert area.normalised is not None
    np.testing.assert_allclose(area.normalised.values[[0, 19, 20, 24, 25]], [0.2, 0.2, 0.8, 0.8, 1])
    assert area.NPR == pytest.approx(
        np.interp(np.linspace(0, 0.5, 50_001), area.normalised.thresholds, area.normalised.values).mean(), abs=1e-4
    )
    assert made(("rgbt234", "plain"), truth, ours, second=truth).NPR is None


def test_nan_and_huge_numbers_are_misses_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    score = made(
        ("rgbt234", "toolkit"), [BOX] * 3, [NAN, [np.inf, 0, 1, 1], [1e308, 1e308, 1e308, 1e308]], second=[BOX] * 3
    )
    assert (score.PR, score.SR, score.counts["nan_or_inf"]) == (0, 0, 2)
    assert not recwarn


def test_infinite_corners_are_counted_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    corners = [[100.0, 100, 120, 120], [np.inf, 100, np.inf, 120]]
    assert made(("rgbt210", "plain"), [BOX] * 2, corners, box_format="ltrb").counts["nan_or_inf"] == 1
    assert not recwarn


@pytest.mark.parametrize("box_format", ["ltwh", "ltrb", "xywh"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(4))
def test_every_number_that_is_none_is_counted(bad: float, column: int, box_format: str) -> None:
    row = [100.0, 100, 20, 20]
    row[column] = bad
    assert made(("rgbt210", "plain"), [BOX] * 2, [BOX, row], box_format=box_format).counts["nan_or_inf"] == 1


@pytest.mark.parametrize(
    ("rows", "precise", "counts"),
    [
        (21, 3, "longer"),  # a row for each frame: 0, 10, 20 are looked at
        (3, 3, "sparse"),  # a row for each annotated frame
        (15, 2, "shorter"),
    ],
)
def test_sparse_annotation(rows: int, precise: int, counts: str) -> None:
    boxes = np.array([BOX] * 3)
    truth = GroundTruth("a", (boxes, boxes), np.array([0, 10, 20]))
    ours = np.array([AWAY] * rows) if rows > 3 else boxes
    if rows > 3:
        ours[::10] = BOX
    score_ = score([truth], Results("t", {"a": ours}, "ltwh"), preset("plain", benchmark("vtuav-st")))
    assert (score_.PR, score_.frames) == (1, precise)
    assert score_.counts["sparse"] == (counts == "sparse")
    assert score_.counts["shorter"] == (counts == "shorter")


def test_attributes() -> None:
    truths = [
        GroundTruth("a", (np.array([BOX]),), np.arange(1), attributes=("NO", "PO")),
        GroundTruth("b", (np.array([BOX] * 3),), np.arange(3), attributes=("PO",)),
    ]
    results = Results("t", {"a": np.array([BOX]), "b": np.array([AWAY] * 3)}, "ltwh", missing=("c",))
    rules = replace(preset("toolkit", benchmark("lasher")), first_frame=False)
    found = score(truths, results, rules)
    assert {key: (each.n, each.PR) for key, each in found.attributes.items()} == {"NO": (1, 1), "PO": (2, 0.5)}
    pooled = score(truths, results, replace(rules, pooled=True))
    assert pooled.attributes["PO"].PR == 0.25
    assert found.counts["missing"] == 1
    assert "2 of the benchmark's 245 sequences are scored" in found.notes


numbers = st.integers(-5, 40).map(float) | st.floats(-5, 40)
boxes = st.lists(st.tuples(numbers, numbers, numbers, numbers).map(list), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(boxes, boxes), min_size=1, max_size=4), st.sampled_from(["lasher", "rgbt210", "gtot", "rgbt234"])
)
def test_as_one_frame_after_the_other(pairs: list[Any], title: str) -> None:
    """The same rules as plain loops: frame by frame, threshold by threshold."""
    truth = [list(each[0]) for each in pairs]
    ours = [(list(each[1]) * len(each[0]))[: len(each[0])] for each in pairs]
    rules = preset("toolkit", benchmark(title))
    found = made(replace(rules, best_of_two=False), truth, ours)
    per_sequence = []
    for each_truth, each_ours in zip(truth, ours, strict=True):
        rows = []
        before = None
        for index, (t, o) in enumerate(zip(each_truth, each_ours, strict=True)):
            o = [float(round(value)) for value in o]
            if index == 0 and rules.first_frame:
                o = t
            if index > 0 and rules.repair == "size" and (o[2] <= 0 or o[3] <= 0):
                o = before
            before = o
            rows.append(frame(t, o, rules))
        per_sequence.append(rows)
    groups = [[row for rows in per_sequence for row in rows]] if rules.pooled else per_sequence
    rates = [[np.mean([row[k] for row in group], axis=0) for k in range(2)] for group in groups]
    assert found.PR == pytest.approx(np.mean([rate[0] for rate in rates]), abs=1e-12)
    curve = np.mean([rate[1] for rate in rates], axis=0)
    assert found.SR == pytest.approx(np.trapezoid(curve, dx=0.05) if rules.area else curve.mean(), abs=1e-12)


def frame(t: list[float], o: list[float], rules: Protocol) -> tuple[bool, list[bool]]:
    if rules.absent == "hit and miss" and min(t) <= 0:
        return True, [False] * 21
    dx, dy = o[0] + o[2] / 2 - t[0] - t[2] / 2, o[1] + o[3] / 2 - t[1] - t[3] / 2
    error = float(np.sqrt(dx * dx + dy * dy))
    inter = max(0.0, min(o[0] + o[2], t[0] + t[2]) - max(o[0], t[0]))
    inter *= max(0.0, min(o[1] + o[3], t[1] + t[3]) - max(o[1], t[1]))
    union = o[2] * o[3] + t[2] * t[3] - inter
    overlap = min(inter / union, 1.0) if union != 0 else -1.0
    return (error < rules.pixels if rules.strict else error <= rules.pixels), [overlap > k / 20 for k in range(21)]
