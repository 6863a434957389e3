"""Adapters of PATrack and IPL as they are made ready for tracking give the numbers of torch's."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from duotrack.evaluation.stopwatch import counted
from duotrack.models.adapters import Entangle, FrequencyMixer, HeadAdapter, Pointwise, SharedAttention
from duotrack.models.patrack import AdaptedBlock
from duotrack.models.prompter import Prompter
from duotrack.runtime.packed import PackedLinear, can_pack, pack
from duotrack.runtime.tile_adapters import TileAdaptedBlock, add_mixed, pack_mixer
from duotrack.runtime.tiles import TileLinear
from units import TYPES, near, on_threads, ready, units


@pytest.fixture
def packs(precision: str) -> None:
    """Skips a test where torch's library packs nothing either."""
    if not can_pack(torch.device("cpu"), TYPES[precision]):
        pytest.skip(f"torch packs nothing in {precision} for this processor")


def restless(module: nn.Module) -> nn.Module:
    """With numbers that do something everywhere, also in norms and biases."""
    torch.manual_seed(1)
    for name, numbers in module.named_parameters():
        with torch.no_grad():
            numbers.uniform_(-0.5, 0.5)
            if "norm" in name and name.endswith("weight"):
                numbers += 1
    return module


def made(dim: int, hidden: int, precision: str) -> tuple[FrequencyMixer, nn.LayerNorm]:
    mixer, norm = restless(FrequencyMixer(dim=dim, hidden=hidden)), restless(nn.LayerNorm(dim, eps=1e-6))
    return ready(mixer, precision), ready(norm, precision)


@units
@settings(deadline=None, max_examples=40)
@given(
    half=st.integers(0, 2),
    sides=st.lists(st.sampled_from((2, 4, 6, 10)), min_size=1, max_size=3),
    blocks=st.integers(1, 4),
    quarter=st.integers(1, 4),
    crossed=st.booleans(),
    scale=st.sampled_from((0, 1e-3, 3)),
    threads=st.integers(1, 5),
    name=st.sampled_from(sorted(TYPES)),
)
def test_mixers(
    half: int, sides: list[int], blocks: int, quarter: int, crossed: bool, scale: float, threads: int, name: str
) -> None:
    mixer, norm = made(32 * blocks, 4 * quarter, name)
    many = torch.randn(2, 2 * half, sum(s * s for s in sides), 32 * blocks)
    # not far from their mean in small steps: in float32 no norm of such numbers is exact
    tokens, before = (scale * (many + 1)).to(TYPES[name]).unbind(0)
    onto = before.clone()
    with on_threads(threads):
        add_mixed(tokens, pack_mixer(mixer, norm), tuple(sides), onto, crossed=crossed)
    exact = copy.deepcopy(mixer).double()(copy.deepcopy(norm).double()(tokens.double()), tuple(sides))
    if crossed:
        exact = exact.roll(half, 0)
    near(onto, before.double() + exact, name)


@units
def test_what_is_no_number_stays_where_it_reaches() -> None:
    """As torch; numbers whose squares are no float32 any more are none either, where torch still has some."""
    mixer, norm = made(32, 8, "fp32")
    for wrong in (torch.nan, torch.inf):
        tokens = torch.randn(2, 100 + 16, 32)
        tokens[0, 44, 3] = wrong
        found = torch.zeros_like(tokens)
        add_mixed(tokens, pack_mixer(mixer, norm), (10, 4), found, crossed=False)
        assert torch.equal(found.isnan(), mixer(norm(tokens), (10, 4)).isnan())
        assert 1 < found.isnan().any(dim=-1).sum() < 30
    tokens[0, 44] = 1e20 * torch.randn(32)
    found = torch.zeros_like(tokens)
    add_mixed(tokens, pack_mixer(mixer, norm), (10, 4), found, crossed=False)
    assert found[0, 44].isnan().all()


