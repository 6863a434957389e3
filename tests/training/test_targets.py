"""Heatmaps against the reference and at the borders."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.training.targets import heatmap_radius, heatmaps
from reference import golden_file

GOLDEN = {k: torch.from_numpy(np.asarray(v)) for k, v in golden_file("ckd_g_targets").items()}


def test_heatmaps_agree_with_the_reference() -> None:
    ours, reference = heatmaps(GOLDEN["heatmap_boxes_xywh"], 16), GOLDEN["heatmaps"]
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)
    assert torch.equal(ours == 1, reference == 1)
    assert torch.equal(ours == 0, reference == 0)


def test_radius_agrees_with_the_reference() -> None:
    cells = GOLDEN["heatmap_boxes_xywh"] * 16
    torch.testing.assert_close(
        heatmap_radius(cells[:, 2], cells[:, 3]), GOLDEN["heatmap_radius_float"], rtol=1e-5, atol=1e-5
    )


def test_nominal_target_has_radius_one_and_nine_cells() -> None:
    box = torch.tensor([[0.375, 0.375, 0.25, 0.25]])
    assert (heatmaps(box, 16) > 0).sum() == 9


def test_a_centre_that_rounds_outside_leaves_no_exact_one() -> None:
    box = torch.tensor([[0.9, 0.4, 0.2, 0.2]])  # centre at 16.0 of 16 cells
    bump = heatmaps(box, 16)
    assert not (bump == 1).any()


@given(st.tuples(*[st.floats(-0.5, 1.5)] * 2, *[st.floats(0, 2)] * 2), st.integers(2, 24))
@settings(max_examples=100, deadline=None)
def test_heatmaps_stay_in_range_with_at_most_one_positive(box: tuple[float, ...], size: int) -> None:
    bump = heatmaps(torch.tensor([box]), size)
    assert bump.shape == (1, size, size)
    assert ((bump >= 0) & (bump <= 1)).all()
    assert (bump == 1).sum() <= 1
