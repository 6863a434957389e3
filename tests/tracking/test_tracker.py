"""The online tracker with a scripted network: where it looks, what it maps back, what it says, what it refuses."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from duotrack.errors import InputError
from duotrack.models.outputs import HeadMaps
from duotrack.models.zoo import MODELS
from duotrack.thermal16 import Thermal16Scaler
from duotrack.tracking.batch import MultiTracker
from duotrack.tracking.crop import crop_square
from duotrack.tracking.preprocess import to_tensor
from duotrack.tracking.state import StateRule
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY, ScriptedNet

BOX = (60.0, 40.0, 20.0, 20.0)


def frame(seed: int = 0, shape: tuple[int, ...] = (120, 160, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def tracker(net: ScriptedNet | None = None, **options: object) -> Tracker:
    return Tracker(net or ScriptedNet(), geometry=GEOMETRY, **options)  # type: ignore[arg-type]


def test_boxes_are_mapped_back_exactly():
    """Search side 80 px on a 4x4 grid: a cell is 20 px, cell (2, 2) is the centre of the crop."""
    net = ScriptedNet(answers=[(2, 3, 0.0, 0.0), (1, 2, 0.5, 0.25), (2, 2, 0.0, 0.0)], size=(0.5, 0.25))
    t = tracker(net)
    first = t.init(frame(), frame(1), BOX)
    assert first.box.tolist() == list(BOX)
    assert (first.score, first.state, first.available) == (1.0, "tracking", ("rgb", "aux"))
    result = t.update(frame(2), frame(3))
    np.testing.assert_allclose(
        result.box, [70 + 20 - 20, 50 - 10, 40, 20]
    )  # centre 20 px right; size 0.5 and 0.25 of 80
    assert result.box.dtype == np.float64
    side = np.ceil(np.sqrt(40 * 20) * 4)
    cell = side / 4
    result = t.update(frame(2), frame(3))
    centre = np.array([90 + 0.5 * cell, 50 - 0.75 * cell])
    np.testing.assert_allclose(result.box[:2] + result.box[2:] / 2, centre)
    np.testing.assert_allclose(result.box[2:], [side / 2, side / 4])


def test_the_network_sees_the_specified_crops():
    net = ScriptedNet()
    t = tracker(net)
    rgb, aux, rgb_next, aux_next = (frame(i) for i in range(4))
    t.init(rgb, aux, BOX)
    t.update(rgb_next, aux_next)
    for name, images, factor, size in (("template", (rgb, aux), 2, 32), ("search", (rgb_next, aux_next), 4, 64)):
        for given, image in zip(net.calls[0][name], images, strict=True):
            torch.testing.assert_close(given, to_tensor(crop_square(image, BOX, factor, size).image))


def test_boxes_are_clipped_to_the_frame():
    net = ScriptedNet(answers=[(2, 0, 0.0, 0.0)] * 20)
    t = tracker(net)
    t.init(frame(), frame(), BOX)
    for _ in range(20):
        x, _, w, h = t.update(frame(), frame()).box
        assert x >= 0
        assert x + w <= 160
        assert min(w, h) >= 10
    assert x + w == 10  # the specified margin


def test_init_again_starts_anew():
    net = ScriptedNet(scores=[0.1] * 2 + [0.9] * 9)
    t = tracker(net, rule=StateRule(lost_after=2))
    t.init(frame(), frame(), BOX)
    assert [t.update(frame(), frame()).state for _ in range(2)] == ["uncertain", "lost"]
    assert t.init(frame(5, (90, 90, 3)), None, (10, 10, 30, 30)).state == "tracking"
    result = t.update(frame(5, (90, 90, 3)), None)
    assert result.state == "tracking"
    np.testing.assert_allclose(result.box, [10, 10, 30, 30])


def test_a_moved_target_is_looked_for_around_the_new_box_and_not_lost_any_more():
    net = ScriptedNet(scores=[0.01] * 4)
    t = tracker(net, rule=StateRule(lost_after=2))
    t.init(frame(), frame(1), BOX)
    states = [t.update(frame(2), frame(3)).state for _ in range(3)]
    t.move((20, 60, 30, 30))
    assert t.update(None, None).box.tolist() == [20, 60, 30, 30]
    t.move(torch.tensor((20.0, 60.0, 30.0, 30.0), requires_grad=True))
    found = t.update(frame(2), frame(3))
    expected = to_tensor(crop_square(frame(2), (20, 60, 30, 30), 4, 64).image)
    torch.testing.assert_close(net.calls[-1]["search"][0], expected)
    torch.testing.assert_close(net.calls[-1]["template"][0], net.calls[0]["template"][0])
    assert states[-1] == "lost"
    assert found.state != "lost"
    held = t.update(None, None)
    np.testing.assert_allclose(held.box, found.box)
    with pytest.raises(InputError, match="box"):
        t.move((20, 60, 0, 30))
    with pytest.raises(InputError, match="before init"):
        tracker().move(BOX)


def test_score_is_calibrated_and_drives_the_state():
    net = ScriptedNet(scores=[0.9, 0.3, 0.1, 0.1, 0.9, 0.9])
    t = tracker(net, rule=StateRule(lost_after=2, recover_after=2))
    t.init(frame(), frame(), BOX)
    results = [t.update(frame(), frame()) for _ in range(6)]
    assert [r.state for r in results] == ["tracking", "uncertain", "uncertain", "lost", "lost", "tracking"]
    np.testing.assert_allclose([r.score for r in results], net.scores, atol=1e-6)
    strict = tracker(ScriptedNet(scores=[0.5]), calibration=(1.0, -3.0))
    strict.init(frame(), frame(), BOX)
    assert strict.update(frame(), frame()).score == pytest.approx(1 / (1 + np.exp(3)))


@pytest.mark.parametrize("gone", ["rgb", "aux"])
def test_one_modality_missing_is_handed_on_as_none(gone):
    net = ScriptedNet()
    t = tracker(net)
    t.init(frame(), frame(1), BOX)
    images = {"rgb": frame(), "aux": frame(1)} | {gone: None}
    result = t.update(**images)
    kept = ({"rgb", "aux"} - {gone}).pop()
    assert result.available == (kept,)
    assert net.calls[0]["available"] == (kept,)
    assert [s is None for s in net.calls[0]["search"]] == [images[m] is None for m in ("rgb", "aux")]
    assert all(z is not None for z in net.calls[0]["template"])
    assert result.state == "tracking"


def test_a_modality_that_comes_later_has_no_template():
    net = ScriptedNet()
    t = tracker(net)
    t.init(frame(), None, BOX)
    t.update(frame(), frame(1))
    assert [z is None for z in net.calls[0]["template"]] == [False, True]
    assert all(s is not None for s in net.calls[0]["search"])


def test_both_missing_hold_the_box_then_lose_it_then_recover():
    net = ScriptedNet(answers=[(2, 3, 0.0, 0.0)])
    t = tracker(net, rule=StateRule(lost_after=3, recover_after=2))
    t.init(frame(), frame(), BOX)
    seen = t.update(frame(), frame())
    blind = [t.update(None, None) for _ in range(4)]
    assert [r.state for r in blind] == ["uncertain", "uncertain", "lost", "lost"]
    for result in blind:
        assert (result.score, result.available) == (0.0, ())
        np.testing.assert_array_equal(result.box, seen.box)
    assert len(net.calls) == 1
    assert [t.update(frame(), frame()).state for _ in range(2)] == ["lost", "tracking"]


def test_results_are_the_callers_own():
    t = tracker()
    box = np.array(BOX)
    first = t.init(frame(), frame(), box)
    first.box[:] = 0
    second = t.update(frame(), frame())
    second.box[:] = -1
    np.testing.assert_allclose(t.update(None, None).box, BOX)
    np.testing.assert_array_equal(box, BOX)


def test_input_is_never_changed():
    t, rgb, aux = tracker(), frame(), frame(1, (120, 160))
    before = rgb.copy(), aux.copy()
    rgb.flags.writeable = aux.flags.writeable = False
    t.init(rgb, aux, BOX)
    t.update(rgb, aux)
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(aux, before[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_answers_nan_holds_the_box(value, caplog):
    net = ScriptedNet(scores=[0.9, value, value, 0.9])
    t = tracker(net)
    t.init(frame(), frame(), BOX)
    results = [t.update(frame(), frame()) for _ in range(4)]
    for result in results[1:3]:
        assert result.score == 0
        np.testing.assert_array_equal(result.box, results[0].box)
    assert sum("NaN" in record.message for record in caplog.records) == 1
    assert np.isfinite(results[3].box).all()


CONVERTED = [
    ((120, 160), np.uint8, "grey"),
    ((120, 160, 1), np.uint8, "grey"),
    ((120, 160, 4), np.uint8, "transparency"),
    ((120, 160), np.uint16, "16-bit grey"),
    ((120, 160, 3), np.uint16, "16-bit colour"),
]


@pytest.mark.parametrize(("shape", "dtype", "words"), CONVERTED)
def test_other_kinds_of_image_are_converted_and_said_once(shape, dtype, words, caplog):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    t = tracker()
    with caplog.at_level(logging.WARNING):
        t.init(frame(), image, BOX)
        for _ in range(3):
            t.update(frame(), image)
    assert sum(words in record.message for record in caplog.records) == 1


def test_grey_is_repeated_and_16_bits_are_scaled_as_in_a_video_source():
    net = ScriptedNet()
    t = tracker(net)
    grey = frame(1, (120, 160))
    t.init(frame(), grey, BOX)
    t.update(frame(), grey)
    expected = to_tensor(crop_square(np.stack([grey] * 3, axis=2), BOX, 2, 32).image)
    torch.testing.assert_close(net.calls[0]["template"][1], expected)
    deep = np.full((120, 160), 20000, np.uint16)
    deep[:60] = 21000
    later = np.full((120, 160), 20500, np.uint16)
    t.init(None, deep, BOX)
    box = t.update(None, deep).box
    t.update(None, later)
    scaler = Thermal16Scaler()
    levels = [scaler(image) for image in (deep, deep, later)][-1]
    expected = to_tensor(crop_square(np.repeat(levels[:, :, None], 3, axis=2), box, 4, 64).image)
    torch.testing.assert_close(net.calls[2]["search"][1], expected)


BAD_IMAGES = [
    (frame().astype(np.float32), "float32"),
    (frame().astype(np.int64), "int64"),
    (frame(0, (120, 160, 2)), "shape"),
    (frame(0, (2, 120, 160, 3)), "shape"),
    (np.zeros((0, 160, 3), np.uint8), "shape"),
    (frame().tolist(), "list"),
    ("frame.png", "str"),
    (torch.zeros(3, 120, 160), "Tensor"),
    (frame(0, (60, 80, 3)), "80x60"),
]


@pytest.mark.parametrize(("image", "words"), BAD_IMAGES)
@pytest.mark.parametrize("place", [0, 1])
def test_images_that_cannot_be_used_are_refused(image, words, place):
    pair = [frame(), frame()]
    t = tracker()
    t.init(*pair, BOX)
    pair[place] = image
    with pytest.raises(InputError, match=words):
        t.update(*pair)
    with pytest.raises(InputError, match=words):
        tracker().init(*pair, BOX)
    assert t.update(frame(), frame()).state == "tracking"


BAD_BOXES = [
    ((200, 40, 20, 20), "outside"),
    ((-30, 40, 20, 20), "outside"),
    ((60, 120, 20, 20), "outside"),
    ((60, 40, 0, 20), "no size"),
    ((60, 40, 20, -5), "no size"),
    ((np.nan, 40, 20, 20), "finite"),
    ((60, 40, np.inf, 20), "finite"),
    ((60, 40, 20), "four numbers"),
    (((60, 40, 20, 20), (1, 1, 5, 5)), "four numbers"),
    ("60,40,20,20", "four numbers"),
    (None, "got None"),
    ((10**400, 1, 1, 1), "four numbers"),
    ((-1e6, -1e6, 2e6, 2e6), "far larger"),
]


@pytest.mark.parametrize(("box", "words"), BAD_BOXES)
def test_boxes_that_cannot_be_tracked_are_refused(box, words):
    with pytest.raises(InputError, match=words) as caught:
        tracker().init(frame(), frame(), box)
    assert "160x120" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_boxes_over_the_edge_are_tracked():
    t = tracker()
    t.init(frame(), frame(), (-5, 100, 20, 40))
    assert np.isfinite(t.update(frame(), frame()).box).all()


def test_wrong_order_and_wrong_size():
    t = tracker()
    with pytest.raises(InputError, match="before init"):
        t.update(frame(), frame())
    with pytest.raises(InputError, match="both images are missing"):
        t.init(None, None, BOX)
    with pytest.raises(InputError, match="before init"):
        t.update(frame(), frame())
    t.init(frame(), frame(), BOX)
    small = frame(0, (60, 80, 3))
    with pytest.raises(InputError, match=r"80x60.*160x120"):
        t.update(small, small)


def test_several_objects_are_those_of_single_trackers():
    boxes = [BOX, (20.0, 30.0, 12.0, 30.0), (100.0, 10.0, 40.0, 20.0)]
    single = []
    for box in boxes:
        t = tracker()
        single.append([t.init(frame(), frame(1), box), t.update(frame(2), None), t.update(None, None)])
    net = ScriptedNet()
    many = MultiTracker(tracker(net))
    with pytest.raises(InputError, match="before init"):
        many.update(frame(), frame())
    rows = [many.init(frame(), frame(1), boxes), many.update(frame(2), None), many.update(None, None)]
    for row, expected in zip(rows, zip(*single, strict=True), strict=True):
        for got, want in zip(row, expected, strict=True):
            np.testing.assert_array_equal(got.box, want.box)
            assert (got.score, got.state, got.available) == (want.score, want.state, want.available)
    assert len(net.calls) == len(boxes)


def test_several_objects_need_a_box_and_keep_their_own_when_refused():
    many = MultiTracker(tracker())
    with pytest.raises(InputError, match="no box"):
        many.init(frame(), frame(), [])
    many.init(frame(), frame(), [BOX])
    with pytest.raises(InputError, match="no size"):
        many.init(frame(), frame(), [BOX, (0, 0, 0, 0)])
    assert len(many.update(frame(), frame())) == 1


def test_clones_share_the_network_and_nothing_else():
    net = ScriptedNet()
    t = tracker(net, calibration=(2.0, 1.0), rule=StateRule(lost_after=7), device="cpu")
    t.init(frame(), frame(), BOX)
    other = t.clone()
    assert other.net is net
    assert (other.calibration, other.rule, other.device) == (t.calibration, t.rule, t.device)
    with pytest.raises(InputError, match="before init"):
        other.update(frame(), frame())


def test_a_windowed_score_counts_how_far_off_the_cell_is():
    """As PATrack's release reports it (docs/specs/patrack.md, section 4)."""
    scores = []
    for windowed in (False, True):
        t = tracker(ScriptedNet(answers=[(2, 3, 0.0, 0.0)], scores=[0.8]), windowed_score=windowed).clone()
        t.init(frame(), frame(1), BOX)
        scores.append(t.update(frame(2), frame(3)).score)
    hann = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, 5) / 5))
    assert scores == pytest.approx([0.8, 0.8 * hann[2] * hann[3]], abs=1e-6)
    assert MODELS["patrack-base"].windowed_score


@pytest.mark.parametrize(("power", "row"), [(1.0, 2), (0.5, 2), (0.0, 0)])
def test_the_window_has_a_power(power: float, row: int):
    """A peak of 0.8 in a corner against 0.6 in the middle: how much nearness counts is the geometry's."""
    t = Tracker(ScriptedNet(), geometry=replace(GEOMETRY, window=power))  # type: ignore[arg-type]
    score = torch.zeros(1, 1, 4, 4)
    score[0, 0, 0, 0], score[0, 0, 2, 2] = 0.8, 0.6
    flat = torch.full((1, 2, 4, 4), 0.25)
    [peak] = t.peaks(HeadMaps(score_map=score, size_map=flat, offset_map=0 * flat))
    assert round(float(peak.box[1]) * 4) == row
    hann = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, 5) / 5))
    weight = (hann[row] * hann[row]) ** power
    assert peak.windowed == pytest.approx(peak.score * weight, abs=1e-6)


def test_published_models_keep_the_whole_window():
    assert {spec.geometry.window for name, spec in MODELS.items() if name != "ckd-tiny"} == {1.0}
