"""The pixel-level fusion adapter: its start, its size, its reach."""

import pytest
import torch
from torch import nn

from duotrack.models.pixel_fusion import PixelFusionAdapter

LAYOUTS = ({}, {"layout": "stacked"}, {"scan": "cross"}, {"thermal_channels": 3}, {"stride": 8}, {"stride": 2})


def made(**options: object) -> PixelFusionAdapter:
    torch.manual_seed(0)
    return PixelFusionAdapter(**options)  # type: ignore[arg-type]


def awake(**options: object) -> PixelFusionAdapter:
    """With a last convolution that is not zero, float64."""
    net = made(**options).double()
    nn.init.normal_(net.head.weight, std=0.1)
    return net


def test_parameters_of_the_default_layout() -> None:
    net = made()
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert count == {
        "stem_rgb": 5_088, "stem_tir": 4_800, "merge": 2_080, "blocks": 3 * 13_760, "up": 18_496, "head": 364,
    }  # fmt: skip
    assert sum(count.values()) == 72_108


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, (128, 128)), ({}, (256, 256)), *((options, size) for options in LAYOUTS for size in ((30, 41), (17, 64)))],
)
def test_a_fresh_adapter_gives_the_mean(options: dict[str, object], size: tuple[int, int]) -> None:
    rgb, thermal = torch.rand(2, 3, *size), torch.rand(2, 3, *size)
    with torch.no_grad():
        fused = made(**options)(rgb, thermal)
    assert fused.shape == rgb.shape
    torch.testing.assert_close(fused, (rgb + thermal) / 2, atol=1e-6, rtol=0)


def test_one_thermal_channel_is_the_same_as_three_equal_ones() -> None:
    net, rgb, thermal = awake(), torch.rand(1, 3, 20, 24).double(), torch.rand(1, 1, 20, 24).double()
    torch.testing.assert_close(net(rgb, thermal), net(rgb, thermal.expand(-1, 3, -1, -1)), atol=1e-14, rtol=0)


@pytest.mark.parametrize("options", [{}, {"layout": "stacked"}, {"scan": "cross"}])
def test_one_thermal_pixel_reaches_far_both_ways(options: dict[str, object]) -> None:
    """Acceptance test 4: beyond all convolutions, before and after it in scan order."""
    net = awake(**options)
    rgb, thermal = torch.rand(1, 3, 64, 64).double(), torch.rand(1, 3, 64, 64).double()
    changed = thermal.clone()
    changed[0, :, 32, 32] += 0.5
    with torch.no_grad():
        difference = (net(rgb, changed) - net(rgb, thermal)).abs().amax(dim=(0, 1))
    assert difference[:4].max() > 1e-13
    assert difference[-4:].max() > 1e-13
    assert difference[32, 32] > 1e-2


def test_gradient_reaches_both_stems_once_the_head_is_awake() -> None:
    rgb, thermal = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)

    def reached(net: PixelFusionAdapter) -> set[str]:
        net(rgb.to(net.head.weight), thermal.to(net.head.weight)).square().sum().backward()
        return {n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    assert reached(made()) == {"head"}
    assert reached(awake()) == {"head", "up", "merge", "blocks", "stem_rgb", "stem_tir"}


@pytest.mark.parametrize("size", [(14, 21), (16, 24)])
def test_sides_that_are_no_multiple_are_continued_by_their_last_pixels(size: tuple[int, int]) -> None:
    net = awake()
    rgb, thermal = torch.rand(1, 3, *size).double(), torch.rand(1, 3, *size).double()
    rows, columns = (torch.arange(-(-n // 4) * 4).clamp(max=n - 1) for n in size)
    features = net.encode(rgb, thermal)
    larger = net.encode(rgb[:, :, rows][..., columns], thermal[:, :, rows][..., columns])
    torch.testing.assert_close(features, larger, atol=1e-13, rtol=0)
    assert net(rgb, thermal).shape[-2:] == size


def test_samples_do_not_influence_each_other() -> None:
    net, rgb, thermal = awake(), torch.rand(3, 3, 16, 16).double(), torch.rand(3, 3, 16, 16).double()
    torch.testing.assert_close(net(rgb, thermal)[1:2], net(rgb[1:2], thermal[1:2]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "x"}, "y, stacked"),
        ({"stride": 3}, "power of two"),
        ({"stride": 1}, "power of two"),
        ({"width": 7}, "even"),
        ({"thermal_channels": 2}, "1 or 3"),
    ],
)
def test_impossible_adapters_are_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**options)
