"""Distances between images: against plain spelling-out, and where they are zero."""

import numpy as np
import pytest
import torch
from torch import Tensor

from duotrack.training.image_losses import image_distance, sobel, structural_similarity

ALL = {"l1": 1.0, "ssim": 1.0, "grad": 1.0}


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def plain_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM of two (H, W) images, window by window."""
    places = np.arange(11) - 5
    weights = np.exp(-(places**2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    values = []
    for y in range(one.shape[0] - 10):
        for x in range(one.shape[1] - 10):
            a, b = (image[y : y + 11, x : x + 11] for image in (one, other))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            both = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = 0.01**2, 0.03**2
            values.append((2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def test_structural_similarity_is_what_its_paper_says() -> None:
    one, other = pictures(1, 3, 15, 18), pictures(1, 3, 15, 18, seed=1)
    expected = np.mean([plain_ssim(one[0, c].double().numpy(), other[0, c].double().numpy()) for c in range(3)])
    assert float(structural_similarity(one, other)) == pytest.approx(expected, abs=1e-5)
    near = (one + 0.1 * other).clamp(0, 1)
    assert structural_similarity(one, near) > structural_similarity(one, other)


def test_sobel_is_signed_and_knows_its_direction() -> None:
    ramp = torch.arange(6.0).expand(1, 3, 5, 6)  # grows to the right
    along = sobel(ramp)
    assert along.shape == (1, 6, 3, 4)
    assert (along[:, :3] == 8).all()
    assert (along[:, 3:] == 0).all()
    assert torch.equal(sobel(ramp.mT)[:, 3:], along[:, :3].mT)
    assert torch.equal(sobel(-ramp), -along)


@pytest.mark.parametrize(
    ("weights", "distance"), [({"l1": 2.0}, 0.2), ({"grad": 1.0}, 0.0), ({"l1": 1.0, "grad": 5.0}, 0.1)]
)
def test_terms_by_hand(weights: dict[str, float], distance: float) -> None:
    """A shift of brightness is a difference of pixels, and no difference of edges."""
    images = pictures(2, 3, 16, 16) * 0.8
    made = image_distance(images, images + 0.1, **{"l1": 0.0, "ssim": 0.0, "grad": 0.0, **weights})
    assert made.tolist() == pytest.approx([distance] * 2, abs=1e-5)


def test_the_same_image_is_at_no_distance() -> None:
    images = pictures(2, 3, 20, 24)
    assert image_distance(images, images, **ALL).abs().max() < 1e-6


def test_many_targets_at_once() -> None:
    images, targets = pictures(2, 3, 16, 16), pictures(4, 2, 3, 16, 16, seed=1)
    made = image_distance(images, targets, **ALL)
    assert made.shape == (4, 2)
    for k in range(4):
        for i in range(2):
            alone = image_distance(images[i : i + 1], targets[k, i : i + 1], **ALL)
            assert float(alone) == pytest.approx(float(made[k, i]), abs=1e-5)


def test_half_precision_around_it_changes_nothing() -> None:
    images, targets = pictures(1, 3, 16, 16), pictures(1, 3, 16, 16, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = image_distance(images, targets, **ALL)
    assert torch.equal(inside, image_distance(images, targets, **ALL))
