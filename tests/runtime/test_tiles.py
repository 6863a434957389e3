"""Products on matrix units give the layers' numbers; where the units or a compiler are missing torch multiplies."""

import copy
import itertools
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.errors import InputError
from duotrack.evaluation.stopwatch import counted
from duotrack.models.attention import Block, Mlp
from duotrack.models.zoo import model_spec
from duotrack.runtime import native, tile_ops, tiles
from duotrack.runtime.deploy import deploy
from duotrack.runtime.packed import PackedLinear, pack
from duotrack.runtime.tiles import TileConv, TileLinear, TileMlp, attends, fits, tile_attention
from duotrack.runtime.torch_backend import prepare

CPU = torch.device("cpu")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
OTHER = (torch.bfloat16, torch.float16, torch.float64)
NEAR = {"fp32": 3e-5, "bf16": 2e-2}
"""Of the largest number there is."""

units = pytest.mark.usefixtures("matrix_units")


@pytest.fixture(autouse=True, scope="module")
def _no_switch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DUOTRACK_MATRIX_UNITS", raising=False)
        yield


@pytest.fixture(scope="module")
def matrix_units() -> None:
    if not tile_ops.ready():
        pytest.skip("this processor has no matrix units, or no compiler is here to reach them")


@pytest.fixture(params=TYPES)
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def unloaded() -> Iterator[None]:
    """What was compiled is looked for anew, before and after."""
    tile_ops._library.cache_clear()
    yield
    tile_ops._library.cache_clear()


def ready(layer: nn.Module, precision: str) -> nn.Module:
    return layer.to(TYPES[precision]).eval().requires_grad_(False)


def near(ours: Tensor, exact: Tensor, precision: str) -> None:
    assert ours.dtype == TYPES[precision]
    assert ours.shape == exact.shape
    scale = max(float(exact.abs().max()), 1.0) if exact.numel() else 1.0
    torch.testing.assert_close(ours.double(), exact, atol=NEAR[precision] * scale, rtol=0)


@units
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((1, 5, 32), 32), ((2, 9, 64), 96), ((320, 768), 96), ((3, 150, 96), 64), ((1, 40, 1600), 32), ((0, 4, 32), 32)],
    ids=str,
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "none"])
def test_linear_layers(shape: tuple[int, ...], outputs: int, bias: bool, precision: str) -> None:
    torch.manual_seed(0)
    linear = ready(nn.Linear(shape[-1], outputs, bias=bias), precision)
    assert isinstance(linear, nn.Linear)
    assert fits(linear)
    tokens = torch.randn(shape, dtype=TYPES[precision])
    with torch.inference_mode():
        exact = copy.deepcopy(linear).double()(tokens.double())
        near(TileLinear(linear)(tokens), exact, precision)


@units
@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 460),
    blocks=st.tuples(st.integers(1, 30), st.integers(1, 8)),
    threads=st.integers(1, 5),
    name=st.sampled_from(sorted(TYPES)),
    kind=st.sampled_from(["linear", "conv", "mlp", "attention"]),
)
def test_any_size_on_any_number_of_threads(
    rows: int, blocks: tuple[int, int], threads: int, name: str, kind: str
) -> None:
    torch.manual_seed(rows)
    width, outputs = (32 * count for count in blocks)
    given_rows = torch.randn(2, rows, width, dtype=TYPES[name])
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            near(*ours_and_exact(kind, given_rows, outputs, name), name)
    finally:
        torch.set_num_threads(usual)


def ours_and_exact(kind: str, rows: Tensor, outputs: int, precision: str) -> tuple[Tensor, Tensor]:
    """Results of the units and in double precision, with random weights."""
    width = rows.shape[-1]
    if kind == "attention":
        heads = rows[:, None].expand(-1, 3, -1, -1)[..., :96]
        q, k, v = (heads.roll(shift, dims=-2) for shift in range(3))
        return tile_attention(q, k, v), F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    if kind == "mlp":
        mlp = ready(Mlp(dim=width, hidden=outputs), precision)
        assert isinstance(mlp, Mlp)
        return TileMlp(mlp)(rows), copy.deepcopy(mlp).double()(rows.double())
    if kind == "conv":
        conv = ready(nn.Conv2d(width, outputs, kernel_size=3, padding=1), precision)
        assert isinstance(conv, nn.Conv2d)
        cells = rows[:, :100].transpose(1, 2)[:, :, None]
        return TileConv(conv)(cells), copy.deepcopy(conv).double()(cells.double())
    linear = ready(nn.Linear(width, outputs), precision)
    assert isinstance(linear, nn.Linear)
    return TileLinear(linear)(rows), copy.deepcopy(linear).double()(rows.double())


