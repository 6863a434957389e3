"""The stem of small backbones in C++ of ours: windows of tokens, from the picture on."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.evaluation.stopwatch import counted
from duotrack.models.hiera import HieraStem, StemBlock, WindowEmbed
from duotrack.runtime.packed import pack
from duotrack.runtime.tile_stem import TileWindowEmbed, embed_fits
from duotrack.runtime.tiles import TileBlock, block_fits
from units import TYPES, near, on_threads, ready, units


@units
def test_blocks_of_a_stem(precision: str) -> None:
    torch.manual_seed(0)
    block = ready(StemBlock(dim_in=96, dim=96, heads=1, pool=False), precision)
    assert block_fits(block)
    windows = torch.randn(72, 64, 96, dtype=TYPES[precision])
    with torch.inference_mode():
        near(TileBlock(block)(windows), copy.deepcopy(block).double()(windows.double()), precision)


@units
@settings(deadline=None, max_examples=40)
@given(
    windows=st.integers(1, 14),
    tiles=st.integers(1, 24),
    heads=st.integers(1, 4),
    blocks=st.tuples(st.integers(1, 6), st.integers(1, 3)),
    threads=st.integers(1, 5),
    name=st.sampled_from(sorted(TYPES)),
)
def test_blocks_that_pool(
    windows: int, tiles: int, heads: int, blocks: tuple[int, int], threads: int, name: str
) -> None:
    torch.manual_seed(windows)
    inputs, outputs = 32 * blocks[0], 32 * heads * blocks[1]
    block = StemBlock(dim_in=inputs, dim=outputs + 32 * heads * (inputs == outputs), heads=heads, pool=True)
    block = ready(block, name)
    assert block_fits(block)
    tokens = 1 + 2 * torch.randn(windows, 16 * tiles, inputs, dtype=TYPES[name])
    with on_threads(threads), torch.inference_mode():
        near(TileBlock(block)(tokens), copy.deepcopy(block).double()(tokens.double()), name)
        assert TileBlock(block)(tokens[:0]).shape == (0, 4 * tiles, block.norm2.weight.shape[0])


@units
def test_windows_that_pool_know_nothing_of_one_another(precision: str) -> None:
    block = TileBlock(ready(StemBlock(dim_in=96, dim=192, heads=2, pool=True), precision))
    windows = torch.randn(9, 16, 96, dtype=TYPES[precision])
    with torch.inference_mode():
        usual = block(windows)
        windows[4, 3, 5] = float("nan")
        found = block(windows)
    assert found[4].isnan().all()
    assert torch.equal(found[:4], usual[:4])
    assert torch.equal(found[5:], usual[5:])


@units
def test_blocks_of_a_stem_that_pool_or_widen_alone_do_not_fit() -> None:
    assert block_fits(StemBlock(dim_in=96, dim=192, heads=1, pool=True))
    assert not block_fits(StemBlock(dim_in=96, dim=96, heads=1, pool=True))
    assert not block_fits(StemBlock(dim_in=96, dim=192, heads=1, pool=False))
    assert not block_fits(StemBlock(dim_in=80, dim=192, heads=1, pool=True))


@units
@settings(deadline=None, max_examples=30)
@given(
    pictures=st.integers(0, 3),
    high=st.integers(1, 5),
    wide=st.integers(1, 5),
    blocks=st.integers(1, 4),
    threads=st.integers(1, 5),
    name=st.sampled_from(sorted(TYPES)),
)
def test_first_tokens(pictures: int, high: int, wide: int, blocks: int, threads: int, name: str) -> None:
    torch.manual_seed(wide)
    embed = ready(WindowEmbed(dim=32 * blocks), name)
    assert embed_fits(embed)
    images = torch.randn(pictures, 3, 32 * high, 32 * wide, dtype=TYPES[name])
    where = torch.randn(high * wide, 64, 32 * blocks, dtype=TYPES[name])
    with on_threads(threads), torch.inference_mode():
        exact = copy.deepcopy(embed).double()(images.double(), where.double())
        near(TileWindowEmbed(embed)(images, where), exact, name)


@units
def test_what_is_no_number_stays_in_patches_that_have_it(precision: str) -> None:
    embed = ready(WindowEmbed(dim=32), precision)
    image, where = torch.randn(1, 3, 32, 64, dtype=TYPES[precision]), torch.zeros(2, 64, 32, dtype=TYPES[precision])
    image[0, 1, 9, 20] = float("nan")
    with torch.inference_mode():
        ours = TileWindowEmbed(embed)(image, where)
        exact = copy.deepcopy(embed).double()(image.double(), where.double())
    assert torch.equal(ours.isnan(), exact.isnan())
    assert ours.isnan().any()


@units
def test_pictures_may_lie_anyhow(precision: str) -> None:
    embed = TileWindowEmbed(ready(WindowEmbed(dim=32), precision))
    image, where = torch.randn(2, 32, 64, 3, dtype=TYPES[precision]), torch.randn(32, 2, 64, dtype=TYPES[precision])
    turned, placed = image.permute(0, 3, 1, 2), where.permute(1, 2, 0)
    with torch.inference_mode():
        assert torch.equal(embed(turned, placed), embed(turned.contiguous(), placed.contiguous()))


@units
def test_what_does_not_fit_a_stem_is_refused() -> None:
    embed, pool = WindowEmbed(dim=32).bfloat16(), StemBlock(dim_in=32, dim=64, heads=2, pool=True).bfloat16()
    assert not embed_fits(WindowEmbed(dim=48))
    assert not embed_fits(WindowEmbed(dim=32).double())
    first, second = TileWindowEmbed(embed), TileBlock(pool)
    image, where = torch.zeros(1, 3, 32, 32).bfloat16(), torch.zeros(1, 64, 32).bfloat16()
    with torch.inference_mode():
        assert first(image, where).shape == (1, 64, 32)
        for wrong, message in (
            ((image[:, :2], where), "do not fit packed weights"),
            ((image.float(), where), "do not fit packed weights"),
            ((image[..., :16], where), "windows of 32 x 32 in 16 x 32"),
            ((image[..., :0], where), "windows of 32 x 32"),
            ((image, where[:, :60]), "positions"),
            ((image, where.float()), "positions"),
            ((image.repeat(1, 1, 2, 1), where), "positions"),
        ):
            with pytest.raises(ValueError, match=message):
                first(*wrong)
        assert second(torch.zeros(3, 16, 32).bfloat16()).shape == (3, 4, 64)
        for count, message in ((12, "not 12"), (0, "not 0"), (400, "not 400")):
            with pytest.raises(ValueError, match=message):
                second(torch.zeros(3, count, 32).bfloat16())
        for wrong_tokens in (torch.zeros(3, 16, 64).bfloat16(), torch.zeros(3, 16, 32)):
            with pytest.raises(ValueError, match="do not fit packed weights"):
                second(wrong_tokens)
        with pytest.raises(ValueError, match="a block that pools goes through both halves"):
            second.attend(torch.zeros(3, 16, 32).bfloat16())
        with pytest.raises(ValueError, match="of 4 tokens 1 are left out"):
            second.through(torch.zeros(3, 16, 32).bfloat16(), [], skip=1)


@units
def test_a_whole_stem(precision: str) -> None:
    torch.manual_seed(0)
    stem = ready(HieraStem(), precision)
    images = [torch.randn(2, 3, 96, 96, dtype=TYPES[precision]), torch.randn(1, 3, 192, 192, dtype=TYPES[precision])]
    run = pack(copy.deepcopy(stem))
    assert [type(part) for part in run.blocks] == [TileBlock] * 4
    assert isinstance(run.patch_embed, TileWindowEmbed)
    with torch.inference_mode():
        exact = copy.deepcopy(stem).double()([image.double() for image in images])
        for ours, expected in zip(run(images), exact, strict=True):
            near(ours, expected, precision)
        run.fix_positions(96)
        near(run(images[:1])[0], exact[0], precision)


@units
def test_operations_of_a_stem_are_counted(precision: str) -> None:
    stem = ready(HieraStem(), precision)
    images = [torch.zeros(2, 3, 64, 64, dtype=TYPES[precision])]
    run = pack(copy.deepcopy(stem))
    with torch.inference_mode():
        assert counted(lambda: run(images)) == counted(lambda: stem(images)) > 0
