"""Whole blocks in C++ of ours: the numbers of `Block`, whoever else computes at the time."""

import copy
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from duotrack.models.attention import Block, Mlp, through
from duotrack.models.zoo import model_spec
from duotrack.runtime.deploy import deploy
from duotrack.runtime.packed import PackedLinear, pack
from duotrack.runtime.tile_block_ops import attention as tile_attention
from duotrack.runtime.tiles import TileBlock, TileMlp, block_fits
from duotrack.runtime.torch_backend import keeps_templates, prepare
from units import TYPES, near, on_threads, ready, restless, units

CPU = torch.device("cpu")


@units
@settings(deadline=None, max_examples=60)
@given(
    samples=st.integers(1, 3),
    count=st.integers(1, 460),
    heads=st.integers(1, 4),
    blocks=st.integers(1, 3),
    threads=st.integers(1, 5),
    name=st.sampled_from(sorted(TYPES)),
    part=st.floats(0, 1, exclude_max=True),
)
def test_any_block_on_any_number_of_threads(
    samples: int, count: int, heads: int, blocks: int, threads: int, name: str, part: float
) -> None:
    torch.manual_seed(count)
    block = restless(heads * blocks * 32, heads, name)
    assert block_fits(block)
    ours, exact = TileBlock(block), copy.deepcopy(block).double()
    tokens = 1 + 2 * torch.randn(samples, count, heads * blocks * 32, dtype=TYPES[name])
    some = int(part * count)
    with on_threads(threads), torch.inference_mode():
        near(ours(tokens), exact(tokens.double()), name)
        near(ours.feed(tokens), exact.feed(tokens.double()), name)
        found, none = ours.attend(tokens, skip=some)
        near(found, exact.attend(tokens.double(), skip=some)[0], name)
        assert none is None
        seen, row = ours.attend(tokens, query=some)
        whole, weights = exact.attend(tokens.double(), query=some)
        near(seen, whole, name)
        torch.testing.assert_close(row, weights.float(), atol=5e-3 if name == "bf16" else 3e-5, rtol=0)


@units
def test_tokens_may_lie_anyhow_and_be_none(precision: str) -> None:
    block = restless(64, 2, precision)
    ours = TileBlock(block)
    tokens = torch.randn(64, 3, 20, dtype=TYPES[precision]).permute(1, 2, 0)
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), ours(tokens.contiguous()))
        assert ours(tokens[:0]).shape == (0, 20, 64)
        assert ours.attend(tokens, skip=20)[0].shape == (3, 0, 64)
        assert ours.attend(tokens[:0], query=3)[1].shape == (0, 2, 20)


@units
def test_norms_of_far_off_tokens(precision: str) -> None:
    block = restless(96, 3, precision)
    tokens = 300 + torch.randn(1, 40, 96).to(TYPES[precision])
    with torch.inference_mode():
        residual = TileBlock(block).feed(tokens).double() - tokens.double()
        exact = copy.deepcopy(block).double().feed(tokens.double()) - tokens.double()
        atol = 1.01 if precision == "bf16" else 1e-3  # numbers of bfloat16 lie 2 apart there
        torch.testing.assert_close(residual, exact, atol=atol, rtol=0)


@units
@pytest.mark.parametrize("size", [0.0, 1e-3], ids=["nothing", "little"])
def test_norms_of_tokens_that_hardly_vary(size: float, precision: str) -> None:
    torch.manual_seed(0)
    block = restless(96, 3, precision)
    block.norm1.bias.zero_()
    block.norm2.bias.zero_()
    ours, exact = TileBlock(block), copy.deepcopy(block).double()
    tokens = (size * torch.randn(1, 40, 96)).to(TYPES[precision])
    with torch.inference_mode():
        for half in ("feed", "forward"):
            near(getattr(ours, half)(tokens), getattr(exact, half)(tokens.double()), precision)
        torch.testing.assert_close(
            ours.feed(tokens).double() - exact.feed(tokens.double()),
            torch.zeros(1, 40, 96, dtype=torch.float64),
            atol=1e-2 if precision == "bf16" else 2e-5,
            rtol=0,
        )


@units
def test_what_hangs_on_a_block_stays(precision: str) -> None:
    block = Block(dim=64, heads=2)
    block.add_module("prompter", nn.Sequential(Mlp(dim=64, hidden=32)))
    packed = pack(ready(nn.Sequential(block), precision))[0]
    assert isinstance(packed, TileBlock)
    assert [type(part) for part in packed.get_submodule("prompter")] == [TileMlp]