@units
@pytest.mark.parametrize("large", [1.0, 8.0, 40.0], ids=str)
def test_gelu_near_and_far(large: float) -> None:
    mlp = Mlp(dim=32, hidden=32).requires_grad_(False)
    for layer in (mlp.fc1, mlp.fc2):
        layer.weight.copy_(torch.eye(32))
        layer.bias.zero_()
    tokens = torch.linspace(-large, large, 32)[None]
    torch.testing.assert_close(TileMlp(mlp)(tokens), F.gelu(tokens), atol=2e-6, rtol=2e-5)


@units
@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (nn.Conv2d(32, 64, kernel_size=3, padding=1), (1, 16, 16)),
        (nn.Conv2d(32, 32, kernel_size=3, padding=1, bias=False), (3, 5, 7)),
        (nn.Conv2d(192, 96, kernel_size=3, padding=1, groups=3), (2, 12, 12)),
        (nn.Conv2d(96, 32, kernel_size=1), (1, 4, 4)),
        (nn.Conv2d(32, 32, kernel_size=5, padding=2), (1, 2, 3)),
        (nn.Conv2d(32, 32, kernel_size=3, padding=1), (0, 4, 4)),
        (nn.Conv2d(3, 64, kernel_size=16, stride=16), (2, 48, 32)),
        (nn.Conv2d(8, 32, kernel_size=2, stride=2), (1, 7, 9)),
        (nn.Conv2d(8, 32, kernel_size=2, stride=2), (0, 4, 4)),
    ],
    ids=["3x3", "wide", "groups", "1x1", "5x5", "none", "patches", "patches and a rest", "no patches"],
)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["channels first", "last"])
def test_convolutions(conv: nn.Conv2d, size: tuple[int, int, int], order: torch.memory_format, precision: str) -> None:
    torch.manual_seed(0)
    layer = ready(copy.deepcopy(conv), precision)
    assert isinstance(layer, nn.Conv2d)
    assert fits(layer)
    count, height, width = size
    cells = torch.randn(count, conv.in_channels, height, width, dtype=TYPES[precision]).to(memory_format=order)
    with torch.inference_mode():
        near(TileConv(layer)(cells), copy.deepcopy(layer).double()(cells.double()), precision)


@units
@pytest.mark.parametrize(("rows", "dim", "hidden"), [(1, 32, 32), (37, 64, 608), (320, 96, 384), (800, 32, 320)])
def test_mlps(rows: int, dim: int, hidden: int, precision: str) -> None:
    torch.manual_seed(0)
    mlp = ready(Mlp(dim=dim, hidden=hidden), precision)
    assert isinstance(mlp, Mlp)
    tokens = torch.randn(2, rows, dim, dtype=TYPES[precision])
    with torch.inference_mode():
        near(TileMlp(mlp)(tokens), copy.deepcopy(mlp).double()(tokens.double()), precision)
        assert TileMlp(mlp)(tokens[:0]).shape == (0, rows, dim)


@units
@pytest.mark.parametrize(
    ("samples", "heads", "queries", "keys", "width"),
    [(1, 12, 320, 320, 64), (2, 3, 7, 71, 32), (1, 4, 1, 1, 96), (3, 2, 33, 64, 64), (0, 2, 4, 4, 32)],
)
def test_attention(samples: int, heads: int, queries: int, keys: int, width: int, precision: str) -> None:
    torch.manual_seed(0)
    dtype = TYPES[precision]
    assert attends(width, dtype)
    q, k, v = torch.randn(samples, keys, 3, heads, width, dtype=dtype).permute(2, 0, 3, 1, 4).unbind(0)
    q = 3 * q[:, :, keys - queries :]
    with torch.inference_mode():
        near(tile_attention(q, k, v), F.scaled_dot_product_attention(q.double(), k.double(), v.double()), precision)
        # last axes that are not next to one another
        turned = k.transpose(2, 3).contiguous().transpose(2, 3)
        torch.testing.assert_close(tile_attention(q, turned, v), tile_attention(q, k, v))


