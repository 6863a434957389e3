"""Targets and loss primitives against the reference (tests/golden/ckd_g_targets.npz) and their own algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.boxes import cxcywh_to_xyxy, giou_xyxy, xywh_to_xyxy
from duotrack.models.outputs import HeadMaps
from duotrack.training.losses import decode, focal_loss, giou_loss, sample_losses, task_loss
from reference import golden_file

GOLDEN = {k: torch.from_numpy(np.asarray(v)) for k, v in golden_file("ckd_g_targets").items()}
PRED = cxcywh_to_xyxy(GOLDEN["pred_cxcywh"])
TRUTH = xywh_to_xyxy(GOLDEN["heatmap_boxes_xywh"]).clamp(0, 1)


def maps_at(box: tuple[float, float, float, float], size: int = 16) -> HeadMaps:
    """Maps whose decoded box is `box` (centre form)."""
    cx, cy, w, h = box
    column, row = int(cx * size), int(cy * size)
    score = torch.full((1, 1, size, size), 0.01)
    score[0, 0, row, column] = 0.9
    ones = torch.ones(1, 1, size, size)
    offset = torch.cat([ones * (cx * size - column), ones * (cy * size - row)], dim=1)
    return HeadMaps(score, torch.cat([ones * w, ones * h], dim=1), offset)


def test_focal_loss_agrees_with_the_reference() -> None:
    loss = focal_loss(GOLDEN["focal_pred"].squeeze(1), GOLDEN["heatmaps"])
    torch.testing.assert_close(loss, GOLDEN["focal_loss"], rtol=1e-5, atol=0)


def test_box_losses_agree_with_the_reference() -> None:
    torch.testing.assert_close(giou_loss(PRED, TRUTH), GOLDEN["giou_loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close((PRED - TRUTH).abs().mean(), GOLDEN["l1_loss"], rtol=1e-5, atol=0)


def test_focal_loss_without_a_positive_is_not_divided() -> None:
    score, target = torch.full((1, 2, 2), 0.3), torch.zeros(1, 2, 2)
    expected = -4 * np.log(0.7) * 0.3**2
    assert focal_loss(score, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_focal_loss_is_finite_at_the_ends(value: float) -> None:
    score = torch.full((1, 4, 4), value, requires_grad=True)
    loss = focal_loss(score, torch.eye(4)[None])
    loss.backward()
    assert torch.isfinite(loss)
    assert score.grad is not None
    assert torch.isfinite(score.grad).all()


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ([0.5, 0.5, 0.4, 0.6], "negative width"),
        ([0.5, 0.5, 0.5, 0.5], "no area on either side"),
    ],
)
def test_a_degenerate_box_neither_raises_nor_poisons_the_batch(broken: list[float], why: str) -> None:
    good = torch.tensor([0.1, 0.1, 0.4, 0.4])
    pred = torch.stack([good, torch.tensor(broken)]).requires_grad_()
    loss = giou_loss(pred, torch.stack([good + 0.1, torch.tensor([0.5, 0.5, 0.5, 0.5])]))
    loss.backward()
    assert torch.isfinite(loss), why
    assert pred.grad is not None
    assert torch.isfinite(pred.grad).all(), why
    assert pred.grad[0].abs().sum() > 0


corner = st.floats(0, 1, allow_nan=False)
boxes = st.tuples(corner, corner, st.floats(0.01, 1), st.floats(0.01, 1))


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_giou_loss_is_one_minus_giou_of_sound_boxes(pairs: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> None:
    pred, truth = (xywh_to_xyxy(torch.tensor([p[i] for p in pairs], dtype=torch.float64)) for i in (0, 1))
    torch.testing.assert_close(giou_loss(pred, truth), (1 - giou_xyxy(pred, truth)).mean())


def test_decode_takes_the_first_of_equal_peaks_and_keeps_the_gradient() -> None:
    score = torch.full((1, 1, 4, 4), 0.5)
    size, offset = torch.rand(1, 2, 4, 4, requires_grad=True), torch.zeros(1, 2, 4, 4, requires_grad=True)
    box = decode(HeadMaps(score, size, offset))
    torch.testing.assert_close(box[0, :2], torch.zeros(2))
    box.sum().backward()
    assert size.grad is not None
    assert size.grad[0, 0, 0, 0] == 1
    assert size.grad.sum() == 2


def test_a_perfect_prediction_has_iou_one_and_box_losses_near_zero() -> None:
    loss = task_loss(maps_at((0.5, 0.5, 0.25, 0.3)), torch.tensor([[0.375, 0.35, 0.25, 0.3]]))
    assert loss.iou.item() == pytest.approx(1, abs=1e-5)
    assert loss.giou.item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(loss.total, 2 * loss.giou + 5 * loss.l1 + loss.focal)


def test_where_no_target_is_shown_only_the_map_counts() -> None:
    torch.manual_seed(0)
    maps = HeadMaps(
        score_map=torch.rand(3, 1, 12, 12) * 0.9 + 0.05,
        size_map=torch.rand(3, 2, 12, 12),
        offset_map=torch.rand(3, 2, 12, 12),
    )
    boxes = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.0, 0, 0, 0], [0.5, 0.1, 0.3, 0.4]])
    both = task_loss(maps, boxes)
    rest = [0, 2]
    alone = task_loss(HeadMaps(*(m[rest] for m in (maps.score_map, maps.size_map, maps.offset_map))), boxes[rest])
    assert torch.isclose(both.giou, alone.giou)
    assert torch.isclose(both.l1, alone.l1)
    empty = -((1 - maps.score_map[1]).log() * maps.score_map[1] ** 2).sum()
    assert torch.isclose(both.focal, alone.focal + empty / 2)
    assert both.iou.isnan().tolist() == [False, True, False]
    assert torch.isfinite(task_loss(maps, torch.zeros(3, 4)).total)
    each = sample_losses(maps, boxes)
    assert torch.isclose(each[1], empty)
