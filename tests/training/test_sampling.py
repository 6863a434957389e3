"""Which frames and which samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.datasets.sequence import Sequence
from duotrack.errors import InputError
from duotrack.training.sampling import Sampling, draw_frames, is_eligible, sample_rng


def sequence(visible: list[bool]) -> Sequence:
    boxes = np.array([[1, 1, 5, 5] if shown else [0, 0, 0, 0] for shown in visible], np.float64)
    return Sequence("s", None, None, boxes)


@given(visible=st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda v: sum(v) >= 2), seed=st.integers(0, 99))
def test_causal_draws_visible_frames_in_order(visible: list[bool], seed: int) -> None:
    sampling = Sampling(max_gap=10)
    first, second = draw_frames(np.array(visible), np.random.default_rng(seed), sampling)
    assert visible[first]
    assert visible[second]
    assert first < second


def test_gap_is_kept_where_there_are_frames() -> None:
    rng = np.random.default_rng(0)
    draws = np.array([draw_frames(np.ones(600, bool), rng, Sampling()) for _ in range(4000)])
    gaps = draws[:, 1] - draws[:, 0]
    assert gaps.min() == 1
    assert gaps.max() == 199
    # uniform over 1..199 for templates that have that much ahead of them
    inner = gaps[draws[:, 0] < 400]
    assert abs(inner.mean() - 100) < 4
    # the template is uniform over all but the last frame
    assert abs(draws[:, 0].mean() - 299) < 12


def test_gap_grows_until_a_frame_is_found() -> None:
    visible = np.zeros(400, bool)
    visible[[0, 399]] = True
    assert draw_frames(visible, np.random.default_rng(0), Sampling()) == (0, 399)


def test_independent_draws_either_order() -> None:
    visible = np.ones(50, bool)
    visible[::2] = False
    rng = np.random.default_rng(0)
    draws = np.array([draw_frames(visible, rng, Sampling(mode="independent")) for _ in range(300)])
    assert visible[draws].all()
    assert 0.3 < (draws[:, 0] < draws[:, 1]).mean() < 0.7


def test_one_visible_frame_is_an_error() -> None:
    with pytest.raises(InputError, match="two frames"):
        draw_frames(np.array([True, False]), np.random.default_rng(0), Sampling())


@pytest.mark.parametrize(
    ("frames", "visible", "eligible"), [(20, 5, True), (19, 19, False), (20, 4, False), (500, 5, True), (500, 0, False)]
)
def test_eligible(frames: int, visible: int, eligible: bool) -> None:
    assert is_eligible(sequence([True] * visible + [False] * (frames - visible)), Sampling()) is eligible


def test_random_numbers_depend_on_all_three() -> None:
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert len({sample_rng(*key).integers(1 << 60) for key in keys}) == 4
    assert sample_rng(3, 4, 5).integers(1 << 60) == sample_rng(3, 4, 5).integers(1 << 60)
