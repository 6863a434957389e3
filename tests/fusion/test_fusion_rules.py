"""The classical rules: what docs/specs/tpf.md, section 7.2, says of them, and slow independent versions of each."""

import csv

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from duotrack.fusion.choose import open_expert
from duotrack.fusion.filters import box, edges, guided_filter, pyramid_down, pyramid_up
from duotrack.fusion.luma import luma_of, recolour, thermal_of
from duotrack.fusion.rules import RULES, average

SIZES = [(1, 1), (2, 2), (1, 9), (3, 4), (8, 16), (16, 17), (17, 17), (31, 46), (33, 64), (45, 19)]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def through_luma(rule, rgb, thermal):
    return recolour(rule(luma_of(rgb), thermal_of(thermal)), rgb).clamp(0, 1)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_two_equal_images_come_back(name, size):
    image = noise(2, 1, *size)
    torch.testing.assert_close(RULES[name](image, image), image, rtol=0, atol=1e-12)
    grey = image.expand(-1, 3, -1, -1)
    torch.testing.assert_close(through_luma(RULES[name], grey, image), grey, rtol=0, atol=1e-12)
    torch.testing.assert_close(through_luma(RULES[name], grey, grey), grey, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_noise_gives_a_picture_the_same_every_time_and_for_every_batch(name, size):
    y, t = noise(3, 1, *size, dtype=torch.float32), noise(3, 1, *size, seed=1, dtype=torch.float32)
    fused = RULES[name](y, t)
    assert fused.shape == y.shape
    assert fused.dtype == torch.float32
    assert 0 <= fused.min() <= fused.max() <= 1
    assert torch.equal(RULES[name](y, t), fused)
    torch.testing.assert_close(RULES[name](y[1:2], t[1:2]), fused[1:2], rtol=0, atol=1e-6)


def test_the_rules_differ_from_one_another():
    y, t = noise(1, 1, 40, 40), noise(1, 1, 40, 40, seed=1)
    pictures = [rule(y, t) for rule in RULES.values()]
    for i, one in enumerate(pictures):
        assert all((one - other).abs().mean() > 0.01 for other in pictures[:i])


def test_a_hot_spot_on_an_even_ground_is_seen():
    y, t = torch.full((1, 1, 64, 64), 0.4, dtype=torch.float64), torch.full((1, 1, 64, 64), 0.2, dtype=torch.float64)
    t[..., 28:36, 28:36] = 0.9
    for name, rule in RULES.items():
        fused = rule(y, t)
        assert fused[..., 30:34, 30:34].mean() > fused[..., 4:10, 4:10].mean() + 0.2, name


def test_average_weighs_by_alpha():
    assert average(torch.tensor(1.0), torch.tensor(0.0), alpha=0.3) == pytest.approx(0.3)


def test_colours_survive_and_luma_is_replaced():
    rgb, luma = 0.3 + 0.4 * noise(1, 3, 5, 7), 0.5 + 0.01 * noise(1, 1, 5, 7, seed=3)
    torch.testing.assert_close(recolour(luma_of(rgb), rgb), rgb, rtol=0, atol=2e-6)  # the constants have six digits
    torch.testing.assert_close(luma_of(recolour(luma, rgb)), luma, rtol=0, atol=2e-6)


# -- slow versions, written down from the specification ---------------------------------------------------------------


def slow_box(image, radius):
    rows, columns = image.shape
    return np.array(
        [
            [
                image[max(0, i - radius) : i + radius + 1, max(0, j - radius) : j + radius + 1].mean()
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    )


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), radius=st.integers(0, 15), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_box_is_the_mean_of_what_is_there(rows, columns, radius, seed):
    image = noise(1, 1, rows, columns, seed=seed)
    np.testing.assert_allclose(box(image, radius)[0, 0], slow_box(image[0, 0].numpy(), radius), rtol=0, atol=1e-13)


KERNEL = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64) / 16


def slow_blur(image):
    wide = F.pad(image, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(wide, (KERNEL[:, None] * KERNEL[None, :])[None, None])


@pytest.mark.parametrize("size", [(3, 3), (4, 3), (5, 8), (17, 16), (9, 14)], ids=str)
def test_pyramid_steps_are_blur_and_every_second_sample(size):
    image = noise(2, 1, *size)
    coarse = pyramid_down(image)
    torch.testing.assert_close(coarse, slow_blur(image)[..., ::2, ::2], rtol=0, atol=1e-14)
    holes = torch.zeros_like(image)
    holes[..., ::2, ::2] = coarse
    torch.testing.assert_close(pyramid_up(coarse, size), 4 * slow_blur(holes), rtol=0, atol=1e-14)


def slow_laplacian(y, t, levels):
    pyramids = []
    for image in (y, t):
        details = []
        for _ in range(levels):
            small = slow_blur(image)[..., ::2, ::2]
            holes = torch.zeros_like(image)
            holes[..., ::2, ::2] = small
            details.append(image - 4 * slow_blur(holes))
            image = small
        pyramids.append((details, image))
    fused = (pyramids[0][1] + pyramids[1][1]) / 2
    for one, other in zip(*(reversed(details) for details, _ in pyramids), strict=True):
        holes = torch.zeros_like(one)
        holes[..., ::2, ::2] = fused
        strength = [torch.from_numpy(slow_box((d[0, 0] ** 2).numpy(), 1)) for d in (one, other)]
        fused = 4 * slow_blur(holes) + torch.where(strength[0] >= strength[1], one, other)
    return fused.clamp(0, 1)


@pytest.mark.parametrize(("size", "levels"), [((17, 17), 4), ((16, 40), 3), ((21, 34), 4), ((5, 30), 2), ((2, 9), 0)])
def test_laplacian(size, levels):
    y, t = noise(1, 1, *size), noise(1, 1, *size, seed=1)
    torch.testing.assert_close(RULES["laplacian"](y, t), slow_laplacian(y, t, levels), rtol=0, atol=1e-13)


def slow_guided_filter(guide, image, radius, epsilon):
    mean, other = slow_box(guide, radius), slow_box(image, radius)
    a = (slow_box(guide * image, radius) - mean * other) / (slow_box(guide**2, radius) - mean**2 + epsilon)
    return slow_box(a, radius) * guide + slow_box(other - a * mean, radius)


@pytest.mark.parametrize("size", [(9, 12), (30, 21)], ids=str)
def test_guided(size):
    y, t = noise(1, 1, *size), noise(1, 1, *size, seed=1)
    a, b = y[0, 0].numpy(), t[0, 0].numpy()
    base, detail = [slow_box(i, 15) for i in (a, b)], [i - slow_box(i, 15) for i in (a, b)]
    salient = []
    for image in (a, b):
        wide = np.pad(image, 1, mode="edge")
        around = wide[1:-1, :-2] + wide[1:-1, 2:] + wide[:-2, 1:-1] + wide[2:, 1:-1] - 4 * image
        salient.append(slow_box(np.abs(around), 3))
    choice = (salient[0] >= salient[1]).astype(float)
    w_base = np.clip(slow_guided_filter(a, choice, 22, 0.3), 0, 1)
    w_detail = np.clip(slow_guided_filter(a, choice, 3, 1e-6), 0, 1)
    fused = w_base * base[0] + (1 - w_base) * base[1] + w_detail * detail[0] + (1 - w_detail) * detail[1]
    np.testing.assert_allclose(RULES["guided"](y, t)[0, 0], np.clip(fused, 0, 1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        guided_filter(y, t, radius=2, epsilon=0.01)[0, 0], slow_guided_filter(a, b, 2, 0.01), rtol=0, atol=1e-12
    )


def test_edges_of_a_plane_are_zero_inside():
    ramp = torch.arange(5.0)[None, None, None] + torch.arange(4.0)[None, None, :, None]
    assert torch.equal(edges(ramp)[..., 1:-1, 1:-1], torch.zeros(1, 1, 2, 3))


def test_gradmax_is_the_least_squares_picture():
    """Solved densely on the mirrored image, whose differences go around."""
    y, t = noise(1, 1, 5, 4), noise(1, 1, 5, 4, seed=1)
    a, b = (np.pad(image[0, 0].numpy(), ((4, 4), (3, 3)), mode="reflect") for image in (y, t))
    rows, columns = a.shape
    count = rows * columns
    across = np.roll(np.eye(count).reshape(rows, columns, count), -1, 1).reshape(count, count) - np.eye(count)
    down = np.roll(np.eye(count).reshape(rows, columns, count), -1, 0).reshape(count, count) - np.eye(count)
    gradients = [(across @ image.ravel(), down @ image.ravel()) for image in (a, b)]
    first = gradients[0][0] ** 2 + gradients[0][1] ** 2 >= gradients[1][0] ** 2 + gradients[1][1] ** 2
    gx, gy = (np.where(first, *(g[k] for g in gradients)) for k in (0, 1))
    left = across.T @ across + down.T @ down + 0.05 * np.eye(count)
    right = across.T @ gx + down.T @ gy + 0.05 * np.maximum(a, b).ravel()
    solved = np.linalg.solve(left, right).reshape(rows, columns)[4:9, 3:7]
    np.testing.assert_allclose(RULES["gradmax"](y, t)[0, 0], np.clip(solved, 0, 1), rtol=0, atol=1e-11)


# -- real pairs -------------------------------------------------------------------------------------------------------


def read(path):
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", RULES)
def test_real_pairs(shared_data, name):
    """Of each subset two pairs: finite, in range, idempotent, brightness between that of both sources."""
    folder = shared_data / "rgbt_pairs"
    with (folder / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    subsets = sorted({row["subset"] for row in rows})
    assert len(subsets) == 5
    expert = open_expert(name)
    for subset in subsets:
        for row in [row for row in rows if row["subset"] == subset][::10][:2]:
            rgb, thermal = read(folder / row["visible"]), read(folder / row["infrared"])
            fused = expert(rgb, thermal)
            assert fused.shape == rgb.shape
            assert 0 <= fused.min() <= fused.max() <= 1  # also false where anything is NaN
            sides = [luma_of(rgb).mean(), thermal.mean()]
            assert min(sides) - 0.05 < luma_of(fused).mean() < max(sides) + 0.15, row["name"]
            grey = thermal.mean(1, keepdim=True).expand(-1, 3, -1, -1)
            torch.testing.assert_close(expert(grey, thermal), grey, rtol=0, atol=2e-5)
            exact = thermal_of(thermal).double()
            torch.testing.assert_close(RULES[name](exact, exact), exact, rtol=0, atol=1e-12)
