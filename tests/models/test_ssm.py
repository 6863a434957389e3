"""Vision Mamba blocks: against a plain spelling-out of the recipe, symmetries, sizes, precision."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.scan import loop_scan
from duotrack.models.ssm import Route, ViMBlock

SIZES = {16: 5_216, 24: 9_168, 32: 13_760, 48: 25_632, 64: 40_832, 96: 81_216}


def made(**options: object) -> ViMBlock:
    torch.manual_seed(0)
    return ViMBlock(**{"dim": 8, "d_state": 4, **options}).double()  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "count"), SIZES.items())
def test_parameters_by_width(width: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in ViMBlock(dim=width).parameters()) == count


def spelt_out(block: ViMBlock, tokens: Tensor) -> Tensor:
    """Steps 1 to 4 of section 3.4, one direction after the other, without any of the block's code."""
    x, z = block.in_proj(block.norm(tokens)).chunk(2, dim=-1)
    total = torch.zeros_like(x)
    for way in range(2):
        xs, zs = (s.flip(1) if way else s for s in (x, z))
        conv, route = block.convs[way], block.routes[way]
        taps = conv.weight[:, 0]  # (inner, k), the last one sees the present
        k = taps.shape[1]
        past = torch.cat([torch.zeros_like(xs[:, : k - 1]), xs], dim=1)
        u = F.silu(sum(past[:, i : i + xs.shape[1]] * taps[:, i] for i in range(k)) + conv.bias)
        rank, states = route.dt_proj.in_features, route.A_log.shape[1]
        rough, b, c = torch.split(u @ route.x_proj.weight.T, [rank, states, states], dim=-1)
        delta = F.softplus(rough @ route.dt_proj.weight.T + route.dt_proj.bias)
        y = loop_scan(u, delta, -route.A_log.exp(), b, c) + route.D * u
        y = y * F.silu(zs)
        total = total + (y.flip(1) if way else y)
    if block.halve:
        total = total / 2
    return tokens + total @ block.out_proj.weight.T


@pytest.mark.parametrize("halve", [True, False])
@pytest.mark.parametrize("d_conv", [1, 4])
def test_a_block_is_what_the_recipe_says(halve: bool, d_conv: int) -> None:
    block = made(halve=halve, d_conv=d_conv)
    tokens = torch.randn(2, 35, 8, dtype=torch.float64)
    torch.testing.assert_close(block(tokens, (5, 7)), spelt_out(block, tokens), atol=1e-12, rtol=0)


def test_reversal_swaps_the_directions() -> None:
    """Acceptance test 2: the reversed sequence through swapped directions gives the reversed output."""
    block, tokens = made(), torch.randn(2, 30, 8, dtype=torch.float64)
    swapped = made()
    state = block.state_dict()
    other = {"convs.0.": "convs.1.", "convs.1.": "convs.0.", "routes.0.": "routes.1.", "routes.1.": "routes.0."}
    renamed = {
        next((key.replace(a, b, 1) for a, b in other.items() if key.startswith(a)), key): t for key, t in state.items()
    }
    swapped.load_state_dict(renamed)
    assert not torch.equal(state["routes.0.x_proj.weight"], state["routes.1.x_proj.weight"])
    there, back = block(tokens, (5, 6)), swapped(tokens.flip(1), (5, 6)).flip(1)
    torch.testing.assert_close(there, back, atol=1e-13, rtol=0)
    assert not torch.allclose(there, block(tokens.flip(1), (5, 6)).flip(1), atol=1e-3)


