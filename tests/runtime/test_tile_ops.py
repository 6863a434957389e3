"""What kernels are told to read is there, and what they compute is counted."""

import copy
import itertools
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.evaluation.stopwatch import counted
from duotrack.models.attention import Block, Mlp, through
from duotrack.models.hiera import WindowEmbed
from duotrack.models.zoo import model_spec
from duotrack.runtime import tile_block_ops, tile_library, tile_ops
from duotrack.runtime.deploy import deploy
from duotrack.runtime.packed import pack
from duotrack.runtime.tile_block_ops import attention
from duotrack.runtime.tile_ops import Conv, Norm, convs, mlp, pack_layer
from duotrack.runtime.tile_scan import tile_scan
from duotrack.runtime.tile_stem import TileWindowEmbed
from duotrack.runtime.tiles import TileBlock, TileLinear, TileMlp, TilePatches, packed_block
from duotrack.runtime.torch_backend import prepare
from units import TYPES, ready, units

OTHER = (torch.bfloat16, torch.float16, torch.float64)


@units
def test_operations_are_counted(precision: str) -> None:
    block = ready(Block(dim=64, heads=2), precision)
    conv = ready(nn.Conv2d(32, 96, kernel_size=4, stride=4), precision)
    tokens, cells = torch.randn(2, 9, 64, dtype=TYPES[precision]), torch.randn(3, 32, 8, 8, dtype=TYPES[precision])

    def forward(first: nn.Module, second: nn.Module) -> None:
        with torch.inference_mode():
            first(tokens)
            second(cells)

    plain = counted(lambda: forward(block, conv))
    for packed in (pack(copy.deepcopy(block)), TileBlock(block)):
        assert counted(lambda: forward(packed, TilePatches(conv))) == plain > 0  # noqa: B023  (called at once)
    ours = TileBlock(block)
    with torch.inference_mode():
        few = counted(lambda: block.attend(tokens, skip=4))
        assert counted(lambda: ours.attend(tokens, skip=4)) == few
        whole = counted(lambda: through(tokens, [block] * 3, skip=4))
        assert counted(lambda: through(tokens, [ours] * 3, skip=4)) == whole
    assert counted(lambda: None) == 0


@units
def test_what_does_not_fit_packed_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    linear, both = TileLinear(nn.Linear(64, 32)), TileMlp(Mlp(dim=64, hidden=32))
    wrong = [torch.zeros(1, 4, 32), torch.zeros(1, 4, 96), *(torch.zeros(1, 4, 64).to(t) for t in OTHER)]
    with torch.inference_mode():
        for layer, rows in itertools.product((linear, both), wrong):
            with pytest.raises(ValueError, match="do not fit packed weights"):
                layer(rows)
        q = torch.zeros(1, 2, 4, 32)
        for k, v in [(q, q.bfloat16()), (q[:, :1], q[:, :1]), (q, q[:, :, 1:]), (q[:, :, :0], q[:, :, :0])]:
            with pytest.raises(ValueError):
                attention(q, k, v)
        monkeypatch.setattr(tile_library, "_library", lambda _: None)
        with pytest.raises(InputError, match="load the tracker anew"):
            linear(torch.zeros(1, 4, 64))


