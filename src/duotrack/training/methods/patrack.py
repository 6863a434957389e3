"""PATrack learns from the boxes alone (docs/specs/patrack.md, section 2.1)."""

from typing import Any

from pydantic import Field
from torch import nn

from duotrack.models.patrack import Routing
from duotrack.training.settings import Settings
from duotrack.training.step import Batch, StepLosses, images, step_losses, task, task_parts


class PATrackSettings(Settings):
    """How PATrack's adapters are wired, and the weights of its losses."""

    routing: Routing = Field(
        default="released",
        description="adapters speak to the other stream (released; its checkpoints need it) or, as the paper has it, "
        "within a stream (published)",
    )
    giou_weight: float = Field(default=2.0, ge=0, description="weight of 1 - GIoU in the task loss")
    l1_weight: float = Field(default=5.0, ge=0, description="weight of the corner L1 distance in the task loss")
    focal_weight: float = Field(default=1.0, ge=0, description="weight of the focal loss in the task loss")


def patrack_options(settings: PATrackSettings) -> dict[str, Any]:
    """What PATrack's network is built with."""
    return {"routing": settings.routing}


def patrack_step(net: nn.Module, batch: Batch, settings: PATrackSettings, *, epoch: float = 0.0) -> StepLosses:
    """One training step's losses, the same in every `epoch`; dropout and stochastic depth use torch's generators."""
    template, search = images(batch)  # an absent modality holds the other's pixels, which is the network's fallback
    loss = task(net(template=template, search=search), batch["box"], settings)
    return step_losses(loss.total, task_parts(loss))
