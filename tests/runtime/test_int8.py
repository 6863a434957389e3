"""Layers that multiply in 8 bits: whole numbers exactly, and near enough to what was rounded."""

import copy
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.errors import InputError
from duotrack.evaluation.stopwatch import counted
from duotrack.models.attention import Block, through
from duotrack.models.hiera import StemBlock
from duotrack.models.patrack import AdaptedBlock
from duotrack.models.zoo import model_spec
from duotrack.runtime import tile_library
from duotrack.runtime.deploy import deploy
from duotrack.runtime.packed import pack
from duotrack.runtime.tile_ops import Conv, convs, mlp, pack_layer
from duotrack.runtime.tiles import TileBlock, in_8_bits, packed_block
from duotrack.runtime.torch_backend import keeps_templates, prepare, resolve_device
from units import on_threads, ready, units

CPU = torch.device("cpu")
LOWEST = 0.17
"""Of what comes of a GELU, and 16 of the 255 steps below zero (`kernels/int8.h`)."""


def stepped(rows: Tensor, *, activated: bool = False) -> Tensor:
    """Rows as whole multiples of their own step, rounded as the kernels do, in double precision."""
    top = rows.abs().amax(-1, keepdim=True).float()
    step = (top / 239).clamp_min(LOWEST / 16) if activated else top / 127
    zero = 16 if activated else 128
    at = (rows.double() * (1 / step.clamp_min(1e-30)).double() + zero).float()  # as one operation
    return (at.round().clamp(0, 255) - zero).double() * step.double()


def multiples(weight: Tensor) -> Tensor:
    """Weights likewise."""
    step = weight.float().abs().amax(-1, keepdim=True) / 127
    return (weight.float() / step.clamp_min(1e-30)).round().double() * step.double()


def near(ours: Tensor, exact: Tensor, share: float) -> None:
    """Numbers of bfloat16 are off by a share of the largest."""
    assert ours.dtype == torch.bfloat16
    assert ours.shape == exact.shape
    scale = max(float(exact.abs().max()), 1.0) if exact.numel() else 1.0
    torch.testing.assert_close(ours.double(), exact, atol=share * scale, rtol=0)


def made(dim: int, heads: int) -> Block:
    """A block whose norms and biases do something."""
    block = Block(dim=dim, heads=heads)
    for name, parameter in block.named_parameters():
        nn.init.normal_(parameter, 1.0 if name in ("norm1.weight", "norm2.weight") else 0.0, 0.3)
    for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
        nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
    return ready(block, "bf16")


@units
@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 400),
    inputs=st.integers(1, 60),
    outputs=st.integers(1, 5),
    threads=st.integers(1, 4),
    size=st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_whole_numbers_are_multiplied_exactly(rows: int, inputs: int, outputs: int, threads: int, size: float) -> None:
    torch.manual_seed(rows)
    weight, bias = torch.randn(outputs * 32, inputs * 32).bfloat16(), torch.randn(outputs * 32).bfloat16()
    tokens = (size * torch.randn(rows, inputs * 32)).bfloat16()
    spans = [stepped(part) for part in tokens.split(24 * 64, dim=-1)]  # laid out, so many at a time
    exact = torch.cat(spans, dim=-1) @ multiples(weight).T + bias.double()
    with on_threads(threads), torch.inference_mode():
        near(convs(tokens[None, None], (Conv(pack_layer(weight[None], bias, int8=True)),))[0, 0], exact, 4e-3)


@units
@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("channels", [32, 64, 96])
def test_convolutions(side: int, channels: int) -> None:
    torch.manual_seed(channels)
    conv = nn.Conv2d(channels, 64, kernel_size=side, padding=side // 2).bfloat16().requires_grad_(False)
    by_place = conv.weight.permute(0, 2, 3, 1).flatten(1)[None]
    cells = torch.randn(2, channels, 5, 7).bfloat16()
    with torch.inference_mode():
        ours = convs(cells.permute(0, 2, 3, 1), (Conv(pack_layer(by_place, conv.bias, int8=True), side=side),))
        near(ours.permute(0, 3, 1, 2), copy.deepcopy(conv).double()(cells.double()), 2e-2)


@units
@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 500), channels=st.integers(1, 6), hidden=st.integers(1, 30), threads=st.integers(1, 5))
def test_an_mlp(rows: int, channels: int, hidden: int, threads: int) -> None:
    torch.manual_seed(rows)
    first = torch.randn(1, hidden * 64, channels * 32).bfloat16() * (channels * 32) ** -0.5
    second = torch.randn(1, 64, hidden * 64).bfloat16() * (hidden * 64) ** -0.5
    tokens = torch.randn(rows, channels * 32).bfloat16()
    between = F.gelu(stepped(tokens) @ multiples(first[0]).T)
    with on_threads(threads), torch.inference_mode():
        ours = mlp(tokens, *(pack_layer(each, None, int8=True) for each in (first, second)))
        near(ours, stepped(between, activated=True) @ multiples(second[0]).T, 2e-2)


