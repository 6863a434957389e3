"""Layers that multiply in 8 bits: whole numbers exactly, and near enough to what was rounded."""

import copy
import gc
import os
import weakref
from dataclasses import replace

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
from duotrack.runtime import tile_library, torch_backend
from duotrack.runtime.deploy import deploy
from duotrack.runtime.packed import pack
from duotrack.runtime.tile_ops import Conv, convs, mlp, pack_layer
from duotrack.runtime.tiles import TileBlock, in_8_bits, packed_block
from duotrack.runtime.torch_backend import keeps_templates, prepare, resolve_device
from units import on_threads, ready, restless, units

CPU = torch.device("cpu")
LOWEST = 0.17
"""Of what comes of a GELU, and 16 of the 255 steps below zero (`kernels/int8.h`)."""


def stepped(rows: Tensor, *, activated: bool = False) -> Tensor:
    """Rows as whole multiples of their own step, rounded as the kernels do, in double precision."""
    top = rows.abs().amax(-1, keepdim=True).float()
    low = (top >= LOWEST / 16 * 127) & activated
    step = torch.where(low, (top / 239).clamp_min(LOWEST / 16), top / 127)
    zero = torch.where(low, 16.0, 128.0).double()
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
@given(
    rows=st.integers(1, 500),
    channels=st.integers(1, 6) | st.integers(47, 60),
    hidden=st.integers(1, 30),
    threads=st.integers(1, 5),
    size=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
)
def test_an_mlp(rows: int, channels: int, hidden: int, threads: int, size: float) -> None:
    """Also one whose hidden numbers are small, or large."""
    torch.manual_seed(rows)
    first = size * torch.randn(1, hidden * 64, channels * 32).bfloat16() * (channels * 32) ** -0.5
    second = torch.randn(1, 64, hidden * 64).bfloat16() * (hidden * 64) ** -0.5
    tokens = torch.randn(rows, channels * 32).bfloat16()
    between = F.gelu(stepped(tokens) @ multiples(first[0]).T)
    exact = stepped(between, activated=True) @ multiples(second[0]).T
    with on_threads(threads), torch.inference_mode():
        ours = mlp(tokens, *(pack_layer(each, None, int8=True) for each in (first, second)))
        near(ours / exact.abs().max(), exact / exact.abs().max(), 5e-2)  # the kernel has a step for 512 of the hidden


@units
def test_what_comes_of_a_gelu_keeps_its_lowest() -> None:
    """The least of all, -0.17, where the row's largest leaves 16 steps for it, and no fewer."""
    least, same = -0.7518, torch.eye(64)[None].bfloat16()
    tokens = torch.full((1, 64), least).bfloat16()
    for top in (1.0, 2.0, 4.0):
        tokens[0, 0] = top
        with torch.inference_mode():
            made = mlp(tokens, *[pack_layer(same, None, int8=True)] * 2)[0, 1:].double()
        found = F.gelu(tokens[0, 1:].double())
        step = top / 127  # of the tokens
        torch.testing.assert_close(made, found, atol=max(LOWEST / 16, top / 239) / 2 + 1e-3 + 0.02 * step, rtol=0)


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
    block = restless(heads * blocks * 32, heads, "bf16")
    ours, exact = TileBlock(block, in_8_bits(block)), copy.deepcopy(block).double()
    tokens = 1 + 2 * torch.randn(samples, count, heads * blocks * 32).bfloat16()
    some = int(part * count)
    with on_threads(threads), torch.inference_mode():
        near(ours(tokens), exact(tokens.double()), 6e-2)
        near(ours.attend(tokens, skip=some)[0], exact.attend(tokens.double(), skip=some)[0], 6e-2)
        near(through(tokens, [ours, ours], skip=some), through(tokens.double(), [exact, exact], skip=some), 8e-2)
        seen, row = ours.attend(tokens, query=some)
        whole, weights = exact.attend(tokens.double(), query=some)
        near(seen, whole, 6e-2)
        assert row is not None
        torch.testing.assert_close(row, weights.float(), atol=6e-2, rtol=0)


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
    block = restless(64, 2, "bf16")
    ours = TileBlock(block, in_8_bits(block))
    tokens = torch.randn(1, 40, 64).bfloat16()
    tokens[0, 7, 3] = strange
    with torch.inference_mode():
        assert not ours.attend(tokens)[0].isfinite().any()
        fed = ~ours.feed(tokens).isfinite().all(dim=-1)[0]
        alone = convs(tokens[None], (Conv(ours.packed.proj),))[0, 0].isfinite().any(dim=-1)
        after = mlp(tokens, ours.packed.first, ours.packed.second)[0].isfinite().any(dim=-1)
    assert fed.nonzero().flatten().tolist() == [7]
    assert (~alone).nonzero().flatten().tolist() == [7]
    assert (~after).nonzero().flatten().tolist() == [7]


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
    block = restless(128, 4, "bf16")
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


