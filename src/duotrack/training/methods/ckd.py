"""CKD's losses: three tracking tasks, style and content distillation, masked modelling (docs/specs/ckd.md, 2.3, 2.4)."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from duotrack.errors import InputError
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
from duotrack.training.losses import TaskLoss, task_loss
from duotrack.training.settings import Settings

Batch = dict[str, Tensor]
"""`template` (B, 2, 3, T, T), `search` (B, 2, 3, S, S) normalised, `box` (B, 4) xywh in the search crop, `present` (B, 2) bool."""


class CKDSettings(Settings):
    """What CKD learns from besides the boxes. Defaults: as released; docs/training.md maps the paper's tables to them."""

    teachers: bool = Field(True, description="train two teachers, each with a head of its own, beside the students")
    between_students: Literal["none", "style", "features"] = Field(
        "style", description="what the two students are pulled together in: block statistics, or plain features"
    )
    from_teachers: Literal["none", "content", "features"] = Field(
        "content", description="what a student learns from its teacher: instance-normalised features, or plain ones"
    )
    style_weight: float = Field(0.01, ge=0, description="weight of the term between students (paper: 2:1 to content)")
    content_weight: float = Field(0.1, ge=0, description="weight of the term from the teachers")
    over_blocks: Reduction = Field("sum", description="sum of the blocks' terms (released) or their mean (paper)")
    deviation: Deviation = Field("bessel", description="standard deviation over N-1 (released) or N tokens (paper)")
    statistics: Over = Field("tokens", description="statistics over tokens, a channel each, or over channels, a token each")
    stop_style_gradient: bool = Field(False, description="pull only the aux student: the rgb side passes no gradient")
    stop_content_gradient: bool = Field(True, description="teachers learn nothing from the students")
    mask_ratio: float = Field(0.25, ge=0, lt=1, description="share of the students' search tokens that are masked")
    mask_probability: float = Field(1.0, ge=0, le=1, description="share of the samples that are masked")
    content_only: bool = Field(
        False, description="students hand only instance-normalised features to the head (paper's 'w/ IN')"
    )
    giou_weight: float = Field(2.0, ge=0, description="weight of 1 - GIoU in each head's task loss")
    l1_weight: float = Field(5.0, ge=0, description="weight of the corner L1 distance in each head's task loss")
    focal_weight: float = Field(1.0, ge=0, description="weight of the focal loss in each head's task loss")

    @model_validator(mode="after")
    def _teachers_teach(self) -> "CKDSettings":
        if self.from_teachers != "none" and not self.teachers:
            raise ValueError(f"from_teachers is {self.from_teachers!r} but teachers is false; set one of them otherwise")
        return self


@dataclass(frozen=True)
class StepLosses:
    """`total` is what is optimised; `parts` are detached scalars for the log, `total` and `iou` among them."""

    total: Tensor
    parts: dict[str, Tensor]


def ckd_step(net: CKD, batch: Batch, settings: CKDSettings) -> StepLosses:
    """One training step's losses. Randomness (masks, stochastic depth) comes from torch's default generators.

    Raises:
        InputError: a sample lacks a modality and the model has a student for each (it would never learn the fallback).
    """
    tokens = net.students["rgb"].search_grid ** 2
    keep = draw_keep(len(batch["box"]), tokens, settings, batch["box"].device)
    out = forward(net, batch, keep)
    task = partial(
        task_loss,
        boxes=batch["box"],
        giou_weight=settings.giou_weight,
        l1_weight=settings.l1_weight,
        focal_weight=settings.focal_weight,
    )
    fused = task(out)
    parts = task_parts(fused)
    total = fused.total
    for name, maps in out.teachers.items():
        teacher = task(maps)
        total = total + teacher.total
        parts |= {f"teacher_{name}": teacher.total, f"teacher_{name}_iou": teacher.iou.mean()}
    if settings.between_students != "none":
        between = over_layers(between_students(out, batch["present"], settings), settings.over_blocks)
        total = total + settings.style_weight * between
        parts["style"] = between
    if settings.from_teachers != "none":
        content = over_layers(from_teachers(out, settings), settings.over_blocks)
        total = total + settings.content_weight * content
        parts["content"] = content
    return StepLosses(total, {"total": total.detach()} | {name: part.detach() for name, part in parts.items()})


def task_parts(loss: TaskLoss) -> dict[str, Tensor]:
    """The scalars of one head for the log."""
    return {"task": loss.total, "giou": loss.giou, "l1": loss.l1, "focal": loss.focal, "iou": loss.iou.mean()}


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
    """The network on a batch whose samples may lack a modality."""
    template, search, present = batch["template"], batch["search"], batch["present"]
    if present.all():
        return net(
            template=tuple(template.unbind(1)),
            search=tuple(search.unbind(1)),
            search_keep=keep,
        )
    if not net.shared:
        raise InputError("a sample lacks a modality; a model with a student for each modality trains on complete pairs")
    if net.elimination == "none" and not (net.training and net.has_teachers):
        return _forward_present(net, template, search, present, keep)
    # the same student sees the same image in both places, so the missing one takes the other's features
    spare = (~present)[:, :, None, None, None]
    template, search = (torch.where(spare, images.flip(1), images) for images in (template, search))
    return net(template=tuple(template.unbind(1)), search=tuple(search.unbind(1)), search_keep=keep)


def _forward_present(net: CKD, template: Tensor, search: Tensor, present: Tensor, keep: Tensor | None) -> NetOutput:
    """A shared student over the images that exist, all in one pass: half the work where one modality is missing."""
    sample, _ = present.nonzero(as_tuple=True)
    branch = net.branch
    tokens = branch.embed(template[present], search[present], None if keep is None else keep[sample])
    outputs = []
    for block in branch.blocks:
        tokens = block(tokens)
        outputs.append(tokens)
    # row of each (sample, modality) in the packed batch; a missing modality points at the other's row
    rows = present.flatten().cumsum(0).view_as(present) - 1
    rows = torch.where(present, rows, rows.gather(1, (1 - torch.arange(2, device=rows.device)).expand_as(rows)))
    final = branch.norm(tokens)
    fused = torch.cat([final[rows[:, 0]], final[rows[:, 1]]], dim=-1)
    maps = net.box_head(fused[:, branch.template_grid**2 :])
    blocks = {name: [x[rows[:, i]] for x in outputs] for i, name in enumerate(("rgb", "aux"))} if net.training else {}
    return NetOutput(**vars(maps), features=fused, blocks=blocks)


def between_students(out: NetOutput, present: Tensor, settings: CKDSettings) -> Tensor:
    """(blocks,) terms between the two students, over samples where both modalities are truly there; 0 where none is."""
    xs, ys = out.blocks["rgb"], out.blocks["aux"]
    both = present.all(dim=1)
    if not both.any():
        return torch.stack([x.new_zeros((), dtype=torch.float32) for x in xs])
    if not both.all():
        xs, ys = [x[both] for x in xs], [y[both] for y in ys]
    if settings.stop_style_gradient:
        xs = [x.detach() for x in xs]
    if settings.between_students == "features":
        return per_block(xs, ys, feature_term)
    return per_block(xs, ys, partial(style_term, over=settings.statistics, deviation=settings.deviation))


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