@units
@pytest.mark.parametrize("far", [1e3, 1e6])
def test_attention_to_one_key_alone_gives_its_value(far: float, precision: str) -> None:
    q = torch.zeros(1, 1, 40, 32, dtype=TYPES[precision])
    k, v = torch.zeros_like(q), torch.randn_like(q)
    q[..., 0], k[0, 0, 17, 0] = far, far
    with torch.inference_mode():
        near(tile_attention(q, k, v), v[:, :, 17:18].double().expand(-1, -1, 40, -1), precision)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(48, 64),
        nn.Linear(64, 48),
        nn.Linear(64, 64, dtype=torch.float64),
        nn.Conv2d(32, 32, kernel_size=3),
        nn.Conv2d(32, 32, kernel_size=3, padding="same"),
        nn.Conv2d(32, 32, kernel_size=2),
        nn.Conv2d(3, 32, kernel_size=4, stride=4),
        nn.Conv2d(32, 32, kernel_size=2, stride=2, padding=1),
        nn.Conv2d(3, 32, kernel_size=7, stride=4, padding=3),
        nn.Conv2d(32, 32, kernel_size=3, padding=2, dilation=2),
        nn.Conv2d(32, 32, kernel_size=(1, 3), padding=(0, 1)),
        nn.Conv2d(32, 32, kernel_size=3, padding=1, groups=2),
        nn.Conv2d(32, 5, kernel_size=1),
    ],
    ids=str,
)
def test_other_layers_do_not_fit(layer: nn.Linear | nn.Conv2d, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "ready", lambda: True)
    assert fits(nn.Linear(64, 64))
    assert not fits(layer)


def test_other_heads_are_not_attended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "ready", lambda: True)
    assert attends(64, torch.float32)
    assert not attends(48, torch.float32)
    assert not attends(64, torch.float16)


@units
def test_a_network_tracks_as_without_the_units(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    torch.manual_seed(1)
    net = deploy(model_spec("ckd-tiny").build())
    crops = {"template": torch.randn(1, 3, 96, 96), "search": torch.randn(1, 3, 192, 192)}
    maps = []
    for switch in ("0", "1"):
        monkeypatch.setenv("DUOTRACK_MATRIX_UNITS", switch)
        run = prepare(copy.deepcopy(net), device=CPU, precision=precision, packed=True)
        assert any(isinstance(part, TileLinear) for part in run.modules()) == (switch == "1")
        with torch.inference_mode():
            memory = run.remember((crops["template"], None))
            maps.append(run(template=memory, search=(crops["search"], None), available=("rgb",)))
    for name in ("score_map", "size_map", "offset_map"):
        atol = 5e-2 if precision == "bf16" else 1e-4
        torch.testing.assert_close(getattr(maps[0], name), getattr(maps[1], name), atol=atol, rtol=0)


@units
def test_blocks_are_packed_whole(precision: str) -> None:
    packed = pack(ready(Block(dim=64, heads=2), precision))
    assert isinstance(packed.mlp, TileMlp)
    assert packed.attn.dot_product is tile_attention
    assert not [name for name, part in packed.named_modules() if isinstance(part, nn.Linear | PackedLinear)]


@units
def test_operations_are_counted(precision: str) -> None:
    block = ready(Block(dim=64, heads=2), precision)
    conv = ready(nn.Conv2d(96, 96, kernel_size=3, padding=1, groups=3), precision)
    assert isinstance(conv, nn.Conv2d)
    tokens, cells = torch.randn(2, 9, 64, dtype=TYPES[precision]), torch.randn(3, 96, 5, 5, dtype=TYPES[precision])

    def forward(first: nn.Module, second: nn.Module) -> None:
        with torch.inference_mode():
            first(tokens)
            second(cells)

    plain = counted(lambda: forward(block, conv))
    packed = pack(copy.deepcopy(block)), TileConv(conv)
    assert counted(lambda: forward(*packed)) == plain > 0


@units
def test_threads_may_share_layers(precision: str) -> None:
    torch.manual_seed(0)
    block = pack(ready(Block(dim=64, heads=2), precision))
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


def test_the_switch_leaves_everything_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_ops, "_library", object)
    assert fits(nn.Linear(64, 64))
    monkeypatch.setenv("DUOTRACK_MATRIX_UNITS", "0")
    assert not fits(nn.Linear(64, 64))
    assert not attends(64, torch.float32)
    monkeypatch.setenv("DUOTRACK_MATRIX_UNITS", "off")
    with pytest.raises(InputError, match="'off': give 0"):
        fits(nn.Linear(64, 64))