@units
def test_weights_are_fitted_before_they_are_rounded_and_no_others_stay() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Block(dim=64, heads=2))
    weight = net[0].mlp.fc1.weight
    old = weakref.ref(net[0].mlp.fc1)
    whole, rounded = (pack_layer(each.detach()[None], None, int8=True).weights for each in (weight, weight.bfloat16()))
    assert not torch.equal(whole, rounded)
    kept = weakref.ref(weight)
    del weight
    run = prepare(net, device=CPU, precision="int8", packed=True)
    packed = next(part for part in run.modules() if isinstance(part, TileBlock)).packed
    assert torch.equal(packed.first.weights, whole)
    del net
    gc.collect()
    assert old() is None
    assert kept() is None


@pytest.mark.parametrize(
    ("suited", "said", "words"),
    [
        ([], "1", "this processor"),
        (["avx512"], "0", "DUOTRACK_KERNELS is 0; unset it"),
        (["avx512"], "amx", "DUOTRACK_KERNELS is amx; unset it"),
        (["avx512"], "1", "install g"),
    ],
)
def test_where_there_is_none_it_is_said(
    suited: list[str], said: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_library, "_library", lambda _: None)
    monkeypatch.setattr(torch_backend, "suited", lambda: suited)
    monkeypatch.setattr(torch_backend, "can_pack", lambda *_: True)
    monkeypatch.setenv("DUOTRACK_KERNELS", said)
    with pytest.raises(InputError, match=words):
        resolve_device("cpu", "int8")


@units
def test_where_torch_multiplies_no_bf16_there_is_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_device("cpu", "int8")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(InputError, match="what torch may use of it"):
        resolve_device("cpu", "int8")


def test_gpus_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="on the CPU only"):
        resolve_device("cuda", "int8")


@units
def test_layers_of_other_numbers_do_not_follow() -> None:
    eight, half = (pack_layer(torch.zeros(1, 64, 64).bfloat16(), None, int8=each) for each in (True, False))
    with pytest.raises(ValueError, match="int8"):
        mlp(torch.zeros(2, 64).bfloat16(), eight, half)
    with pytest.raises(ValueError, match="do not fit"):
        mlp(torch.zeros(2, 64), eight, eight)
    up, down = (pack_layer(torch.zeros(1, *sizes).bfloat16(), None, int8=True) for sizes in ((96, 64), (64, 96)))
    with pytest.raises(ValueError, match="96 hidden numbers"):
        mlp(torch.zeros(2, 64).bfloat16(), up, down)
    block = packed_block(whole := restless(64, 2, "bf16"), in_8_bits(whole))
    with pytest.raises(ValueError, match="96 hidden numbers"):
        replace(block, first=up, second=down)


@units
def test_blocks_that_multiply_other_numbers_may_follow() -> None:
    torch.manual_seed(0)
    blocks = [restless(64, 2, "bf16") for _ in range(3)]
    ours = [TileBlock(block, in_8_bits(block) if i != 1 else None) for i, block in enumerate(blocks)]
    tokens = torch.randn(2, 40, 64).bfloat16()
    with torch.inference_mode():
        exact = through(tokens.double(), [copy.deepcopy(block).double() for block in blocks], skip=5)
        near(through(tokens, ours, skip=5), exact, 6e-2)


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