@units
@settings(deadline=None, max_examples=40)
@given(
    samples=st.integers(1, 3),
    count=st.integers(1, 460),
    heads=st.integers(1, 4),
    blocks=st.integers(1, 3),
    threads=st.integers(1, 5),
    part=st.floats(0, 1, exclude_max=True),
)
def test_any_block_on_any_number_of_threads(
    samples: int, count: int, heads: int, blocks: int, threads: int, part: float
) -> None:
    torch.manual_seed(count)
    block = made(heads * blocks * 32, heads)
    ours, exact = TileBlock(block, in_8_bits(block)), copy.deepcopy(block).double()
    tokens = 1 + 2 * torch.randn(samples, count, heads * blocks * 32).bfloat16()
    some = int(part * count)
    with on_threads(threads), torch.inference_mode():
        near(ours(tokens), exact(tokens.double()), 4e-2)
        near(ours.attend(tokens, skip=some)[0], exact.attend(tokens.double(), skip=some)[0], 4e-2)
        near(through(tokens, [ours, ours], skip=some), through(tokens.double(), [exact, exact], skip=some), 6e-2)
        seen, row = ours.attend(tokens, query=some)
        whole, weights = exact.attend(tokens.double(), query=some)
        near(seen, whole, 4e-2)
        assert row is not None
        torch.testing.assert_close(row, weights.float(), atol=3e-2, rtol=0)


@units
@pytest.mark.parametrize("inputs", [96, 64])
def test_blocks_that_pool(inputs: int) -> None:
    torch.manual_seed(0)
    block = ready(StemBlock(dim_in=inputs, dim=192, heads=2, pool=True), "bf16")
    tokens = torch.randn(9, 64, inputs).bfloat16()
    with torch.inference_mode():
        near(TileBlock(block, in_8_bits(block))(tokens), copy.deepcopy(block).double()(tokens.double()), 4e-2)


@units
@pytest.mark.parametrize("entangled", [False, True])
def test_blocks_with_adapters(entangled: bool) -> None:
    torch.manual_seed(0)
    block = ready(AdaptedBlock(dim=64, heads=2, width=32), "bf16")
    tokens = torch.randn(4, 16 + 36, 64).bfloat16()
    how = {"entangled": entangled, "crossed": True}
    exact = copy.deepcopy(block).double()(tokens.double(), (4, 6), **how)
    net = pack(nn.Sequential(block), in_8_bits(block))
    assert net[0].packed.first.numbers == "int8"
    with torch.inference_mode():
        near(net[0](tokens, (4, 6), **how), exact, 4e-2)


@units
def test_units_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight, tokens = torch.randn(1, 96, 160).bfloat16(), torch.randn(1, 1, 75, 160).bfloat16()
    here, found = os.environ["DUOTRACK_KERNELS"], []
    for each in (here, {"amx": "avx512", "avx512": "amx"}[here]):
        monkeypatch.setenv("DUOTRACK_KERNELS", each)
        found.append(convs(tokens, (Conv(pack_layer(weight, None, int8=True)),)))
    torch.testing.assert_close(*found, rtol=0, atol=0)


@units
@pytest.mark.parametrize("strange", [torch.nan, -torch.nan, torch.inf, -torch.inf], ids=str)
def test_what_is_no_number_is_not_hidden(strange: float) -> None:
    block = made(64, 2)
    ours = TileBlock(block, in_8_bits(block))
    tokens = torch.randn(1, 40, 64).bfloat16()
    tokens[0, 7, 3] = strange
    with torch.inference_mode():
        assert not ours.attend(tokens)[0].isfinite().any()
        fed = ~ours.feed(tokens).isfinite().all(dim=-1)[0]
        alone = convs(tokens[None], (Conv(ours.packed.proj),))[0, 0].isfinite().any(dim=-1)
    assert fed.nonzero().flatten().tolist() == [7]
    assert (~alone).nonzero().flatten().tolist() == [7]