@units
@pytest.mark.parametrize(("dim", "heads", "ratio"), [(96, 2, 4), (48, 1, 4), (64, 2, 0.75)])
def test_other_blocks_do_not_fit(dim: int, heads: int, ratio: float) -> None:
    assert block_fits(Block(dim=64, heads=2))
    assert not block_fits(Block(dim=dim, heads=heads, mlp_ratio=ratio))


@units
def test_blocks_within_are_replaced_and_a_block_alone_is_packed(precision: str) -> None:
    within = pack(ready(nn.Sequential(Block(dim=64, heads=2)), precision))
    assert [type(part) for part in within] == [TileBlock]
    alone = pack(ready(Block(dim=64, heads=2), precision))
    assert isinstance(alone.mlp, TileMlp)
    assert isinstance(alone.attn, nn.Module)
    assert alone.attn.dot_product is tile_attention
    assert not [name for name, part in alone.named_modules() if isinstance(part, nn.Linear | PackedLinear)]


@units
def test_what_is_no_number_is_not_hidden(precision: str) -> None:
    ours = TileBlock(restless(64, 2, precision))
    tokens = torch.randn(1, 40, 64, dtype=TYPES[precision])
    tokens[0, 7, 3] = torch.nan
    with torch.inference_mode():
        assert ours.attend(tokens)[0].isnan().all()
        fed = ours.feed(tokens).isnan().all(dim=-1)[0]
    assert fed.nonzero().flatten().tolist() == [7]


@units
def test_threads_may_share_blocks(precision: str) -> None:
    torch.manual_seed(0)
    block = TileBlock(restless(64, 2, precision))
    tokens = [torch.randn(1, 20 + 40 * i, 64, dtype=TYPES[precision]) for i in range(4)]
    begin = threading.Barrier(4)

    def run(given: Tensor) -> list[Tensor]:
        begin.wait()
        with torch.inference_mode():
            return [block(given) for _ in range(20)]

    with torch.inference_mode():
        alone = [block(each) for each in tokens]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone, pool.map(run, tokens), strict=True):
            for each in found:
                torch.testing.assert_close(each, expected)


@units
@pytest.mark.parametrize("available", [("rgb", "aux"), ("rgb",), ("aux",)], ids=" ".join)
@pytest.mark.parametrize(
    ("model", "atol", "precision"),
    [("ckd-tiny", 1e-4, "fp32"), ("ckd-tiny", 5e-2, "bf16"), ("ipl-tiny", 1e-4, "fp32"), ("tpf-tiny", 1e-4, "fp32")],
)
def test_a_network_tracks_as_without_the_units(
    model: str, atol: float, precision: str, available: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    net = deploy(model_spec(model).build())
    given_names = [name in available for name in ("rgb", "aux")]
    template, search = (
        [torch.randn(1, 3, size, size) if there else None for there in given_names] for size in (96, 192)
    )
    maps = []
    for switch, given_precision in (("0", "fp32"), (os.environ["DUOTRACK_KERNELS"], precision)):
        monkeypatch.setenv("DUOTRACK_KERNELS", switch)
        run = prepare(copy.deepcopy(net), device=CPU, precision=given_precision, packed=True)
        assert any(isinstance(part, TileBlock) for part in run.modules()) == (switch != "0")
        with torch.inference_mode():
            memory = run.remember(template) if keeps_templates(run) else template
            maps.append(run(template=memory, search=search, available=available))
    for name in ("score_map", "size_map", "offset_map"):
        torch.testing.assert_close(getattr(maps[0], name), getattr(maps[1], name), atol=atol, rtol=0)


@units
@pytest.mark.parametrize("skip", [0, 5, 40])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_blocks_gone_through_together(count: int, skip: int, precision: str) -> None:
    torch.manual_seed(0)
    blocks = [restless(64, 2, precision) for _ in range(count)]
    tokens = torch.randn(3, 40, 64, dtype=TYPES[precision])
    ours = [TileBlock(block) for block in blocks]
    with torch.inference_mode():
        exact = through(tokens.double(), [copy.deepcopy(block).double() for block in blocks], skip=skip)
        near(through(tokens, ours, skip=skip), exact, precision)
        near(through(tokens, [*blocks[:1], *ours[1:]], skip=skip), exact, precision)
        near(through(tokens, [*ours[:-1], *blocks[-1:]], skip=skip), exact, precision)
        assert through(tokens[:0], ours, skip=skip).shape == (0, 40 - skip, 64)
