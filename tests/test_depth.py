"""Depth to pictures: the numbers of docs/specs/patrack.md, section 3.1, and what is no depth."""

from fractions import Fraction
from statistics import median

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.depth import check_depth, colour_depth, colours_named, depth_picture
from duotrack.errors import InputError

JET = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_JET)[0]
"""(256, 3) in BGR order, as OpenCV hands it out."""
BLUE, RED = (128, 0, 0), (0, 0, 128)


def ramp(low: int = 600, high: int = 9000, *, holes: int = 7) -> np.ndarray:
    """A 16-bit ramp of 48x64 pixels, of which every so many is a hole."""
    depth = np.linspace(low, high, 48 * 64).round().astype(np.uint16)
    depth[::holes] = 0
    return depth.reshape(48, 64)


def levels(depth: np.ndarray) -> list[set[int]]:
    """The 8-bit level of each pixel by the specification's words in exact arithmetic; two where it is a tie."""
    values = [int(value) for value in depth.ravel()]
    cap = min(3 * Fraction(median(values)), Fraction(10_000))
    values = [int(cap) if value > cap else value for value in values]
    low, high = min(values), max(values)
    exact = [Fraction(255 * (value - low), max(high - low, 1)) for value in values]
    return [{round(x - Fraction(1, 10**9)), round(x + Fraction(1, 10**9))} for x in exact]


def assert_rendered(depth: np.ndarray) -> None:
    picture = colour_depth(depth).reshape(-1, 3).tolist()
    for pixel, (got, allowed) in enumerate(zip(picture, levels(depth), strict=True)):
        assert got in [JET[level].tolist() for level in allowed], (pixel, got, allowed)


@pytest.mark.parametrize(
    "depth",
    [ramp(), ramp(600, 65535), ramp(9000, 20_000), ramp(100, 400, holes=2), ramp(500, 40_000, holes=3)],
    ids=["near", "full range", "beyond 10 m", "half holes", "capped by the median"],
)
def test_a_ramp_with_holes(depth):
    assert_rendered(depth)


def test_numbers_by_hand():
    """Median 1001 (holes count), cap 3003; then 0 .. 3003 to 0 .. 255."""
    depth = np.array([[0, 500, 1001, 3003, 60_000]], np.uint16)
    expected = [0, 42, 85, 255, 255]  # 42.46, 85.0
    assert colour_depth(depth)[0].tolist() == JET[expected].tolist()
    assert colour_depth(depth)[0, 0].tolist() == list(BLUE)
    assert colour_depth(depth)[0, 4].tolist() == list(RED)


def test_a_cap_with_a_fraction_is_cut():
    """Median 33.5, cap 100.5: the pixels above it become 100, the greatest value that is left."""
    depth = np.array([[33, 34, 101, 0]], np.uint16)
    assert colour_depth(depth)[0].tolist() == JET[[84, 87, 255, 0]].tolist()  # 33 and 34 of 100: 84.15, 86.7


def test_ten_metres_are_the_end():
    depth = np.array([[5000, 9000, 10_000, 30_000]], np.uint16)
    assert colour_depth(depth)[0].tolist() == JET[[0, 204, 255, 255]].tolist()


def test_channel_order_is_the_map_own_unless_asked():
    depth = ramp()
    bgr, rgb = colour_depth(depth), colour_depth(depth, colours="rgb")
    np.testing.assert_array_equal(bgr[:, :, ::-1], rgb)
    assert bgr[0, 0].tolist() == list(BLUE), "a hole is blue in the order that OpenCV gives"
    assert colours_named("rgb", "depth") == "rgb"
    assert [colours_named("bgr", kind) for kind in (None, "thermal", "depth", "event")] == ["bgr"] * 4
    with pytest.raises(InputError, match="--depth-colours rgb is for rendered depth, but auxiliary frames are event"):
        colours_named("rgb", "event")
    with pytest.raises(InputError, match="but there are no auxiliary frames; leave it out"):
        colours_named("rgb", None)
    with pytest.raises(InputError, match="depth colours 'rbg' are neither bgr nor rgb; did you mean"):
        colours_named("rbg", "depth")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=40))
def test_any_frame(values):
    depth = np.array([values], np.uint16)
    before = depth.copy()
    assert_rendered(depth)
    np.testing.assert_array_equal(depth, before)


def test_no_depth_at_all_is_no_picture():
    picture, remark = depth_picture(np.zeros((4, 5), np.uint16), "aux d")
    assert picture is None
    assert remark == "nothing was measured (all zero), the frame counts as missing"


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (ramp(), None),
        (np.array([[0, 0, 0, 700, 900]], np.uint16), "more than half of the frame are holes"),
        (np.array([[0, 12_000, 15_000, 20_000]], np.uint16), "half of the frame is beyond 10000 mm"),
    ],
)
def test_remarks(depth, words):
    picture, remark = depth_picture(depth, "aux d")
    assert picture is not None
    assert picture.shape == (*depth.shape, 3)
    assert remark is None if words is None else words in str(remark)


def test_mostly_holes_leave_an_even_picture():
    picture, _ = depth_picture(np.array([[0, 0, 0, 700, 900]], np.uint16), "aux d")
    assert picture is not None
    assert (picture == BLUE).all()


WRONG = {
    "metres": (np.full((4, 4), 1.5, np.float32), "pixels are float32, depth comes as 16-bit integers in millimetres"),
    "whole metres": (np.full((4, 4), 3, np.uint16), "no pixel is farther than 3, depth comes as .* metres"),
    "8 bits": (np.full((4, 4), 90, np.uint8), "pixels have 8 bits, depth comes as 16-bit integers in millimetres"),
    "a picture": (np.zeros((4, 4, 3), np.uint8), "pixels have 8 bits"),
    "16-bit colour": (np.zeros((4, 4, 3), np.uint16), "pixels are 3 x uint16, .* one channel"),
    "signed": (np.zeros((4, 4), np.int32), "pixels are 1 x int32"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_depth_is_said_in_one_line(kind):
    raw, words = WRONG[kind]
    with pytest.raises(InputError, match=f"^aux d: {words}") as caught:
        depth_picture(raw, "aux d")
    assert "\n" not in str(caught.value)


def test_a_nearly_empty_frame_with_small_noise_is_no_metres():
    depth = np.zeros((4, 4), np.uint16)
    depth[0, 0] = 7
    assert check_depth(depth[:, :, None], "d").shape == (4, 4)
