"""IPL: tracking tasks with a modality missing, task alignment, reconstruction (docs/specs/ipl.md, section 5)."""

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from duotrack.boxes import cxcywh_to_xyxy
from duotrack.models.branch import pick
from duotrack.models.ipl import IPL, States
from duotrack.models.outputs import HeadMaps
from duotrack.training.distillation import feature_term, over_layers, per_block
from duotrack.training.losses import TaskLoss
from duotrack.training.settings import Settings
from duotrack.training.step import Batch, StepLosses, check, images, step_losses, task, task_parts

_STREAMS = {"rgb2tir": ("tir", "rgb"), "tir2rgb": ("rgb", "tir")}
"""Stand-in stream -> the ordinary stream that it shall look like, and the one that it is made from."""


class IPLSettings(Settings):
    """What IPL learns from; the defaults are stage 2 as released."""

    stage: Literal["complete", "prompters", "both"] = Field(
        default="prompters",
        description="complete: stage 1, the task with both modalities; prompters: stage 2, the task with either one "
        "missing, alignment and reconstruction; both: their sum, for training in one go (ours)",
    )
    losses: Literal["released", "published"] = Field(
        default="released",
        description="two things differ. Reconstruction: released, the term of RGB -> TIR counts twice (0.5 each) and "
        "that of TIR -> RGB not at all; published, 0.5 of either. Alignment of score maps: released, a softmax over "
        "the single channel makes it zero; published, the softmax goes over the cells",
    )
    frozen_norm: bool = Field(
        default=True, description="the batch norms of the head rest (stage 2); false: they train (stage 1)"
    )
    alignment_weight: float = Field(
        default=1.0, ge=0, description="weight of the divergence of incomplete outputs from the complete one"
    )
    reconstruction_weight: float = Field(default=1.0, ge=0, description="weight of the terms on the layers' features")
    keep_all_before: int = Field(
        default=4, ge=1, description="epoch, the first being 1, before which no search token is eliminated"
    )
    keep_least_from: int = Field(
        default=20, ge=1, description="epoch from which elimination is that of tracking; a half cosine leads there"
    )
    giou_weight: float = Field(default=2.0, ge=0, description="weight of 1 - GIoU in each state's task loss")
    l1_weight: float = Field(
        default=5.0, ge=0, description="weight of the corner L1 distance in each state's task loss"
    )
    focal_weight: float = Field(default=1.0, ge=0, description="weight of the focal loss in each state's task loss")

    @model_validator(mode="after")
    def _rates_fall(self) -> "IPLSettings":
        if self.keep_least_from < self.keep_all_before:
            raise ValueError(f"keep_least_from {self.keep_least_from} is before keep_all_before {self.keep_all_before}")
        return self


def ipl_options(settings: IPLSettings) -> dict[str, Any]:
    """What IPL's network is built with."""
    return {"frozen_norm": settings.frozen_norm}


def keep_ratio(epoch: float, settings: IPLSettings, least: float) -> float:
    """Share of search tokens that a stage keeps in `epoch` (from 0, in fractions), `least` in the end (section 5.2)."""
    number = int(epoch) + 1
    first, last = settings.keep_all_before, settings.keep_least_from
    if number < first:
        return 1.0
    if number >= last:
        return least
    return least + (1 - least) * (1 + math.cos(math.pi * (number - first) / (last - first))) / 2


