"""CKD's losses: tracking tasks, style and content distillation, masked modelling (docs/specs/ckd.md, 2.3, 2.4)."""

from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from duotrack.models.ckd import CKD
from duotrack.models.outputs import NetOutput
from duotrack.training.distillation import (
    Deviation,
    Over,
    Reduction,
    content_term,
    feature_term,
    over_layers,
    per_block,
    style_term,
)
from duotrack.training.settings import Settings
from duotrack.training.step import Batch, StepLosses, images, step_losses, task, task_parts


class CKDSettings(Settings):
    """What CKD learns from besides the boxes; the defaults are the released ones (paper's tables: docs/training.md)."""

    teachers: bool = Field(
        default=True, description="train two teachers, each with a head of its own, beside the students"
    )
    between_students: Literal["none", "style", "features"] = Field(
        default="style", description="what the students share: block statistics, or plain features"
    )
    from_teachers: Literal["none", "content", "features"] = Field(
        default="content",
        description="what a student learns from its teacher: instance-normalised or plain features",
    )
    style_weight: float = Field(
        default=0.01, ge=0, description="weight of the term between students (paper: 2:1 to content)"
    )
    content_weight: float = Field(default=0.1, ge=0, description="weight of the term from the teachers")
    over_blocks: Reduction = Field(
        default="sum", description="sum of the blocks' terms (released) or their mean (paper)"
    )
    deviation: Deviation = Field(
        default="bessel", description="standard deviation over N-1 (released) or N tokens (paper)"
    )
    statistics: Over = Field(default="tokens", description="statistics over tokens (one a channel) or over channels")
    stop_style_gradient: bool = Field(
        default=False, description="pull only the aux student: the rgb side passes no gradient"
    )
    stop_content_gradient: bool = Field(default=True, description="teachers learn nothing from the students")
    content_only: bool = Field(
        default=False, description="the heads see instance-normalised features only (paper's Table V, 'w/ IN')"
    )
    mask_ratio: float = Field(
        default=0.25, ge=0, lt=1, description="share of the students' search tokens that are masked"
    )
    mask_probability: float = Field(default=1.0, ge=0, le=1, description="share of the samples that are masked")
    giou_weight: float = Field(default=2.0, ge=0, description="weight of 1 - GIoU in each head's task loss")
    l1_weight: float = Field(default=5.0, ge=0, description="weight of the corner L1 distance in each head's task loss")
    focal_weight: float = Field(default=1.0, ge=0, description="weight of the focal loss in each head's task loss")

    @model_validator(mode="after")
    def _teachers_teach(self) -> "CKDSettings":
        if self.from_teachers != "none" and not self.teachers:
            raise ValueError(
                f"from_teachers is {self.from_teachers!r} but teachers is false; set one of them otherwise"
            )
        return self


def ckd_options(settings: CKDSettings) -> dict[str, Any]:
    """What CKD's network is built with."""
    return {"teachers": settings.teachers, "content_only": settings.content_only}


def ckd_step(net: CKD, batch: Batch, settings: CKDSettings, *, epoch: float = 0.0) -> StepLosses:
    """One training step's losses, the same in every `epoch`.

    Randomness (masks, stochastic depth) comes from torch's default generators.
    """
    tokens = net.students["rgb"].search_grid ** 2
    keep = draw_keep(len(batch["box"]), tokens, settings, batch["box"].device)
    out = forward(net, batch, keep)
    fused = task(out, batch["box"], settings)
    parts = task_parts(fused)
    total = fused.total
    for name, maps in out.teachers.items():
        teacher = task(maps, batch["box"], settings)
        total = total + teacher.total
        parts |= {f"teacher_{name}": teacher.total, f"teacher_{name}_iou": teacher.iou.nanmean()}
    if settings.between_students != "none":
        between = over_layers(between_students(out, batch["present"], settings), settings.over_blocks)
        total = total + settings.style_weight * between
        parts["style"] = between
    if settings.from_teachers != "none":
        content = over_layers(from_teachers(out, settings), settings.over_blocks)
        total = total + settings.content_weight * content
        parts["content"] = content
    return step_losses(total, parts)


def draw_keep(batch: int, tokens: int, settings: CKDSettings, device: torch.device) -> Tensor | None:
    """(B, tokens) bool, False = masked; one mask for both students of a sample. None where nothing can be masked.

    With a probability between 0 and 1 a sample is masked with that probability, each of its tokens with `mask_ratio`
    (the release has this inverted; docs/specs/ckd.md, section 2.3).
    """
    if settings.mask_ratio == 0 or settings.mask_probability == 0:
        return None
    keep = torch.rand(batch, tokens, device=device) > settings.mask_ratio
    if settings.mask_probability < 1:
        keep |= torch.rand(batch, 1, device=device) >= settings.mask_probability
    return keep


def forward(net: CKD, batch: Batch, keep: Tensor | None = None) -> NetOutput:
    """The network on a batch whose samples may lack a modality (teachers see the other one's pixels there)."""
    template, search = images(batch)
    present = None if batch["present"].all() or (net.training and net.has_teachers) else batch["present"]
    return net(template=template, search=search, search_keep=keep, present=present)


def between_students(out: NetOutput, present: Tensor, settings: CKDSettings) -> Tensor:
    """(blocks,) terms between the two students, over samples where both modalities are truly there.

    Scaled by the share of such samples, so that each counts the same whatever batch it is in; 0 where there is none.
    """
    both = present.all(dim=1)
    if not both.any():
        return torch.zeros(1, device=both.device)
    xs, ys = out.blocks["rgb"], out.blocks["aux"]
    if len(xs[0]) > both.sum():
        xs, ys = [x[both] for x in xs], [y[both] for y in ys]
    if settings.stop_style_gradient:
        xs = [x.detach() for x in xs]
    if settings.between_students == "features":
        return per_block(xs, ys, feature_term) * both.float().mean()
    term = partial(style_term, over=settings.statistics, deviation=settings.deviation)
    return per_block(xs, ys, term) * both.float().mean()


def from_teachers(out: NetOutput, settings: CKDSettings) -> Tensor:
    """(blocks,) terms from each teacher to its student, both modalities added."""
    term = feature_term if settings.from_teachers == "features" else partial(content_term, over=settings.statistics)
    terms = []
    for name in ("rgb", "aux"):
        teacher = out.blocks[f"teacher_{name}"]
        if settings.stop_content_gradient:
            teacher = [x.detach() for x in teacher]
        terms.append(per_block(teacher, out.blocks[name], term))
    return terms[0] + terms[1]
