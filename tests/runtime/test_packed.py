"""Packed layers give the layers' numbers, and only where the processor multiplies in bf16."""

import copy

import pytest
import torch
from torch import nn

from duotrack.models.attention import Block
from duotrack.models.zoo import model_spec
from duotrack.runtime.deploy import deploy
from duotrack.runtime.packed import PackedConv, PackedLinear, can_pack, pack
from duotrack.runtime.torch_backend import prepare

CPU = torch.device("cpu")
needs_bf16 = pytest.mark.skipif(
    not can_pack(CPU, torch.bfloat16), reason="this processor does not multiply in bf16, so nothing is packed here"
)


def half(layer: nn.Module) -> nn.Module:
    return layer.to(torch.bfloat16).eval().requires_grad_(False)


@needs_bf16
@pytest.mark.parametrize("shape", [(1, 5, 48), (3, 256, 48), (2, 4, 7, 48)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_give_the_same_numbers_for_any_number_of_tokens(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    linear = half(nn.Linear(48, 80, bias=bias))
    tokens = torch.randn(shape, dtype=torch.bfloat16)
    assert isinstance(linear, nn.Linear)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(tokens), linear(tokens))
        torch.testing.assert_close(
            PackedLinear(linear, gelu=True)(tokens), nn.functional.gelu(linear(tokens)), atol=2e-2, rtol=2e-2
        )


@needs_bf16
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 24, kernel_size=3, padding=1),
        nn.Conv2d(24, 12, kernel_size=3, padding=1, groups=3),
        nn.Conv2d(16, 8, kernel_size=1, bias=False),
        nn.Conv2d(3, 32, kernel_size=4, stride=4),
    ],
    ids=["3x3", "groups", "1x1", "patches"],
)
def test_convolutions_give_the_same_numbers(conv: nn.Conv2d) -> None:
    half(conv)
    cells = torch.randn(2, conv.in_channels, 12, 12, dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(PackedConv(conv)(cells), conv(cells))


@needs_bf16
def test_blocks_are_packed_whole() -> None:
    block = half(Block(dim=32, heads=4))
    packed = pack(copy.deepcopy(block))
    assert not [name for name, part in packed.named_modules() if isinstance(part, nn.Linear)]
    tokens = torch.randn(2, 9, 32, dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(packed(tokens), block(tokens), atol=3e-2, rtol=3e-2)


@needs_bf16
def test_a_packed_network_tracks_as_the_one_that_is_not() -> None:
    torch.manual_seed(1)
    net = deploy(model_spec("ckd-tiny").build())
    crops = {"template": torch.randn(1, 3, 96, 96), "search": torch.randn(1, 3, 192, 192)}
    maps = []
    for packed in (False, True):
        ready = prepare(copy.deepcopy(net), device=CPU, precision="bf16", packed=packed)
        assert packed == any(isinstance(part, PackedLinear) for part in ready.modules())
        with torch.inference_mode():
            memory = ready.remember((crops["template"], None))
            maps.append(ready(template=memory, search=(crops["search"], None), available=("rgb",)))
    for name in ("score_map", "size_map", "offset_map"):
        torch.testing.assert_close(getattr(maps[0], name), getattr(maps[1], name), atol=5e-2, rtol=0)


def test_where_torch_lacks_onednn_bf16_is_computed_by_its_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    ready = prepare(Block(dim=32, heads=4), device=CPU, precision="bf16", packed=True)
    assert not [part for part in ready.modules() if isinstance(part, PackedLinear)]


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp32"), ("cuda", "bf16")])
def test_other_networks_are_not_packed(device: str, precision: str) -> None:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert not can_pack(torch.device(device), dtype)