@units
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_was_packed_keeps_its_units(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = Block(dim=64, heads=2).to(dtype).eval().requires_grad_(False)
    embed = WindowEmbed(dim=32).to(dtype).requires_grad_(False)
    here = os.environ["DUOTRACK_KERNELS"]
    packed, layers, stem = packed_block(block), TileMlp(block.mlp), TileWindowEmbed(embed)
    tokens, image, where = (torch.randn(shape, dtype=dtype) for shape in ((2, 20, 64), (1, 3, 32, 32), (1, 64, 32)))
    runs: list[Callable[[], Tensor]] = [
        lambda: tile_block_ops.through(tokens, (packed,)),
        lambda: tile_block_ops.attend(tokens, packed)[0],
        lambda: layers(tokens),
        lambda: convs(tokens[None], (Conv(packed.proj),)),
        lambda: stem(image, where),
        lambda: attention(*[tokens[:, None]] * 3),
    ]
    with torch.inference_mode():
        first = [run() for run in runs]
        for switch in ({"amx": "avx512", "avx512": "amx"}[here], "0", "nonsense"):
            monkeypatch.setenv("DUOTRACK_KERNELS", switch)
            for made, run in zip(first[:-1], runs[:-1], strict=True):
                torch.testing.assert_close(made, run(), rtol=0, atol=0)
            torch.testing.assert_close(first[-1], runs[-1](), rtol=0, atol=3e-2)  # by any units
        monkeypatch.setenv("DUOTRACK_KERNELS", {"amx": "avx512", "avx512": "amx"}[here])
        other = packed_block(block)
        for mixed in (
            lambda: tile_block_ops.through(tokens, (packed, other)),
            lambda: convs(tokens[None], (Conv(packed.proj), Conv(other.proj))),
            lambda: tile_ops.mlp(tokens, packed.first, other.second),
            lambda: replace(packed, proj=other.proj),
        ):
            with pytest.raises(ValueError, match=r"(?s)amx.*avx512|avx512.*amx"):
                mixed()


@units
def test_what_does_not_fit_a_block_is_refused() -> None:
    block = TileBlock(ready(Block(dim=64, heads=2), "fp32"))
    tokens = torch.zeros(1, 4, 64)
    with torch.inference_mode():
        for wrong in (torch.zeros(1, 4, 32), *(tokens.to(t) for t in OTHER)):
            for part in (block.attend, block.feed, block):
                with pytest.raises(ValueError, match="do not fit packed weights"):
                    part(wrong)
        for options in ({"skip": 5}, {"skip": -1}, {"query": 4}):
            with pytest.raises(ValueError, match="of 4 tokens"):
                block.attend(tokens, **options)
        for options in ({"query": -1}, {"query": -2}, {"query": 2, "skip": 1}):
            with pytest.raises(ValueError, match="a token's index"):
                block.attend(tokens, **options)
        for skip in (-1, 5):
            with pytest.raises(ValueError, match="of 4 tokens"):
                block.through(tokens, [], skip=skip)
        wide, half = (TileBlock(ready(Block(dim=dim, heads=2), name)) for dim, name in ((128, "fp32"), (64, "bf16")))
        with pytest.raises(ValueError, match="after one that gives 64"):
            block.through(tokens, [wide])
        assert block.through(tokens, [half]) is None  # then they are gone through one by one
        with pytest.raises(ValueError, match="do not fit packed weights"):
            through(tokens, [block, half])


@units
def test_layers_that_do_not_go_together_make_no_block() -> None:
    block = TileBlock(ready(Block(dim=64, heads=2), "fp32")).packed
    other, norm = pack_layer(torch.zeros(1, 96, 64), None), Norm(torch.ones(32), torch.zeros(32), 1e-6)
    for parts, message in (
        ({"heads": 3}, "3 heads"),
        ({"qkv": other}, "channels in a block"),
        ({"proj": other}, "channels in a block"),
        ({"first": other}, "channels in a block"),
        ({"second": other}, "channels in a block"),
        ({"shortcut": other}, "channels in a block"),
        ({"shortcut": pack_layer(torch.zeros(1, 64, 96), None)}, "a shortcut"),
        ({"norm": norm}, "a norm of"),
        ({"mlp_norm": norm}, "a norm of"),
        ({"first": pack_layer(torch.zeros(1, 256, 64).bfloat16(), None)}, "in one block"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(block, **parts)


@units
def test_layers_that_do_not_go_together_are_not_gone_through() -> None:
    first, second = (pack_layer(torch.zeros(1, *sizes), None) for sizes in ((64, 32), (32, 96)))
    half, tokens = pack_layer(torch.zeros(1, 32, 64).bfloat16(), None), torch.zeros(1, 1, 4, 32)
    norm = Norm(torch.ones(32), torch.zeros(32), 1e-6)
    for given in ((first, second), (first, half)):
        with pytest.raises(ValueError, match="after one that gives 64"):
            mlp(tokens, *given)
        with pytest.raises(ValueError, match="after one that gives 64"):
            convs(tokens, [Conv(layer) for layer in given])
    with pytest.raises(ValueError, match="96 channels are added to 32"):
        mlp(tokens, first, pack_layer(torch.zeros(1, 96, 64), None), norm)
    for side in (0, 2, 3):
        with pytest.raises(ValueError, match="places"):
            Conv(first, side=side)
    for weight, bias in ((torch.zeros(1, 40, 32), None), (torch.zeros(1, 32, 32), torch.zeros(31))):
        with pytest.raises(ValueError, match="32 are multiplied"):
            pack_layer(weight, bias)


@units
def test_what_is_not_in_this_memory_is_refused() -> None:
    block, away = TileBlock(ready(Block(dim=64, heads=2), "fp32")), torch.zeros(1, 4, 64, device="meta")
    for run in (block, block.feed, block.attend, lambda x: attention(x[:, None], x[:, None], x[:, None])):
        with pytest.raises(ValueError, match="meta"):
            run(away)
    embed = TileWindowEmbed(WindowEmbed(dim=32).requires_grad_(False))
    image, where = torch.zeros(1, 3, 32, 32), torch.zeros(1, 64, 32)
    for given in ((image.to("meta"), where), (image, where.to("meta"))):
        with pytest.raises(ValueError, match=r"meta|positions"):
            embed(*given)
    with pytest.raises(ValueError, match="meta"):
        tile_scan(
            *(torch.zeros(sizes, device="meta") for sizes in ((1, 4, 16), (1, 4, 16), (16, 2), (1, 4, 2), (1, 4, 2)))
        )


@units
def test_blocks_and_heads_are_one_call_each(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    real = tile_library.call

    def noting(name: str, used: tile_library.Units | None, *arguments: object) -> None:
        called.append(name)
        real(name, used, *arguments)

    for module in (tile_ops, tile_block_ops):
        monkeypatch.setattr(module, "call", noting)
    net = prepare(deploy(model_spec("ckd-tiny").build()), device=torch.device("cpu"), packed=True)
    pictures = [(torch.zeros(1, 3, size, size), torch.zeros(1, 3, size, size)) for size in (96, 192)]
    with torch.inference_mode():
        memory = net.remember(pictures[0])
        called.clear()
        net(template=memory, search=pictures[1])
    assert called == ["tiles_window_patches", "tiles_blocks", "tiles_blocks", "tiles_convs"]
