import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duotrack.models.elimination import (
    elimination_score,
    keep_best,
    removed_positions,
    restore_search,
    stretches,
    take_search,
    template_centre,
)


@pytest.mark.parametrize(("grid", "index"), [(8, 27), (12, 5 * 12 + 5), (7, 3 * 7 + 3), (14, 6 * 14 + 6), (6, 14)])
def test_centre_token(grid: int, index: int) -> None:
    assert template_centre(grid) == index


def test_counts_of_the_specification() -> None:
    kept, total = [], 256
    for _ in range(3):
        chosen = keep_best(torch.rand(1, total), 0.7)
        assert chosen is not None
        total = chosen.shape[1]
        kept.append(total)
    assert kept == [180, 126, 89]


def test_maximum_over_modalities_comes_before_the_head_mean() -> None:
    rgb = torch.tensor([[[0.9, 0.0], [0.1, 0.0]]])
    aux = torch.tensor([[[0.0, 0.4], [0.0, 0.8]]])
    torch.testing.assert_close(elimination_score([rgb, aux]), torch.tensor([[0.5, 0.6]]))


@given(st.integers(1, 40), st.floats(0.05, 1.0), st.integers(0, 2**31))
def test_keeps_the_best_in_raster_order(total: int, ratio: float, seed: int) -> None:
    score = torch.rand(2, total, generator=torch.Generator().manual_seed(seed))
    kept = keep_best(score, ratio)
    count = math.ceil(ratio * total)
    if count == total:
        assert kept is None
        return
    assert kept is not None
    assert kept.dtype == torch.int64
    assert kept.shape == (2, count)
    assert (kept.diff(dim=1) > 0).all()
    worst_kept = score.gather(1, kept).amin(1)
    for row in range(2):
        gone = [j for j in range(total) if j not in kept[row].tolist()]
        assert score[row, gone].max() <= worst_kept[row]


@given(st.integers(2, 30), st.integers(0, 2**31))
def test_restore_undoes_take(total: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, 4 + total, 3, generator=generator)
    kept = keep_best(torch.rand(2, total, generator=generator), 0.5)
    if kept is None:
        return
    back = restore_search(take_search(tokens, 4, kept), 4, kept, total)
    mask = torch.zeros(2, total, dtype=torch.bool).scatter(1, kept, True)
    torch.testing.assert_close(back[:, :4], tokens[:, :4])
    torch.testing.assert_close(back[:, 4:], tokens[:, 4:] * mask.unsqueeze(-1))
    removed = removed_positions([kept], total)[0]
    assert sorted(removed[0].tolist() + kept[0].tolist()) == list(range(total))


@given(blocks=st.integers(1, 14), stages=st.sets(st.integers(-2, 16)))
def test_stretches_name_every_block_once_in_order(blocks: int, stages: set[int]) -> None:
    named: list[int] = []
    for run, stage in stretches(blocks, stages):
        named += range(blocks)[run]
        assert not set(range(blocks)[run]) & stages
        if stage is not None:
            assert stage in stages
            named.append(stage)
    assert named == list(range(blocks))
    assert stretches(blocks, stages)[-1][1] is None
