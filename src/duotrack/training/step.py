"""What the training steps of all methods share: the batch, the losses they hand out, the task loss of a head."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from duotrack.models.outputs import HeadMaps, NetOutput
from duotrack.training.losses import TaskLoss, task_loss

Batch = dict[str, Tensor]
"""`template` (B, 2, 3, T, T), `search` (B, 2, 3, S, S), `box` (B, 4), `present` (B, 2), as `training.pairs` makes.

A box of zeros: the search image does not show the target."""


@dataclass(frozen=True)
class StepLosses:
    """`total` is what is optimised; `parts` are detached scalars for the log, `total` and `iou` among them."""

    total: Tensor
    parts: dict[str, Tensor]


def step_losses(total: Tensor, parts: dict[str, Tensor]) -> StepLosses:
    """`total` and the parts beside it, detached for the log."""
    return StepLosses(total, {name: part.detach() for name, part in {"total": total, **parts}.items()})


class TaskWeights(Protocol):
    """The part of a method's settings that weighs the terms of a head's task loss."""

    @property
    def giou_weight(self) -> float:
        """Of 1 - GIoU."""

    @property
    def l1_weight(self) -> float:
        """Of the corner L1 distance."""

    @property
    def focal_weight(self) -> float:
        """Of the focal loss."""


def task(maps: HeadMaps, box: Tensor, weights: TaskWeights) -> TaskLoss:
    """One head's task loss; see `losses.task_loss`."""
    return task_loss(
        maps, box, giou_weight=weights.giou_weight, l1_weight=weights.l1_weight, focal_weight=weights.focal_weight
    )


def task_parts(loss: TaskLoss) -> dict[str, Tensor]:
    """The scalars of one head for the log."""
    return {"task": loss.total, "giou": loss.giou, "l1": loss.l1, "focal": loss.focal, "iou": loss.iou.nanmean()}


def images(batch: Batch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Template and search images of a batch, each as (rgb, aux)."""
    template, search = batch["template"], batch["search"]
    return (template[:, 0], template[:, 1]), (search[:, 0], search[:, 1])


def check(net: nn.Module, batch: Batch, settings: TaskWeights) -> dict[str, Tensor]:
    """The head's losses and mean IoU (no window) on held-out pairs; `net` is in evaluation mode."""
    template, search = images(batch)
    present = None if batch["present"].all() else batch["present"]
    out: NetOutput = net(template=template, search=search, present=present)
    return task_parts(task(out, batch["box"], settings))
