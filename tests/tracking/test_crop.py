"""Crops against the reference vectors, and what the reference leaves open."""

import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.errors import InputError
from duotrack.tracking import crop as crops
from duotrack.tracking.crop import box_in_crop, crop_square, cut_square, square_around
from reference import golden_file

GOLDEN = golden_file("ckd_f_crop")
CASES = [(kind, index) for kind in ("search", "template") for index in range(len(GOLDEN["boxes"]))]
FORM = {"search": (4.0, 256), "template": (2.0, 128)}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 255, (360, 480, 3)).astype(np.uint8)


@pytest.mark.parametrize(("kind", "index"), CASES)
def test_crop_is_bit_equal_with_the_reference(image, kind, index):
    factor, size = FORM[kind]
    crop = crop_square(image, GOLDEN["boxes"][index], factor, size, padding=True)
    assert crop.square.size == GOLDEN[f"{kind}_crop_size"][index]
    assert (crop.square.x, crop.square.y) == tuple(GOLDEN[f"{kind}_origin_xy"][index])
    assert crop.square.pads(360, 480) == tuple(GOLDEN[f"{kind}_pads_l_r_t_b"][index])
    assert crop.resize_factor == pytest.approx(GOLDEN[f"{kind}_resize_factor"][index], rel=1e-12)
    assert zlib.crc32(crop.image.tobytes()) == GOLDEN[f"{kind}_crc32"][index]
    assert zlib.crc32(cut_square(image, crop.square).tobytes()) == GOLDEN[f"{kind}_unresized_crc32"][index]
    assert crop.padding is not None
    assert crop.padding.mean() == GOLDEN[f"{kind}_attmask_mean"][index]


def test_whole_crops_equal_the_reference(image):
    boxes = GOLDEN["boxes"]
    np.testing.assert_array_equal(crop_square(image, boxes[0], 4, 256).image, GOLDEN["search0_full"])
    np.testing.assert_array_equal(crop_square(image, boxes[7], 2, 128).image, GOLDEN["template7_full"])


def test_padding_is_computed_only_when_asked(image):
    assert crop_square(image, (10, 10, 20, 20), 4, 64).padding is None


@settings(max_examples=60, deadline=None)
@given(
    box=st.tuples(st.floats(-60, 130), st.floats(-60, 110), st.floats(0.5, 150), st.floats(0.5, 150)),
    size=st.sampled_from([16, 37, 128]),
)
def test_padding_equals_the_resized_mask(box, size):
    """The short way to the mask gives what the specification's resizing of a whole mask gives."""
    image = np.zeros((80, 100, 3), np.uint8)
    crop = crop_square(image, box, 2, size, padding=True)
    left, right, top, bottom = crop.square.pads(80, 100)
    side = crop.square.size
    mask = np.ones((side, side), np.float32)
    mask[top : max(top, side - bottom), left : max(left, side - right)] = 0
    np.testing.assert_array_equal(crop.padding, cv2.resize(mask, (size, size)) != 0)


@pytest.mark.parametrize(
    "box",
    [
        (-500, 100, 20, 20),
        (900, 100, 20, 20),
        (100, -500, 20, 20),
        (100, 900, 20, 20),
        (1e18, 0, 5, 5),
        (-1e300, 0, 5, 5),
    ],
)
def test_crop_wholly_outside_is_black(image, box):
    crop = crop_square(image, box, 4, 64, padding=True)
    assert crop.image.shape == (64, 64, 3)
    assert not crop.image.any()
    assert crop.padding is not None
    assert crop.padding.all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (2, 2, 3)])
def test_tiny_images_are_cropped(shape):
    crop = crop_square(np.full(shape, 200, np.uint8), (0, 0, shape[1], shape[0]), 4, 32)
    assert crop.image.shape == (32, 32, 3)


def test_huge_box_takes_no_memory(image):
    tracemalloc.start()
    crop = crop_square(image, (-1e7, -1e7, 2e7, 2e7), 4, 128, padding=True)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert crop.square.size == 80_000_000
    assert most < 20e6


def test_large_crop_is_sampled_at_the_same_points(image, monkeypatch):
    """Beyond `EXACT_SIDE` the pixels may differ by rounding only, on a smooth picture."""
    smooth = cv2.GaussianBlur(image, (0, 0), 12)
    box = (100, 80, 300, 200)
    exact = crop_square(smooth, box, 4, 128).image.astype(int)
    monkeypatch.setattr(crops, "EXACT_SIDE", 100)
    sampled = crop_square(smooth, box, 4, 128).image.astype(int)
    inside = exact.sum(2) > 0
    assert np.abs(exact - sampled)[inside].mean() < 2
    assert (sampled.sum(2) > 0)[~inside].mean() < 0.01


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 5), (0, 0, 5, -1), (np.nan, 0, 5, 5), (0, 0, np.inf, 5), (0, 0, 5), (0, 0, 1e300, 1e300)]
)
def test_unusable_boxes_are_refused(box):
    with pytest.raises(InputError, match="box"):
        square_around(box, 4)


def test_image_is_neither_changed_nor_shared(image):
    before = image.copy()
    crop = crop_square(image, (200, 150, 16, 16), 4, 64)
    crop.image[:] = 0
    np.testing.assert_array_equal(image, before)


def test_a_crop_is_written_where_it_is_wanted(image):
    out = np.empty((2, 64, 64, 3), np.uint8)
    for box in ((200, 150, 16, 16), (-5, 3, 40, 30)):  # inside and padded
        crop = crop_square(image, box, 4, 64, out=out[1])
        np.testing.assert_array_equal(out[1], crop_square(image, box, 4, 64).image)
        assert np.shares_memory(crop.image, out)


def test_mirrored_and_reversed_views_are_read(image):
    view = image[::-1, ::-1, ::-1]
    expected = crop_square(np.ascontiguousarray(view), (200, 150, 60, 40), 4, 64)
    np.testing.assert_array_equal(crop_square(view, (200, 150, 60, 40), 4, 64).image, expected.image)


def test_boxes_in_training_crops_equal_the_reference():
    jittered, truth = GOLDEN["jittered_boxes"], GOLDEN["gt_boxes"]
    factors = [256 / square_around(box, 4).size for box in jittered]
    mapped = [
        box_in_crop(box, around, factor, 256) for box, around, factor in zip(truth, jittered, factors, strict=True)
    ]
    np.testing.assert_allclose(mapped, GOLDEN["gt_in_crop_normalised_xywh"], atol=1e-6)


@given(
    box=st.tuples(*[st.floats(-100, 500)] * 2, *[st.floats(1, 200)] * 2),
    shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_boxes_in_crops_keep_shape_and_follow_shifts(box, shift):
    around = np.array([*np.add(box[:2], shift), *box[2:]])
    factor = 256 / square_around(around, 4).size
    mapped = box_in_crop(box, around, factor, 256)
    np.testing.assert_allclose(mapped[2:] * 256 / factor, box[2:], rtol=1e-9)
    centred = box_in_crop(around, around, factor, 256)
    np.testing.assert_allclose((mapped - centred)[:2] * 256 / factor, np.negative(shift), atol=1e-6)
    np.testing.assert_allclose(centred[:2] + centred[2:] / 2, 127.5 / 256)