@units
def test_rows_and_outputs_of_zeros() -> None:
    weight, bias = torch.randn(1, 64, 64).bfloat16(), torch.randn(64).bfloat16()
    weight[0, 5] = 0
    tokens = torch.zeros(1, 1, 3, 64).bfloat16()
    tokens[0, 0, 1] = 1e-38
    with torch.inference_mode():
        made = convs(tokens, (Conv(pack_layer(weight, bias, int8=True)),))[0, 0]
        torch.testing.assert_close(made, bias.expand(3, 64), rtol=0, atol=0)
        assert (convs(torch.randn_like(tokens), (Conv(pack_layer(weight, bias, int8=True)),))[..., 5] == bias[5]).all()


@units
def test_weights_take_half_and_operations_are_the_same() -> None:
    block = made(128, 4)
    whole, half = (packed_block(block, eight) for eight in (None, in_8_bits(block)))
    for name in ("qkv", "proj", "first", "second"):
        assert getattr(half, name).weights.nbytes < 0.6 * getattr(whole, name).weights.nbytes
    tokens = torch.randn(2, 9, 128).bfloat16()
    counts = [counted(lambda eight=eight: TileBlock(block, eight)(tokens)) for eight in (None, in_8_bits(block))]
    assert counts[0] == counts[1] > 0


@units
@pytest.mark.parametrize("available", [("rgb", "aux"), ("aux",)], ids=" ".join)
@pytest.mark.parametrize("model", ["ckd-tiny", "ipl-tiny", "tpf-tiny"])
def test_a_network_tracks_as_in_fp32(model: str, available: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    net = deploy(model_spec(model).build())
    given_names = [name in available for name in ("rgb", "aux")]
    template, search = (
        [torch.randn(1, 3, size, size) if there else None for there in given_names] for size in (96, 192)
    )
    maps = []
    for precision in ("fp32", "int8"):
        run = prepare(copy.deepcopy(net), device=CPU, precision=precision, packed=True)
        eight = [part.packed.qkv.numbers == "int8" for part in run.modules() if isinstance(part, TileBlock)]
        assert set(eight) == {precision == "int8"}
        with torch.inference_mode():
            memory = run.remember(template) if keeps_templates(run) else template
            maps.append(run(template=memory, search=search, available=available))
    for name in ("score_map", "size_map", "offset_map"):
        torch.testing.assert_close(getattr(maps[0], name), getattr(maps[1], name), atol=0.15, rtol=0)


@pytest.mark.parametrize(("gpus", "device", "words"), [(1, "cuda", "on the CPU only"), (0, "cpu", "DUOTRACK_KERNELS")])
def test_where_there_is_none_it_is_said(gpus: int, device: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(tile_library, "_library", lambda _: None)
    with pytest.raises(InputError, match=words):
        resolve_device(device, "int8")
    monkeypatch.setenv("DUOTRACK_KERNELS", "0")
    with pytest.raises(InputError, match="int8"):
        resolve_device(device, "int8")


@units
def test_layers_of_other_numbers_do_not_follow() -> None:
    eight, half = (pack_layer(torch.zeros(1, 64, 64).bfloat16(), None, int8=each) for each in (True, False))
    with pytest.raises(ValueError, match="int8"):
        mlp(torch.zeros(2, 64).bfloat16(), eight, half)
    with pytest.raises(ValueError, match="do not fit"):
        mlp(torch.zeros(2, 64), eight, eight)


@units
@pytest.mark.parametrize(("dim", "ratio", "numbers"), [(48, 4, None), (64, 1.5, "bf16"), (64, 2, "int8")])
def test_blocks_that_do_not_fit_stay_in_bf16(dim: int, ratio: float, numbers: str | None) -> None:
    net = nn.Sequential(Block(dim=dim, heads=1, mlp_ratio=ratio)).eval().requires_grad_(False)
    eight = in_8_bits(net)
    pack(net.bfloat16(), eight)
    assert isinstance(net[0], TileBlock) == (numbers is not None)
    assert numbers is None or net[0].packed.first.numbers == numbers
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, dim).bfloat16()).isfinite().all()