def test_a_system_that_forbids_the_units_is_said(
    monkeypatch: pytest.MonkeyPatch, unloaded: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Refused:
        tiles_ready = staticmethod(lambda: 0)
        tiles_product = tiles_mlp = tiles_attention = SimpleNamespace()

    monkeypatch.setattr(tile_ops, "_has_units", lambda: True)
    monkeypatch.setattr(tile_ops, "load_library", lambda *_: Refused)
    assert not tile_ops.ready()
    assert "does not let programs use them" in caplog.text


@units
def test_what_does_not_fit_packed_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    linear, mlp = TileLinear(nn.Linear(64, 32)), TileMlp(Mlp(dim=64, hidden=32))
    wrong = [torch.zeros(1, 4, 32), torch.zeros(1, 4, 96), *(torch.zeros(1, 4, 64).to(t) for t in OTHER)]
    with torch.inference_mode():
        for layer, rows in itertools.product((linear, mlp), wrong):
            with pytest.raises(ValueError, match="do not fit packed weights"):
                layer(rows)
        q = torch.zeros(1, 2, 4, 32)
        for k, v in [(q, q.bfloat16()), (q[:, :1], q[:, :1]), (q, q[:, :, 1:]), (q[:, :, :0], q[:, :, :0])]:
            with pytest.raises(ValueError):
                tile_attention(q, k, v)
        monkeypatch.setattr(tile_ops, "_library", lambda: None)
        with pytest.raises(InputError, match="load the tracker anew"):
            linear(torch.zeros(1, 4, 64))


@units
def test_biases_may_lie_anyhow() -> None:
    linear = nn.Linear(32, 32).requires_grad_(False)
    linear.bias = nn.Parameter(torch.randn(64)[::2], requires_grad=False)
    tokens = torch.randn(1, 5, 32)
    near(TileLinear(linear)(tokens), copy.deepcopy(linear).double()(tokens.double()), "fp32")


@units
def test_nothing_hides_what_is_no_number(precision: str) -> None:
    q, k, v = (torch.randn(1, 1, 4, 32, dtype=TYPES[precision]) for _ in range(3))
    k[0, 0, 2, 5] = torch.nan
    with torch.inference_mode():
        assert tile_attention(q, k, v).isnan().all()


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("compiler", [None, "false", "true"], ids=["none", "one that fails", "one that makes nothing"])
def test_without_a_compiler_torch_multiplies_and_it_is_said(
    compiler: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tile_ops, "_has_units", lambda: True)
    monkeypatch.setattr(native, "compiler", lambda: compiler)
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert not fits(nn.Linear(64, 64))
        assert not fits(nn.Linear(64, 64))
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "install g++ 11 or newer" in caplog.text
    assert "DUOTRACK_MATRIX_UNITS=0" in caplog.text
    assert not list((tmp_path / "kernels").glob("*"))
    packed = pack(ready(nn.Sequential(Block(dim=64, heads=2)), "fp32"))
    assert not [part for part in packed.modules() if isinstance(part, TileLinear | TileMlp | TileConv)]


@pytest.mark.usefixtures("unloaded")
def test_other_processors_are_not_asked_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_ops, "_has_units", lambda: False)
    monkeypatch.setattr(tile_ops, "load_library", lambda *_: pytest.fail("compiled for nothing"))
    assert not fits(nn.Linear(64, 64))
    packed = pack(ready(nn.Sequential(Block(dim=64, heads=2)), "fp32"))
    assert not [part for part in packed.modules() if isinstance(part, TileLinear | TileMlp)]