def ipl_step(net: IPL, batch: Batch, settings: IPLSettings, *, epoch: float = 0.0) -> StepLosses:
    """One training step's losses; randomness (stochastic depth) comes from torch's default generators.

    A sample that lacks a modality contributes the task loss of its own state, whatever the stage.
    """
    ratio = keep_ratio(epoch, settings, net.keep_ratio)
    if settings.stage == "complete":
        template, search = images(batch)
        present = None if batch["present"].all() else batch["present"]
        out = net(template=template, search=search, present=present, keep_ratio=ratio)
        loss = task(out, batch["box"], settings)
        return step_losses(loss.total, task_parts(loss))
    states, losses, parts = _tasks(net, batch, settings, ratio)
    share = batch["present"].all(dim=1).float().mean()
    total = losses["single"].total * (1 - share) if "single" in losses else torch.zeros((), device=share.device)
    alignment = rebuilt = mirrored = torch.zeros((), device=share.device)
    if states is not None:
        wanted = ("no_aux", "no_rgb") if settings.stage == "prompters" else ("complete", "no_aux", "no_rgb")
        outputs = {"no_aux": states.no_aux, "no_rgb": states.no_rgb}
        alignment = torch.stack(
            [align(maps, losses[name], states.complete, losses["complete"], settings) for name, maps in outputs.items()]
        ).sum()
        rebuilt = reconstruction(states, "rgb2tir")
        if settings.losses == "published":
            mirrored = reconstruction(states, "tir2rgb")
            features = 0.5 * rebuilt + 0.5 * mirrored
        else:
            with torch.no_grad():  # for the log
                mirrored = reconstruction(states, "tir2rgb")
            features = rebuilt
        learned = torch.stack([losses[name].total for name in wanted]).sum()
        learned = learned + settings.alignment_weight * alignment + settings.reconstruction_weight * features
        total = total + share * learned
    parts |= {"alignment": alignment, "features_rgb2tir": rebuilt, "features_tir2rgb": mirrored}
    return step_losses(total, parts)


def ipl_check(net: IPL, batch: Batch, settings: IPLSettings) -> dict[str, Tensor]:
    """Losses and mean IoU (no window) on held-out pairs in the states that are trained; evaluation mode.

    `iou`, which chooses the best checkpoint, is the mean over these states; with them go the single states' own.
    """
    return check(net, batch, settings) if settings.stage == "complete" else _tasks(net, batch, settings, None)[-1]


def _tasks(
    net: IPL, batch: Batch, settings: IPLSettings, ratio: float | None
) -> tuple[States | None, dict[str, TaskLoss], dict[str, Tensor]]:
    """Task losses of a batch in all its states.

    Returns:
        All states of the samples that have both modalities; task losses by state, "single" being that of the other
        samples in their own state; scalars for the log, 0 where there is nothing.
    """
    template, search = images(batch)
    both = batch["present"].all(dim=1)
    zero = batch["box"].new_zeros(())
    states = None
    losses: dict[str, TaskLoss] = {}
    if both.any():
        index = both.nonzero()[:, 0]
        states = net.states(template=pick(template, index), search=pick(search, index), keep_ratio=ratio)
        outputs = {"complete": states.complete, "no_aux": states.no_aux, "no_rgb": states.no_rgb}
        losses = {name: task(maps, batch["box"][index], settings) for name, maps in outputs.items()}
    if not both.all():
        index = (~both).nonzero()[:, 0]
        here = batch["present"][index]
        out = net(template=pick(template, index), search=pick(search, index), present=here, keep_ratio=ratio)
        losses["single"] = task(out, batch["box"][index], settings)
    each = [task_parts(loss) for name, loss in losses.items() if settings.stage == "both" or name != "complete"]
    parts = {name: torch.stack([one[name] for one in each]).mean() for name in each[0]}
    for name in ("complete", "no_aux", "no_rgb"):
        parts[name] = losses[name].total if name in losses else zero
        parts[f"{name}_iou"] = losses[name].iou.nanmean() if name in losses else zero
    return states, losses, parts


def align(
    student: HeadMaps, loss: TaskLoss, teacher: HeadMaps, teachers_loss: TaskLoss, settings: IPLSettings
) -> Tensor:
    """Task alignment of an incomplete output with the complete one, which is only a teacher (section 5.3)."""
    total = divergence(cxcywh_to_xyxy(loss.boxes), cxcywh_to_xyxy(teachers_loss.boxes))
    if settings.losses == "published":
        total = total + divergence(student.score_map.flatten(1), teacher.score_map.flatten(1))
    return total


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softmax(student) from softmax(teacher), (B, N) each, summed and divided by B."""
    wanted = teacher.detach().float().softmax(dim=1)
    return F.kl_div(student.float().log_softmax(dim=1), wanted, reduction="batchmean")


def reconstruction(states: States, stream: str) -> Tensor:
    """Sum over layers: what a stand-in stream generates against the stream that it stands in for, and what is rebuilt
    from that against the stream that it is made from.

    Ordinary streams are targets. After an elimination tokens are compared by their rank (section 5.3).
    """
    like, source = ([x.detach() for x in states.features[name]] for name in _STREAMS[stream])
    generated = over_layers(per_block(states.features[stream], like, feature_term), "sum")
    return generated + over_layers(per_block(states.rebuilt[stream], source, feature_term), "sum")
