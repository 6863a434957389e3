"""What networks see of a frame; the device's crop against OpenCV's, computed on the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.tracking.crop import EXACT_SIDE, crop_square, square_around
from duotrack.tracking.preprocess import to_tensor
from duotrack.tracking.view import sample_square, upload, view

CPU = torch.device("cpu")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape).astype(np.uint8)


FRAME = noise(80, 100, 3)


@pytest.mark.parametrize("count", [1, 2])
def test_a_view_is_the_normalised_crop_of_each_image(count):
    images = [FRAME, FRAME[:, ::-1, ::-1]][:count]
    box = (-5, 30, 20, 14)
    seen, factor = view(images, box, 4, 64, CPU)
    assert seen.shape == (count, 3, 64, 64)
    for image, one in zip(images, seen, strict=True):
        crop = crop_square(image, box, 4, 64)
        assert factor == crop.resize_factor
        assert torch.equal(one[None], to_tensor(crop.image))


@settings(max_examples=150, deadline=None)
@given(
    box=st.tuples(st.floats(-60, 130), st.floats(-60, 110), st.floats(0.5, 150), st.floats(0.5, 150)),
    factor=st.sampled_from([2.0, 4.0]),
    size=st.sampled_from([16, 37, 96]),
)
def test_the_device_crop_is_opencvs_within_one_grey_level(box, factor, size):
    frames = np.stack([FRAME, FRAME[::-1]])
    square = square_around(box, factor)
    sampled = sample_square(torch.from_numpy(frames), square, size)
    for frame, crop in zip(frames, sampled, strict=True):
        expected = crop_square(frame, box, factor, size).image
        assert np.abs(crop.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_the_device_crop_is_mostly_equal_to_opencvs():
    """Within one level everywhere, and not shifted by a part of a pixel: that would be far off on noise."""
    box = (30, 20, 22, 17)
    sampled = sample_square(torch.from_numpy(FRAME[None]), square_around(box, 4), 96)[0]
    expected = crop_square(FRAME, box, 4, 96).image
    assert (sampled.permute(1, 2, 0).numpy() == expected).mean() > 0.8


@pytest.mark.parametrize("box", [(-500, 10, 20, 20), (1e18, 0, 5, 5), (10, 900, 20, 20)])
def test_the_device_crop_outside_is_black(box):
    assert not sample_square(torch.from_numpy(FRAME[None]), square_around(box, 4), 32).any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (2, 2, 3)])
def test_the_device_crops_tiny_frames(shape):
    image, box = np.full(shape, 200, np.uint8), (0, 0, shape[1], shape[0])
    sampled = sample_square(torch.from_numpy(image[None]), square_around(box, 4), 32)[0]
    expected = crop_square(image, box, 4, 32).image
    assert np.abs(sampled.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_a_huge_square_needs_no_memory_on_the_device():
    square = square_around((-1e5, -1e5, 2e5, 2e5), 4)
    assert square.size > EXACT_SIDE
    assert sample_square(torch.from_numpy(FRAME[None]), square, 64).shape == (1, 3, 64, 64)


def test_images_are_stacked_for_one_upload():
    images = [FRAME, FRAME[:, ::-1]]
    stack = upload(images, CPU)
    assert stack.dtype == torch.uint8
    np.testing.assert_array_equal(stack.numpy(), np.stack(images))
