"""Layers in C++ of ours give the layers' numbers."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.attention import Mlp
from duotrack.runtime import tiles
from duotrack.runtime.tile_block_ops import attention as tile_attention
from duotrack.runtime.tile_ops import Conv, convs, pack_layer
from duotrack.runtime.tiles import TileLinear, TileMlp, TilePatches, attends, fits
from units import TYPES, near, on_threads, ready, units


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
    with on_threads(threads), torch.inference_mode():
        near(*ours_and_exact(kind, given_rows, outputs, name), name)


def ours_and_exact(kind: str, rows: Tensor, outputs: int, precision: str) -> tuple[Tensor, Tensor]:
    """Results of the units and in double precision, with random weights."""
    width = rows.shape[-1]
    if kind == "attention":
        heads = rows[:, None].expand(-1, 3, -1, -1)[..., :96]
        q, k, v = (heads.roll(shift, dims=-2) for shift in range(3))
        return tile_attention(q, k, v), F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    if kind == "mlp":
        mlp = ready(Mlp(dim=width, hidden=outputs), precision)
        return TileMlp(mlp)(rows), copy.deepcopy(mlp).double()(rows.double())
    if kind == "conv":
        conv = ready(nn.Conv2d(width, outputs, kernel_size=3, padding=1), precision)
        cells = rows[:, :100].transpose(1, 2)[:, :, None]
        return grid(conv, cells), copy.deepcopy(conv).double()(cells.double())
    linear = ready(nn.Linear(width, outputs), precision)
    return TileLinear(linear)(rows), copy.deepcopy(linear).double()(rows.double())


def grid(conv: nn.Conv2d, cells: Tensor, *, relu: bool = False) -> Tensor:
    """A convolution that keeps its grid, on the units."""
    by_place = conv.weight.detach().permute(0, 2, 3, 1).reshape(conv.groups, conv.out_channels // conv.groups, -1)
    layer = Conv(pack_layer(by_place, conv.bias), side=conv.kernel_size[0], relu=relu)
    return convs(cells.permute(0, 2, 3, 1), (layer,)).permute(0, 3, 1, 2)


@units
@pytest.mark.parametrize("large", [1.0, 4.5, 8.0, 40.0, 1e4], ids=str)
def test_gelu_near_and_far(large: float, precision: str) -> None:
    mlp = Mlp(dim=32, hidden=32).requires_grad_(False)
    for layer in (mlp.fc1, mlp.fc2):
        layer.weight.copy_(torch.eye(32))
        layer.bias.zero_()
    tokens = torch.cat([torch.linspace(-large, large, 352), -torch.logspace(-3, 0, 32) * large]).view(1, 12, 32)
    tokens = tokens.to(TYPES[precision])
    atol, rtol = (2e-6, 2e-5) if precision == "fp32" else (1e-4 + 2e-6 * large, 2**-8)
    found = TileMlp(ready(mlp, precision))(tokens)
    torch.testing.assert_close(found.double(), F.gelu(tokens.double()), atol=atol, rtol=rtol)


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
    ],
    ids=["3x3", "wide", "groups", "1x1", "5x5", "none"],
)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["channels first", "last"])
def test_convolutions(conv: nn.Conv2d, size: tuple[int, int, int], order: torch.memory_format, precision: str) -> None:
    torch.manual_seed(0)
    layer = ready(copy.deepcopy(conv), precision)
    count, height, width = size
    cells = torch.randn(count, conv.in_channels, height, width, dtype=TYPES[precision]).to(memory_format=order)
    with torch.inference_mode():
        exact = copy.deepcopy(layer).double()(cells.double())
        near(grid(layer, cells), exact, precision)
        near(grid(layer, cells, relu=True), exact.relu(), precision)


@units
@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (nn.Conv2d(3, 64, kernel_size=16, stride=16), (2, 48, 32)),
        (nn.Conv2d(8, 32, kernel_size=2, stride=2), (1, 7, 9)),
        (nn.Conv2d(8, 32, kernel_size=2, stride=2), (0, 4, 4)),
    ],
    ids=["patches", "patches and a rest", "none"],
)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["channels first", "last"])
def test_patches(conv: nn.Conv2d, size: tuple[int, int, int], order: torch.memory_format, precision: str) -> None:
    torch.manual_seed(0)
    layer = ready(copy.deepcopy(conv), precision)
    assert fits(layer)
    count, height, width = size
    cells = torch.randn(count, conv.in_channels, height, width, dtype=TYPES[precision]).to(memory_format=order)
    with torch.inference_mode():
        near(TilePatches(layer)(cells), copy.deepcopy(layer).double()(cells.double()), precision)


@units
def test_what_is_no_number_passes_a_relu(precision: str) -> None:
    conv = ready(nn.Conv2d(32, 32, kernel_size=1), precision)
    cells = torch.randn(1, 32, 2, 2, dtype=TYPES[precision])
    cells[0, 3, 1, 0] = torch.nan
    with torch.inference_mode():
        found = grid(conv, cells, relu=True)
    assert found[0, :, 1, 0].isnan().all()
    assert int(found.isnan().sum()) == 32


@units
@pytest.mark.parametrize(("rows", "dim", "hidden"), [(1, 32, 32), (37, 64, 608), (320, 96, 384), (800, 32, 320)])
def test_mlps(rows: int, dim: int, hidden: int, precision: str) -> None:
    torch.manual_seed(0)
    mlp = ready(Mlp(dim=dim, hidden=hidden), precision)
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
@settings(deadline=None, max_examples=30)
@given(apart=st.floats(0, 10), name=st.sampled_from(sorted(TYPES)))
def test_attention_to_two_keys_is_a_sigmoid(apart: float, name: str) -> None:
    q, k, v = (torch.zeros(1, 1, 2, 32, dtype=TYPES[name]) for _ in range(3))
    q[..., 0], k[0, 0, 0, 0], v[0, 0, 0] = 1.0, apart * 32**0.5, 1.0
    with torch.inference_mode():
        found = tile_attention(q, k, v).double()
    exact = (k[0, 0, 0, 0].double() / 32**0.5).sigmoid().expand(found.shape)
    torch.testing.assert_close(found, exact, atol=4e-3 if name == "bf16" else 1e-5, rtol=0)


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
        nn.Conv2d(32, 32, kernel_size=3, padding=1),
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
