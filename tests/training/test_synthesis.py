"""Made-up partners."""

import numpy as np
import pytest

from duotrack.training.synthesis import draw_rendering, draw_tone, render


def crop(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A colour crop with two discs, its padding, and the box of one disc."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    image = np.full((96, 96, 3), (90, 140, 200), np.float64)
    image[(x - 48) ** 2 + (y - 48) ** 2 < 300] = (200, 60, 40)
    image[(x - 80) ** 2 + (y - 20) ** 2 < 100] = (30, 90, 30)
    image += rng.normal(0, 3, image.shape)
    padding = np.zeros((96, 96), bool)
    padding[80:] = True
    image[padding] = 0
    return image.clip(0, 255).astype(np.uint8), padding, np.array([0.32, 0.32, 0.36, 0.36])


@pytest.mark.parametrize("kind", ["rgb", "aux"])
@pytest.mark.parametrize("seed", range(6))
def test_same_geometry_other_light(kind: str, seed: int) -> None:
    image, padding, box = crop()
    rng = np.random.default_rng(seed)
    rendering = draw_rendering(rng, kind)  # type: ignore[arg-type]
    made_up = render(image, rendering, box=box, padding=padding, rng=rng)
    assert made_up.shape == image.shape
    assert made_up.dtype == np.uint8
    assert not made_up[padding].any()
    assert (made_up != image).mean() > 0.5
    if kind == "aux":
        assert (made_up == made_up[:, :, :1]).all()


@pytest.mark.parametrize("kind", ["rgb", "aux"])
def test_reproducible_and_shared_by_the_pair(kind: str) -> None:
    image, padding, box = crop()

    def run(seed: int, frames: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        rendering = draw_rendering(rng, kind)  # type: ignore[arg-type]
        return [render(image, rendering, box=box, padding=padding, rng=rng) for _ in range(frames)]

    first, second = run(1, 2)
    np.testing.assert_array_equal(first, run(1, 1)[0])
    other = run(2, 1)[0]
    # two frames of one pair differ by noise alone, two pairs by their sensor
    means = [abs(float(first.mean()) - float(picture.mean())) for picture in (second, other)]
    assert means[0] < 1 < means[1]


@pytest.mark.parametrize("monotone", [True, False])
def test_tone_curves(monotone: bool) -> None:
    rng = np.random.default_rng(0)
    falling = 0
    for _ in range(200):
        curve = draw_tone(rng, monotone=monotone, least_range=50)
        assert curve.shape == (256,)
        assert curve.min() >= 0
        assert curve.max() <= 255.01
        assert np.ptp(curve) >= 49.9
        assert np.abs(np.diff(curve)).max() < 12
        if monotone:
            assert (np.diff(curve) >= -1e-3).all() or (np.diff(curve) <= 1e-3).all()
        falling += curve[0] > curve[-1]
    assert 60 < falling < 140
