"""Packed layers give the layers' numbers, in the types that the processor multiplies in."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.evaluation.stopwatch import counted
from duotrack.models.attention import Block
from duotrack.models.zoo import model_spec
from duotrack.runtime.deploy import deploy
from duotrack.runtime.packed import PackedConv, PackedLinear, can_pack, pack
from duotrack.runtime.torch_backend import PRECISIONS, prepare

CPU = torch.device("cpu")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture(autouse=True)
def _without_our_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOTRACK_KERNELS", "0")


@pytest.fixture(params=TYPES)
def precision(request: pytest.FixtureRequest) -> str:
    if not can_pack(CPU, TYPES[request.param]):
        pytest.skip(f"torch packs nothing in {request.param} for this processor")
    return str(request.param)


def inference(layer: nn.Module, precision: str) -> nn.Module:
    return layer.to(TYPES[precision]).eval().requires_grad_(False)


def near(ours: torch.Tensor, theirs: torch.Tensor, *, bf16: float) -> None:
    atol = bf16 if theirs.dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=atol)


@pytest.mark.parametrize("shape", [(1, 5, 48), (3, 256, 48), (2, 4, 7, 48)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_give_the_same_numbers_for_any_number_of_tokens(
    shape: tuple[int, ...], bias: bool, precision: str
) -> None:
    torch.manual_seed(0)
    linear = inference(nn.Linear(48, 80, bias=bias), precision)
    tokens = torch.randn(shape, dtype=TYPES[precision])
    assert isinstance(linear, nn.Linear)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(tokens), linear(tokens))
        near(PackedLinear(linear, gelu=True)(tokens), nn.functional.gelu(linear(tokens)), bf16=2e-2)


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
def test_convolutions_give_the_same_numbers_for_any_number_of_pictures(conv: nn.Conv2d, precision: str) -> None:
    conv = copy.deepcopy(conv)
    inference(conv, precision)
    packed = PackedConv(conv)
    for count in (2, 1, 5):
        cells = torch.randn(count, conv.in_channels, 12, 12, dtype=TYPES[precision])
        with torch.inference_mode():
            near(packed(cells), conv(cells), bf16=1.6e-2)


def test_blocks_are_packed_whole(precision: str) -> None:
    block = inference(Block(dim=32, heads=4), precision)
    packed = pack(copy.deepcopy(block))
    assert not [name for name, part in packed.named_modules() if isinstance(part, nn.Linear)]
    tokens = torch.randn(2, 9, 32, dtype=TYPES[precision])
    with torch.inference_mode():
        near(packed(tokens), block(tokens), bf16=3e-2)


def test_a_packed_network_tracks_as_the_one_that_is_not(precision: str) -> None:
    torch.manual_seed(1)
    net = deploy(model_spec("ckd-tiny").build())
    crops = {"template": torch.randn(1, 3, 96, 96), "search": torch.randn(1, 3, 192, 192)}
    maps = []
    for packed in (False, True):
        ready = prepare(copy.deepcopy(net), device=CPU, precision=precision, packed=packed)
        assert packed == any(isinstance(part, PackedLinear) for part in ready.modules())
        with torch.inference_mode():
            memory = ready.remember((crops["template"], None))
            maps.append(ready(template=memory, search=(crops["search"], None), available=("rgb",)))
    for name in ("score_map", "size_map", "offset_map"):
        atol = 5e-2 if precision == "bf16" else 1e-5
        torch.testing.assert_close(getattr(maps[0], name), getattr(maps[1], name), atol=atol, rtol=0)


@pytest.mark.parametrize("precision", TYPES)
def test_where_torch_lacks_onednn_its_own_layers_compute(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    ready = prepare(Block(dim=32, heads=4), device=CPU, precision=precision, packed=True)
    assert not [part for part in ready.modules() if isinstance(part, PackedLinear)]


def test_other_processors_compute_fp32_in_torchs_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not can_pack(CPU, torch.float32)


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp16"), ("cuda", "bf16"), ("cuda", "fp32")])
def test_other_networks_are_not_packed(device: str, precision: str) -> None:
    assert not can_pack(torch.device(device), PRECISIONS[precision])


def test_operations_of_packed_layers_are_counted(precision: str) -> None:
    block, conv = Block(dim=32, heads=4), nn.Conv2d(24, 12, kernel_size=3, padding=1, groups=3)
    tokens, cells = torch.randn(2, 9, 32, dtype=TYPES[precision]), torch.randn(3, 24, 5, 5, dtype=TYPES[precision])

    def forward(first: nn.Module, second: nn.Module) -> None:
        with torch.inference_mode():
            first(tokens)
            second(cells)

    plain = counted(lambda: forward(inference(block, precision), inference(conv, precision)))
    packed = pack(copy.deepcopy(block)), PackedConv(conv)
    assert counted(lambda: forward(*packed)) == plain > 0


def test_threads_may_share_a_convolution_from_its_first_picture_on(precision: str) -> None:
    conv = inference(nn.Conv2d(16, 24, kernel_size=3, padding=1), precision)
    assert isinstance(conv, nn.Conv2d)
    cells = torch.randn(1, 16, 12, 12, dtype=TYPES[precision])
    for _ in range(20):
        packed, begin = PackedConv(conv), threading.Barrier(4)

        def look(packed: PackedConv = packed, begin: threading.Barrier = begin) -> torch.Tensor:
            begin.wait()
            with torch.inference_mode():
                return packed(cells)

        with ThreadPoolExecutor(4) as pool:
            found = [each.result() for each in [pool.submit(look) for _ in range(4)]]
        for each in found:
            near(each, conv(cells), bf16=1.6e-2)


def test_no_picture_gives_none(precision: str) -> None:
    conv = inference(nn.Conv2d(16, 24, kernel_size=3, padding=1), precision)
    assert isinstance(conv, nn.Conv2d)
    packed = PackedConv(conv)
    for count in (1, 0):
        with torch.inference_mode():
            assert packed(torch.randn(count, 16, 12, 12, dtype=TYPES[precision])).shape == (count, 24, 12, 12)


def test_what_is_packed_is_not_saved_by_halves(precision: str) -> None:
    packed = pack(inference(Block(dim=32, heads=4), precision))
    with pytest.raises(InputError, match=r"duotrack\.build_net"):
        packed.state_dict()
