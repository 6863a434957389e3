"""A template whose surroundings are fainter tells its network where the target ends."""

import numpy as np
import pytest
import torch

from duotrack.models.zoo import MODELS, Geometry
from duotrack.tracking.crop import Square, square_around
from duotrack.tracking.preprocess import fade_rim
from duotrack.tracking.view import view, view_template

BOX = np.array([40.0, 30.0, 20.0, 40.0])
SHAPE = Geometry(template_size=96, search_size=192, rim=0.25)


def test_inside_stays_and_outside_fades() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 160, 3), np.uint8)
    cpu = torch.device("cpu")
    plain, _ = view([image], BOX, 2.0, 96, cpu)
    faded, _ = view_template([image], BOX, SHAPE, cpu)
    square = square_around(BOX, 2.0)
    scale = 96 / square.size
    left, top = (BOX[:2] - [square.x, square.y]) * scale
    right, bottom = left + BOX[2] * scale, top + BOX[3] * scale
    inside = (slice(None), slice(None), slice(int(top) + 1, int(bottom)), slice(int(left) + 1, int(right)))
    assert torch.equal(faded[inside], plain[inside])
    assert torch.equal(faded[..., : int(left)], plain[..., : int(left)] * 0.25)
    assert torch.equal(faded[..., : int(top), :], plain[..., : int(top), :] * 0.25)
    assert torch.equal(faded[..., int(right) + 1 :], plain[..., int(right) + 1 :] * 0.25)


def test_weight_is_the_area_that_the_box_covers() -> None:
    box = np.array([10.25, 12.5, 20.0, 11.75])
    weights = fade_rim(torch.ones(1, 1, 64, 64), box, Square(0, 0, 64), 0.0)
    assert float(weights.sum()) == pytest.approx(box[2] * box[3], rel=1e-6)
    assert float(weights[0, 0, 12, 10]) == pytest.approx(0.5 * 0.75)


def test_mirrored_template_fades_mirrored() -> None:
    box = np.array([3.0, 5.0, 20.0, 30.0])
    usual = fade_rim(torch.ones(2, 3, 48, 48), box, Square(-4, -2, 48), 0.5)
    mirrored = fade_rim(torch.ones(2, 3, 48, 48), box, Square(-4, -2, 48), 0.5, mirrored=True)
    assert torch.equal(mirrored, usual.flip(-1))


def test_only_our_own_model_fades() -> None:
    assert {name for name, spec in MODELS.items() if spec.geometry.rim != 1} == {"ckd-tiny"}
    kept = torch.randn(1, 3, 32, 32)
    assert torch.equal(fade_rim(kept.clone(), BOX, Square(0, 0, 32), 1.0), kept)
