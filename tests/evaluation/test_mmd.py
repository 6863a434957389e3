"""Squared MMD: against its definition, and what it must be for any sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.evaluation.mmd import BANDWIDTHS, mmd2


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    rows = np.concatenate([x, y])
    square = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    upper = np.sort(square[np.triu_indices(len(rows), 1)])
    scale = upper[(len(upper) - 1) // 2]
    kernel = np.mean([np.exp(-square / (2 * b * scale)) for b in BANDWIDTHS], axis=0)
    n, m = len(x), len(y)
    within_x = (kernel[:n, :n].sum() - n) / (n * (n - 1))
    within_y = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within_x + within_y - 2 * kernel[:n, n:].mean())


@st.composite
def sets(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(1, 12))
    sizes = [draw(st.integers(2, 30)) for _ in range(2)]
    spread = draw(st.sampled_from([1e-3, 1.0, 1e4]))
    x, y = (spread * (rng.normal(size=(size, width)) + rng.normal()) for size in sizes)
    return x, y


def measure(x, y) -> float:
    return mmd2(torch.as_tensor(x), torch.as_tensor(y))


@settings(deadline=None, max_examples=60)
@given(sets())
def test_as_defined(pair):
    assert measure(*pair) == pytest.approx(by_definition(*pair), abs=2e-6)


@settings(deadline=None, max_examples=40)
@given(sets(), st.floats(-1e3, 1e3), st.sampled_from([0.01, 3.0, 100.0]))
def test_symmetric_and_blind_to_order_place_and_unit(pair, shift, unit):
    x, y = pair
    value = measure(x, y)
    assert measure(y, x) == pytest.approx(value, abs=2e-6)
    assert measure(x[::-1].copy(), y) == pytest.approx(value, abs=2e-6)
    scale = np.abs(np.concatenate([x, y])).max()
    assert measure(x * unit + shift * scale * unit / 1e3, y * unit + shift * scale * unit / 1e3) == pytest.approx(
        value, abs=1e-5
    )
    assert value <= 2 + 1e-6


def test_zero_in_expectation_for_one_distribution():
    """The mean of many estimates is within four of its standard errors of 0; a biased estimate is not."""
    rng = np.random.default_rng(0)
    values = [measure(rng.normal(size=(40, 6)), rng.normal(size=(25, 6))) for _ in range(400)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert 4 * error < 1 / 40 * 0.3  # what counting the diagonal would add is well above that
    assert min(values) < 0


@pytest.mark.parametrize("change", ["shift", "spread"])
def test_grows_with_the_difference(change):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 8)), rng.normal(size=(300, 8))
    steps = [0.0, 0.3, 0.6, 1.2, 2.4]
    values = [measure(x, y + step if change == "shift" else y * (1 + step)) for step in steps]
    assert np.all(np.diff(values) > 0)
    assert abs(values[0]) < 0.01
    assert values[-1] > 0.1


def test_equal_rows():
    one = torch.ones(5, 3)
    assert mmd2(one, one) == 0
    assert mmd2(one, one + 1) == pytest.approx(2 - 2 * np.mean([np.exp(-0.5 / b) for b in BANDWIDTHS]), abs=1e-6)
    mostly = torch.cat([one, one + 1])[:6]
    assert np.isfinite(mmd2(mostly, one))


@pytest.mark.parametrize(("x", "y"), [((1, 3), (4, 3)), ((4, 3), (4, 2)), ((4,), (4, 2))])
def test_refuses_what_is_no_pair_of_sets(x, y):
    with pytest.raises(ValueError, match="two sets"):
        mmd2(torch.zeros(x), torch.zeros(y))