@units
@pytest.mark.parametrize("entangled", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
def test_blocks(entangled: bool, crossed: bool, precision: str) -> None:
    block = restless(AdaptedBlock(dim=64, heads=2, width=32))
    for name, numbers in block.named_parameters():
        if numbers.dim() == 2 or "adapter" in name:  # as large as trained ones: attention is not all on one token
            numbers.data /= 4
    block = ready(block, precision)
    tokens = torch.randn(4, 16 + 36, 64, dtype=TYPES[precision])
    how = {"entangled": entangled, "crossed": crossed}
    with torch.inference_mode():
        exact = copy.deepcopy(block).double()(tokens.double(), (4, 6), **how)
        plain = counted(lambda: block(tokens, (4, 6), **how))
        net = pack(nn.Sequential(block))
        assert isinstance(net[0], TileAdaptedBlock)
        kept = tokens.clone()
        found = net[0](tokens, (4, 6), **how)
        assert torch.equal(tokens, kept)
        assert counted(lambda: net[0](tokens, (4, 6), **how)) == plain > 0
    near(found, exact, precision)


@pytest.mark.usefixtures("packs")
@pytest.mark.parametrize("width", [32, 24])
def test_layers_of_adapters_are_packed(width: int, precision: str) -> None:
    """Those that do not fit the units as torch's library wants them."""
    net = ready(nn.ModuleList([SharedAttention(dim=64, width=width), HeadAdapter(dim=64, width=width)]), precision)
    tokens = torch.randn(2, 52, 64, dtype=TYPES[precision])
    with torch.inference_mode():
        exact = [
            copy.deepcopy(net[0]).double()(tokens.double(), (4, 6), crossed=True),
            copy.deepcopy(net[1]).double()(tokens.double()),
        ]
        pack(net)
        found = [net[0](tokens, (4, 6), crossed=True), net[1](tokens)]
    for ours, theirs in zip(found, exact, strict=True):
        near(ours, theirs, precision)
    within = [part for part in net.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    assert not within
    kinds = (TileLinear, PackedLinear)
    assert sum(isinstance(part, kinds) for part in net.modules()) == 10
    assert isinstance(net[0].obj_fuse, Entangle)


def test_a_pointwise_convolution_is_that_of_a_picture() -> None:
    torch.manual_seed(0)
    layer = Pointwise(5, 7, bias=True)
    cells = torch.randn(2, 5, 3, 4)
    expected = nn.functional.conv2d(cells, layer.weight, layer.bias)
    torch.testing.assert_close(layer(cells.flatten(2).mT).mT.reshape(2, 7, 3, 4), expected)


@units
def test_what_does_not_go_together_is_refused() -> None:
    mixer, norm = made(32, 8, "fp32")
    packed = pack_mixer(mixer, norm)
    tokens, onto = torch.randn(2, 20, 32), torch.zeros(2, 20, 32)
    for wrong in (
        (tokens[..., :16], onto),
        (tokens, onto[:, :19]),
        (tokens.double(), onto),
        (tokens, onto.bfloat16()),
        (tokens.to("meta"), onto),
    ):
        with pytest.raises(ValueError, match="for a mixer of 32 channels"):
            add_mixed(wrong[0], packed, (2, 4), wrong[1], crossed=False)
    three = torch.zeros(3, 20, 32)
    for where in (three[:2], three[1:], torch.zeros(2, 32, 20).mT):
        with pytest.raises(ValueError, match="memory of its own"):
            add_mixed(three[:2], packed, (2, 4), where, crossed=False)
    for sides in ((4,), (4, 1, 1, 1, 1), (), (-2, 4)):
        with pytest.raises(ValueError, match="20 tokens in grids"):
            add_mixed(tokens, packed, sides, onto, crossed=False)
    with pytest.raises(ValueError, match="3 samples"):
        add_mixed(torch.randn(3, 20, 32), packed, (2, 4), torch.zeros(3, 20, 32), crossed=True)
    with pytest.raises(ValueError, match="40 channels"):
        pack_mixer(FrequencyMixer(dim=40), nn.LayerNorm(40))


@pytest.mark.usefixtures("packs")
@pytest.mark.parametrize("switch", ["1", "0"])
def test_prompters_generate_and_give_back_as_before(
    switch: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUOTRACK_KERNELS", switch)
    torch.manual_seed(0)
    prompter = ready(Prompter(dim=128), precision)
    tokens = torch.randn(2, 30, 128, dtype=TYPES[precision])
    with torch.inference_mode():
        exact = copy.deepcopy(prompter).double()
        operations = counted(lambda: prompter.reverse(tokens))
        pack(prompter)
        found = prompter.reverse(tokens)
        near(found, exact.reverse(tokens.double()), precision)
        near(prompter(found), exact(found.double()), precision)
        assert counted(lambda: prompter.reverse(tokens)) == operations > 0
    assert not [part for part in prompter.modules() if isinstance(part, nn.Linear)]