def test_cross_scan_transposes_with_its_ways() -> None:
    """A transposed grid through ways that change places, and a transposed kernel, gives the transposed output."""
    block, grid = made(scan="cross"), torch.randn(2, 5, 7, 8, dtype=torch.float64)
    swapped = made(scan="cross")
    state = dict(block.state_dict())
    for a, b in ((0, 1), (2, 3)):  # rows, columns, rows back, columns back
        for key in [k for k in state if k.startswith(f"routes.{a}.")]:
            twin = key.replace(f"routes.{a}.", f"routes.{b}.")
            state[key], state[twin] = state[twin], state[key]
    state["conv.weight"] = state["conv.weight"].mT
    swapped.load_state_dict(state)
    there = block(grid.flatten(1, 2), (5, 7)).unflatten(1, (5, 7))
    back = swapped(grid.transpose(1, 2).flatten(1, 2), (7, 5)).unflatten(1, (7, 5)).transpose(1, 2)
    torch.testing.assert_close(there, back, atol=1e-12, rtol=0)
    assert not torch.allclose(
        there, block(grid.transpose(1, 2).flatten(1, 2), (7, 5)).unflatten(1, (7, 5)).transpose(1, 2)
    )


def test_cross_scan_turns_by_half_with_its_ways() -> None:
    block, tokens = made(scan="cross"), torch.randn(1, 20, 8, dtype=torch.float64)
    swapped = made(scan="cross")
    state = dict(block.state_dict())
    for a, b in ((0, 2), (1, 3)):
        for key in [k for k in state if k.startswith(f"routes.{a}.")]:
            twin = key.replace(f"routes.{a}.", f"routes.{b}.")
            state[key], state[twin] = state[twin], state[key]
    state["conv.weight"] = state["conv.weight"].flip(-1, -2)
    swapped.load_state_dict(state)
    torch.testing.assert_close(block(tokens, (4, 5)), swapped(tokens.flip(1), (4, 5)).flip(1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("scan", ["bi", "cross"])
def test_every_token_reaches_every_other(scan: str) -> None:
    block, tokens = made(scan=scan), torch.randn(1, 48, 8, dtype=torch.float64, requires_grad=True)
    for place in (0, 20, 47):
        (grad,) = torch.autograd.grad(block(tokens, (6, 8))[0, place].sum(), tokens)
        assert (grad[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("backend", ["chunk", "loop"])
@pytest.mark.parametrize("scan", ["bi", "cross"])
def test_backends_agree_in_values_and_gradients(scan: str, backend: str) -> None:
    tokens = torch.randn(2, 40, 8, dtype=torch.float64)
    results = []
    for options in ({"backend": backend, "chunk": 3, "recompute": False}, {}):
        block = made(scan=scan, **options)
        out = block(tokens, (8, 5))
        grads = torch.autograd.grad(out.square().sum(), list(block.parameters()))
        results.append([out, *grads])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_initial_values_of_a_way() -> None:
    torch.manual_seed(0)
    route = Route(dim=512, rank=4, d_state=16)
    assert torch.allclose(route.A_log.exp(), torch.arange(1.0, 17).expand(512, 16))
    assert (route.D == 1).all()
    assert route.dt_proj.weight.abs().max() <= 0.5
    assert float(route.dt_proj.weight.detach().std()) == pytest.approx(0.5 / 3**0.5, rel=0.1)
    step = F.softplus(route.dt_proj.bias.detach())
    assert step.min() >= 1e-3 * 0.99
    assert step.max() <= 1e-1 * 1.01
    assert step.log().mean() == pytest.approx(float(torch.tensor([1e-3, 1e-1]).log().mean()), abs=0.2)


def test_autocast_keeps_steps_and_states_wide() -> None:
    """With bfloat16 around it a block stays as near to float32 as its projections allow."""
    block = made().float()
    nn.init.normal_(block.out_proj.weight)
    tokens = torch.randn(1, 600, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = block(tokens, (20, 30))
    exact = block(tokens, (20, 30))
    scale = (exact - tokens).abs().max()
    assert ((narrow.float() - exact).abs().max() / scale) < 0.05


def test_an_unknown_scan_is_an_error() -> None:
    with pytest.raises(ValueError, match="bi or cross"):
        made(scan="zigzag")
