"""The selective scan in C++ gives the scan's numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.evaluation.stopwatch import counted
from duotrack.models.scan import loop_scan, selective_scan
from duotrack.models.ssm import ViMBlock
from duotrack.runtime.packed import pack
from duotrack.runtime.tile_scan import scan_fits, tile_scan
from units import TYPES, on_threads, ready, units


def inputs(samples: int, length: int, channels: int, states: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Steps from tiny to large, as softplus gives them."""
    torch.manual_seed(length)
    u, steps = torch.randn(2, samples, length, channels).unbind(0)
    a = -torch.rand(channels, states) * 8
    b, c = torch.randn(2, samples, length, states).unbind(0)
    return [u.to(dtype), (4 * steps).exp(), a, b.to(dtype), c.to(dtype)]


@units
@settings(deadline=None, max_examples=40)
@given(
    samples=st.integers(0, 3),
    length=st.integers(0, 90),
    groups=st.integers(1, 5),
    states=st.integers(1, 64),
    threads=st.integers(1, 5),
    name=st.sampled_from(sorted(TYPES)),
)
def test_scans(samples: int, length: int, groups: int, states: int, threads: int, name: str) -> None:
    given_all = inputs(samples, length, 16 * groups, states, TYPES[name])
    assert scan_fits(16 * groups, states)
    with on_threads(threads):
        found = tile_scan(*given_all)
    assert found.dtype == TYPES[name]
    assert found.shape == (samples, length, 16 * groups)
    if found.numel():
        exact = loop_scan(*(each.double() for each in given_all))
        near = (3e-2 if name == "bf16" else 1e-5) * max(1.0, float(exact.abs().max()))
        torch.testing.assert_close(found.double(), exact, atol=near, rtol=0)


@units
def test_long_scans_as_those_in_chunks(precision: str) -> None:
    given_all = inputs(1, 4096, 64, 16, TYPES[precision])
    near = 2e-2 if precision == "bf16" else 1e-5
    expected = selective_scan(*given_all)
    scale = float(expected.abs().max())
    torch.testing.assert_close(tile_scan(*given_all), expected, atol=near * scale, rtol=0)


@units
def test_what_is_no_number_stays_in_its_channel() -> None:
    given_all = inputs(1, 30, 32, 4, torch.float32)
    given_all[0][0, 10, 5] = torch.nan
    found = tile_scan(*given_all)
    assert found[0, 10:, 5].isnan().all()
    assert not found[0, :10].isnan().any()
    assert not found[0, :, [i for i in range(32) if i != 5]].isnan().any()


@units
@pytest.mark.parametrize("scan", ["bi", "cross"])
def test_blocks_scan_so_unless_told_otherwise(scan: str, precision: str) -> None:
    torch.manual_seed(0)
    block = ready(ViMBlock(dim=16, scan=scan), precision)
    tokens = torch.randn(2, 64, 16, dtype=TYPES[precision])
    with torch.inference_mode():
        expected = block(tokens, (8, 8))
        plain = counted(lambda: block(tokens, (8, 8)))
        assert pack(block).scan is tile_scan
        found = block(tokens, (8, 8))
        assert counted(lambda: block(tokens, (8, 8))) == plain > 0
    near = 5e-2 if precision == "bf16" else 1e-5
    torch.testing.assert_close(found, expected, atol=near, rtol=0)
    for other in (ViMBlock(dim=16, backend="loop"), ViMBlock(dim=12), ViMBlock(dim=16, d_state=65)):
        before = other.scan
        assert pack(ready(other, precision)).scan is before


@units
def test_what_does_not_go_together_is_refused() -> None:
    given_all = inputs(1, 30, 32, 4, torch.float32)
    for place, wrong in ((1, given_all[1][:, :29]), (2, given_all[2][:16]), (3, given_all[3][..., :3])):
        others = [*given_all[:place], wrong, *given_all[place + 1 :]]
        with pytest.raises(ValueError, match="do not go together"):
            tile_scan(*others)
    with pytest.raises(ValueError, match="24 channels, 4 states"):
        tile_scan(*inputs(1, 5, 24, 4, torch.float32))
    with pytest.raises(ValueError, match="16 channels, 65 states"):
        tile_scan(*inputs(1, 5, 16, 65, torch.float32))
    assert not scan_fits(16, 0)
