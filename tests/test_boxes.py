"""Box algebra: reference values, laws, and the same answers for arrays and tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duotrack import boxes as b
from reference import golden_file

coordinate = st.floats(-1000, 1000)
side = st.floats(0.01, 1000)
box = st.tuples(coordinate, coordinate, side, side).map(np.array)
PAIRS = [(b.xywh_to_xyxy, b.xyxy_to_xywh), (b.xywh_to_cxcywh, b.cxcywh_to_xywh)]


def test_clipping_equals_the_reference():
    golden = golden_file("ckd_f_crop")
    np.testing.assert_allclose(b.clip_xywh(golden["clip_in"], 360, 480), golden["clip_out_H360_W480_m10"], atol=1e-5)


def test_iou_equals_the_reference():
    golden = golden_file("ckd_g_targets")
    predicted = b.cxcywh_to_xyxy(golden["pred_cxcywh"])
    truth = b.xywh_to_xyxy(golden["heatmap_boxes_xywh"]).clip(0, 1)
    np.testing.assert_allclose(b.iou_xyxy(predicted, truth), golden["iou"], atol=1e-5)
    np.testing.assert_allclose(1 - b.giou_xyxy(predicted, truth).mean(), golden["giou_loss"], atol=1e-5)


@pytest.mark.parametrize(("there", "back"), PAIRS)
@given(box)
def test_conversions_are_undone(there, back, one):
    np.testing.assert_allclose(back(there(one)), one, atol=1e-9)


@given(box)
def test_centre_form_to_corners_is_the_way_round(one):
    np.testing.assert_allclose(b.cxcywh_to_xyxy(b.xywh_to_cxcywh(one)), b.xywh_to_xyxy(one), atol=1e-9)


@given(box, box)
def test_iou_laws(one, other):
    iou = b.iou_xywh(one, other)
    assert 0 <= iou <= 1 + 1e-9
    assert iou == pytest.approx(b.iou_xywh(other, one))
    assert b.iou_xywh(one, one) == pytest.approx(1)
    giou = b.giou_xyxy(b.xywh_to_xyxy(one), b.xywh_to_xyxy(other))
    assert -1 - 1e-9 <= giou <= iou + 1e-9


@given(box, box, coordinate, st.floats(0.1, 10))
def test_iou_does_not_see_shift_and_scale(one, other, shift, scale):
    moved = [np.array([x + shift, y - shift, w, h]) * scale for x, y, w, h in (one, other)]
    assert b.iou_xywh(*moved) == pytest.approx(b.iou_xywh(one, other), abs=1e-6)


any_number = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 10.0, 630.0])


@pytest.mark.filterwarnings("ignore:invalid value")
@given(st.tuples(*[any_number] * 4).map(np.array), st.sampled_from([10.0, 10, np.int64(10), np.float32(10)]))
def test_one_box_is_to_the_bit_what_it_is_among_many(one, margin):
    functions = [b.xywh_to_xyxy, b.xyxy_to_xywh, b.xywh_to_cxcywh, b.cxcywh_to_xywh, b.cxcywh_to_xyxy]
    with np.errstate(all="ignore"):
        for each in (*functions, lambda box: b.clip_xywh(box, 480, 640, margin)):
            alone, among = each(one), each(np.stack([one, one]))[1]
            assert alone.dtype == among.dtype == np.float64
            nothing = np.isnan(among)
            assert np.array_equal(np.isnan(alone), nothing)
            assert alone[~nothing].tobytes() == among[~nothing].tobytes()


def test_iou_of_empty_boxes_is_zero():
    assert b.iou_xywh(np.zeros(4), np.zeros(4)) == 0
    assert b.iou_xywh(np.zeros((2, 4)), np.zeros((2, 4))).tolist() == [0, 0]


@given(box, st.integers(10, 2000), st.integers(10, 2000))
def test_clipped_boxes_keep_a_margin_inside(one, height, width):
    x, y, w, h = b.clip_xywh(one, height, width)
    assert 0 <= x <= width - 10
    assert 0 <= y <= height - 10
    assert w >= 10
    assert h >= 10
    assert x + w <= width + 1e-6
    assert y + h <= height + 1e-6


@given(box, st.integers(10, 2000), st.integers(10, 2000))
def test_clipping_twice_is_clipping_once(one, height, width):
    once = b.clip_xywh(one, height, width)
    np.testing.assert_allclose(b.clip_xywh(once, height, width), once, atol=1e-9)


@given(st.floats(0, 300), st.floats(0, 200), st.floats(10, 100), st.floats(10, 100))
def test_boxes_inside_are_not_clipped(x, y, w, h):
    np.testing.assert_allclose(b.clip_xywh(np.array([x, y, w, h]), 300, 400), [x, y, w, h], atol=1e-9)


ONE = [b.xywh_to_xyxy, b.xyxy_to_xywh, b.xywh_to_cxcywh, b.cxcywh_to_xywh, b.cxcywh_to_xyxy]
TWO = [b.iou_xyxy, b.iou_xywh, b.giou_xyxy]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", [*ONE, lambda x: b.clip_xywh(x, 300, 400)])
def test_tensors_and_arrays_agree_on_one_box(function, dtype):
    array = np.random.default_rng(0).uniform(-50, 500, (2, 3, 4)).astype(dtype)
    expected, got = function(array), function(torch.from_numpy(array))
    assert isinstance(expected, np.ndarray)
    assert expected.shape == array.shape
    assert expected.dtype == dtype
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == torch.from_numpy(array).dtype


@pytest.mark.parametrize("function", TWO)
def test_tensors_and_arrays_agree_on_two_boxes(function):
    one, other = (np.random.default_rng(seed).uniform(1, 50, (2, 3, 4)) for seed in (0, 1))
    one[..., 2:] += 50
    other[..., 2:] += 50
    got = function(torch.from_numpy(one), torch.from_numpy(other))
    assert got.shape == (2, 3)
    np.testing.assert_allclose(got, function(one, other), rtol=1e-12)


def test_iou_and_giou_have_gradients():
    one = torch.tensor([[10.0, 10, 30, 30]], requires_grad=True)
    (1 - b.giou_xyxy(one, torch.tensor([[15.0, 12, 33, 28]]))).sum().backward()
    assert one.grad is not None
    assert one.grad.abs().sum() > 0


@pytest.mark.parametrize("function", [*ONE, lambda x: b.clip_xywh(x, 30, 40)])
def test_input_is_left_alone(function):
    array = np.array([[-5.0, 3.0, 60.0, 8.0]])
    function(array)
    assert array.tolist() == [[-5, 3, 60, 8]]
