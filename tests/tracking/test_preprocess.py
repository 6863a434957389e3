"""Normalised network input."""

import numpy as np
import pytest
import torch

from duotrack.models.statistics import MEAN, STD, normalise
from duotrack.tracking.preprocess import to_tensor


@pytest.mark.parametrize("level", [0, 128, 255])
def test_levels_are_normalised_by_channel(level):
    out = to_tensor(np.full((4, 4, 3), level, np.uint8))
    assert out.shape == (1, 3, 4, 4)
    assert out.dtype == torch.float32
    for channel in range(3):
        expected = (level / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(out[0, channel], torch.full((4, 4), expected))


def test_channels_and_rows_keep_their_places():
    crop = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    out = to_tensor(crop)
    assert out.shape == (2, 3, 5, 7)
    expected = normalise(torch.tensor(crop[1, 4, 6] / 255.0).float()[None, :, None, None]).flatten()
    torch.testing.assert_close(out[1, :, 4, 6], expected)


def test_reversed_views_are_read():
    crop = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    torch.testing.assert_close(to_tensor(crop[:, ::-1]), to_tensor(crop).flip(3))


def test_every_level_is_bit_equal_with_torch_arithmetic():
    crop = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert torch.equal(to_tensor(crop), normalise(torch.from_numpy(crop[None]).permute(0, 3, 1, 2).float() / 255))
