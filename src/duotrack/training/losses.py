"""Losses of one centre head: focal, GIoU, L1, and their weighted sum (docs/specs/ckd.md, section 3.6)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from duotrack.boxes import cxcywh_to_xyxy, iou_xyxy, xywh_to_xyxy
from duotrack.models.outputs import HeadMaps
from duotrack.training.targets import heatmaps


def focal_loss(score: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss (CenterNet), per positive of the whole batch.

    Args:
        score: predicted probabilities, any shape.
        target: heatmaps of the same shape; an exact 1 is a positive.

    Returns:
        A scalar: -(positive + negative terms) / number of positives, undivided where there are none.
    """
    return _focal_terms(score, target).sum() / (target == 1).sum().clamp(min=1)


def _focal_terms(score: Tensor, target: Tensor) -> Tensor:
    score = score.float().clamp(min=1e-12)
    hit = score.log() * (1 - score) ** 2
    miss = (1 - score).clamp(min=1e-12).log() * score**2 * (1 - target) ** 4
    return -torch.where(target == 1, hit, miss)


def shown(boxes: Tensor) -> Tensor:
    """(B, 4) `xywh` boxes -> (B,) bool: whether the search image shows a target, which a box without a size denies."""
    return (boxes[:, 2:] > 0).all(dim=1)


def giou_loss(pred: Tensor, truth: Tensor) -> Tensor:
    """Mean of 1 - GIoU over (B, 4) `xyxy` boxes; see `giou_terms`."""
    return giou_terms(pred, truth).mean()


def giou_terms(pred: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU of each pair of (B, 4) `xyxy` boxes, (B,).

    A pair for which GIoU does not exist (a negative side, no hull) counts 0 and passes no gradient, so that one broken
    box cannot poison a batch.
    """
    sound = ((pred[..., 2:] >= pred[..., :2]) & (truth[..., 2:] >= truth[..., :2])).all(-1)
    left_top, right_bottom = torch.maximum(pred[..., :2], truth[..., :2]), torch.minimum(pred[..., 2:], truth[..., 2:])
    intersection = (right_bottom - left_top).clamp(min=0).prod(-1)
    union = (pred[..., 2:] - pred[..., :2]).prod(-1) + (truth[..., 2:] - truth[..., :2]).prod(-1) - intersection
    hull = (torch.maximum(pred[..., 2:], truth[..., 2:]) - torch.minimum(pred[..., :2], truth[..., :2])).prod(-1)
    sound = sound & (union > 0) & (hull > 0)
    union, hull = torch.where(sound, union, 1.0), torch.where(sound, hull, 1.0)  # a NaN must not enter the gradient
    giou = intersection / union - (hull - union) / hull
    return torch.where(sound, 1 - giou, 0.0)


def decode(maps: HeadMaps) -> Tensor:
    """Boxes at the highest score, without a window: (B, 4) centre form, fractions of the search image (section 1.6)."""
    batch, _, rows, columns = maps.score_map.shape
    index = maps.score_map.detach().reshape(batch, -1).argmax(dim=1)
    size, offset = (
        m.float().flatten(2).gather(2, index[:, None, None].expand(-1, 2, 1)).squeeze(2)
        for m in (maps.size_map, maps.offset_map)
    )
    cx = (index % columns + offset[:, 0]) / columns
    cy = (index // columns + offset[:, 1]) / rows
    return torch.cat([torch.stack([cx, cy], dim=1), size], dim=1)


@dataclass(frozen=True)
class TaskLoss:
    """The parts of one head's loss, scalars; of the decoded `boxes` (B, 4) centre form the `iou` (B,), detached."""

    total: Tensor
    giou: Tensor
    l1: Tensor
    focal: Tensor
    iou: Tensor
    boxes: Tensor


def task_loss(
    maps: HeadMaps, boxes: Tensor, *, giou_weight: float = 2.0, l1_weight: float = 5.0, focal_weight: float = 1.0
) -> TaskLoss:
    """2 GIoU + 5 L1 + focal of one head against ground truth (B, 4) x, y, w, h in fractions of the search image.

    Computed in float32 whatever the maps' precision. The truth is clamped to [0, 1], the prediction is not. Where no
    target is shown (see `shown`; ours) the map is to be 0 everywhere and the box does not count; its `iou` is NaN.
    """
    target = heatmaps(boxes, maps.score_map.shape[-1])
    pred_boxes = decode(maps)
    pred, truth = cxcywh_to_xyxy(pred_boxes), xywh_to_xyxy(boxes.float()).clamp(0, 1)
    there = shown(boxes)
    counted = there.sum().clamp(min=1)
    giou = torch.where(there, giou_terms(pred, truth), 0.0).sum() / counted
    l1 = torch.where(there[:, None], (pred - truth).abs(), 0.0).sum() / (4 * counted)
    focal = focal_loss(maps.score_map.squeeze(1), target)
    total = giou_weight * giou + l1_weight * l1 + focal_weight * focal
    iou = torch.where(there, iou_xyxy(pred, truth).detach(), torch.nan)
    return TaskLoss(total, giou, l1, focal, iou, pred_boxes)


def sample_losses(
    maps: HeadMaps, boxes: Tensor, *, giou_weight: float = 2.0, l1_weight: float = 5.0, focal_weight: float = 1.0
) -> Tensor:
    """As `task_loss`, but (B,), each sample's by itself: its focal term is over its own positives only."""
    target = heatmaps(boxes, maps.score_map.shape[-1])
    pred, truth = cxcywh_to_xyxy(decode(maps)), xywh_to_xyxy(boxes.float()).clamp(0, 1)
    focal = _focal_terms(maps.score_map.squeeze(1), target).sum(dim=(1, 2))
    focal = focal / (target == 1).sum(dim=(1, 2)).clamp(min=1)
    l1 = (pred - truth).abs().mean(dim=1)
    boxed = giou_weight * giou_terms(pred, truth) + l1_weight * l1
    return torch.where(shown(boxes), boxed, 0.0) + focal_weight * focal
