"""What the wrapper checks, pads and puts back."""

import numpy as np
import pytest
import torch

from duotrack.errors import InputError
from duotrack.fusion.expert import Expert, continued, on_device


def mean(rgb, aux):
    return (rgb + aux) / 2


def pair(height=6, width=7, channels=3):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, height, width), (2, channels, height, width)
    return [torch.rand(*shape, generator=generator) for shape in shapes]


BAD = [
    (lambda rgb, aux: mean(rgb, aux) * float("nan"), "NaN or infinity in 252 of 252 values"),
    (lambda rgb, aux: mean(rgb, aux) / 0, "NaN or infinity"),
    (lambda rgb, aux: mean(rgb, aux)[..., 1:], r"shape \(2, 3, 6, 6\) instead of \(2, 3, 6, 7\)"),
    (lambda rgb, aux: mean(rgb, aux)[:, :1], r"shape \(2, 1, 6, 7\)"),
    (lambda rgb, aux: 255 * mean(rgb, aux), r"values from .* to 2\d\d instead of \[0, 1\]"),
    (lambda rgb, aux: 2 * mean(rgb, aux) - 1.6, r"values from -1"),
    (lambda rgb, aux: (255 * mean(rgb, aux)).byte(), "uint8"),
    (lambda rgb, aux: mean(rgb, aux).numpy(), "ndarray, not a tensor"),
    (lambda rgb, aux: None, "NoneType, not a tensor"),
]


@pytest.mark.parametrize(("fuse", "what"), BAD, ids=range(len(BAD)))
def test_what_is_no_picture_is_refused_by_the_experts_name(fuse, what):
    with pytest.raises(InputError, match=f"expert odd returned .*{what}"):
        Expert("odd", fuse)(*pair())


def test_a_single_nan_is_found():
    def fuse(rgb, aux):
        fused = mean(rgb, aux)
        fused[1, 2, 3, 4] = float("nan")
        return fused

    with pytest.raises(InputError, match="in 1 of 252 values"):
        Expert("one", fuse)(*pair())


@pytest.mark.parametrize(
    ("rgb", "aux"),
    [((2, 3, 4, 4), (2, 3, 4, 5)), ((2, 1, 4, 4), (2, 1, 4, 4)), ((2, 3, 4, 4), (1, 1, 4, 4)), ((3, 4, 4), (3, 4, 4))],
)
def test_images_that_do_not_go_together_are_the_callers_fault(rgb, aux):
    with pytest.raises(ValueError, match="got"):
        Expert("mean", mean)(torch.zeros(rgb), torch.zeros(aux))


@pytest.mark.parametrize("channels", [1, 3])
def test_result_is_float32_in_range_without_gradient(channels):
    rgb, aux = pair(channels=channels)
    fused = Expert("bright", lambda a, b: a + b - 0.5)(rgb.double().requires_grad_(), aux.double())
    assert fused.dtype == torch.float32
    assert not fused.requires_grad
    assert fused.min() == 0
    assert fused.max() == 1
    torch.testing.assert_close(fused, (rgb + aux - 0.5).clamp(0, 1))


def test_autocast_around_it_changes_nothing():
    rgb, aux = pair()
    convolution = torch.nn.Conv2d(3, 3, 1)
    expert = Expert("net", lambda a, b: torch.sigmoid(convolution(a + b)))
    alone = expert(rgb, aux)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(expert(rgb, aux), alone)


@pytest.mark.parametrize("size", [(6, 7), (32, 32), (33, 1), (70, 31), (2, 100)], ids=str)
@pytest.mark.parametrize("luma_only", [False, True])
def test_sides_are_multiples_of_the_divisor_and_cut_afterwards(size, luma_only):
    seen = []

    def fuse(one, other):
        seen.append((one.shape, other.shape))
        return one

    rgb, aux = pair(*size)
    fused = Expert("wide", fuse, divisor=32, luma_only=luma_only)(rgb, aux)
    assert all(side % 32 == 0 for shapes in seen for shape in shapes for side in shape[2:])
    assert seen[0][0][1] == (1 if luma_only else 3)
    torch.testing.assert_close(fused, rgb, rtol=0, atol=2e-6)  # luma goes through constants of six digits


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_continued_by_reflection_as_often_as_needed(length):
    image = torch.arange(float(length))[None, None, None].expand(1, 1, 3, -1)
    wanted = np.pad(np.arange(float(length)), (0, 16 - length), mode="reflect")
    np.testing.assert_array_equal(continued(image, 16)[0, 0, 0], wanted)
    assert continued(image, 1) is image


def test_a_network_goes_where_its_images_are():
    net = torch.nn.Linear(2, 2)
    assert on_device(net, torch.device("cpu")) is net
    assert next(on_device(net, torch.device("meta")).parameters()).is_meta
    assert on_device(torch.nn.Identity(), torch.device("meta"))
