"""Boxes and pixels on their way into a pair."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from duotrack.tracking.crop import box_in_crop, crop_square
from duotrack.tracking.preprocess import to_tensor
from duotrack.training.augmentation import (
    Augmentation,
    Jitter,
    Light,
    beside,
    damage,
    draw_light,
    finish,
    jitter_box,
    mirror,
    mirror_crop_box,
    mirror_frame_box,
    to_grey,
)

sides = st.floats(1, 300)
boxes = st.tuples(st.floats(-100, 500), st.floats(-100, 500), sides, sides).map(lambda b: np.array(b))


@given(box=boxes, width=st.integers(1, 2000))
def test_mirrored_twice_is_as_before(box: np.ndarray, width: int) -> None:
    assert_allclose(mirror_frame_box(mirror_frame_box(box, width), width), box, atol=1e-9)
    assert_allclose(mirror_crop_box(mirror_crop_box(box)), box, atol=1e-9)


def test_frame_and_box_are_mirrored_alike() -> None:
    image = np.zeros((20, 31, 3), np.uint8)
    image[4:9, 3:10] = 255
    x, y, w, h = mirror_frame_box(np.array([3.0, 4, 6, 4]), 31).astype(int)  # corners on pixel centres
    assert mirror(image)[y : y + h + 1, x : x + w + 1].all()
    assert mirror(image).sum() == image.sum()


@given(box=boxes, seed=st.integers(0, 10_000))
def test_jitter_keeps_the_centre_in_the_crop(box: np.ndarray, seed: int) -> None:
    around = jitter_box(box, np.random.default_rng(seed), Jitter())
    side = np.sqrt(around[2] * around[3])
    shift = around[:2] + around[2:] / 2 - box[:2] - box[2:] / 2
    assert (np.abs(shift) <= 1.5 * side + 1e-6).all()


def test_jitter_statistics() -> None:
    rng, box = np.random.default_rng(0), np.array([0.0, 0, 40, 10])
    around = np.array([jitter_box(box, rng, Jitter()) for _ in range(4000)])
    stretch = np.log(around[:, 2:] / box[2:])
    assert_allclose(stretch.mean(0), 0, atol=0.02)
    assert_allclose(stretch.std(0), 0.25, atol=0.02)
    shift = (around[:, :2] + around[:, 2:] / 2 - box[2:] / 2) / np.sqrt(around[:, 2:].prod(1, keepdims=True))
    assert_allclose(np.abs(shift).mean(0), 0.75, atol=0.04)
    still = jitter_box(box, rng, Jitter(centre=0, scale=0))
    assert_allclose(still, box)
    hard = np.array([jitter_box(box, rng, Jitter(hard=1, hard_scale=0)) for _ in range(4000)])
    reach = np.abs(hard[:, :2] + hard[:, 2:] / 2 - box[2:] / 2).max() / 20
    assert 1.85 < reach <= 1.9


@given(box=boxes, seed=st.integers(0, 99))
def test_box_in_a_crop_mapped_back(box: np.ndarray, seed: int) -> None:
    around = jitter_box(box, np.random.default_rng(seed), Jitter())
    factor = 192 / np.ceil(np.sqrt(around[2] * around[3]) * 4)
    inside = box_in_crop(box, around, factor, 192) * 192
    centre = around[:2] + around[2:] / 2 + (inside[:2] + inside[2:] / 2 - 95.5) / factor
    assert_allclose(centre, box[:2] + box[2:] / 2, atol=1e-6)
    assert_allclose(inside[2:] / factor, box[2:])


def test_the_crop_shows_the_target_in_its_box() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:110, 100:150] = 255
    box = np.array([100.0, 80, 50, 30])
    around = jitter_box(box, np.random.default_rng(3), Jitter())
    crop = crop_square(image, around, 4, 192)
    x, y, w, h = box_in_crop(box, around, crop.resize_factor, 192) * 192
    rows, columns = np.nonzero(crop.image[:, :, 0] > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert_allclose(found, np.clip([x, y, x + w, y + h], 0, 192), atol=1.5)


def test_finish_is_brightness_clamp_mirror_normalise() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert_allclose(finish(crop, Light(1.0, False)), to_tensor(crop)[0].numpy(), atol=1e-6)
    bright = torch.from_numpy(np.clip(crop.astype(np.float32) * 1.2 / 255, 0, 1)[:, ::-1].copy()).permute(2, 0, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (bright - mean[:, None, None]) / std[:, None, None]
    assert_allclose(finish(crop, Light(1.2, True)), expected.numpy(), atol=1e-6)


def test_light_rolls() -> None:
    rng = np.random.default_rng(0)
    rolls = [draw_light(rng, Augmentation()) for _ in range(2000)]
    brightness = np.array([roll.brightness for roll in rolls])
    assert 0.8 <= brightness.min() < 0.81
    assert 1.19 < brightness.max() <= 1.2
    assert 0.45 < np.mean([roll.mirrored for roll in rolls]) < 0.55
    assert draw_light(rng, Augmentation(brightness=0, crop_flip=0)) == Light(1.0, False)


def test_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    grey = to_grey(image)
    assert_array_equal(grey[:, :, 0], grey[:, :, 2])
    assert_array_equal(grey[:, :, 0], cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def test_damage_is_off_by_default_and_keeps_padding_black() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    padding = np.zeros((32, 32), bool)
    padding[:, :7] = True
    crop[padding] = 0
    rng = np.random.default_rng(1)
    assert damage(crop, padding, rng, Augmentation()) is crop
    for name in ("blur", "noise", "gamma"):
        changed = damage(crop, padding, rng, Augmentation(**{name: 1.0}))
        assert changed.dtype == np.uint8
        assert not changed[padding].any()
        assert (changed != crop).mean() > 0.2


def test_unknown_or_impossible_settings() -> None:
    with pytest.raises(ValidationError):
        Augmentation(gray=0.1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Augmentation(flip=1.5)
    with pytest.raises(ValidationError):
        Jitter(scale=-1)


@pytest.mark.parametrize("seed", range(20))
def test_a_crop_beside_the_target_shows_nothing_of_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = np.array([100.0, 80.0, 24.0, 40.0])
    box = jitter_box(target, rng, Jitter())
    found = beside(box, target, 4.0, (640, 512), rng)
    assert found is not None
    np.testing.assert_array_equal(found[2:], box[2:])
    half = 2 * np.sqrt(found[2:].prod())
    centre = found[:2] + found[2:] / 2
    apart = np.abs(centre - target[:2] - target[2:] / 2)
    assert (apart > half + target[2:] / 2).any()
    assert ((centre > 0) & (centre < (640, 512))).all()


def test_no_room_beside_a_target_that_fills_the_frame() -> None:
    target = np.array([5.0, 5.0, 90.0, 90.0])
    assert beside(target, target, 4.0, (100, 100), np.random.default_rng(0)) is None
