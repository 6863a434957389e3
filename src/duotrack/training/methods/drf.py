"""Decoupled representation fine-tuning: what matters to tracking apart from what does not.

That stage 2 separates task-relevant from task-irrelevant representation is the paper's; gate, losses and numbers are
ours (docs/specs/tpf.md, section 5).
"""

import torch
from torch import Tensor

from duotrack.models.head import CenterHead
from duotrack.models.outputs import NetOutput
from duotrack.models.statistics import normalise
from duotrack.models.tpf import TPF, Split, as_map
from duotrack.training.frozen import without_learning
from duotrack.training.methods.mad import VIEWS, Images, Memory, distillation
from duotrack.training.methods.tpf_settings import TPFSettings
from duotrack.training.step import Batch, StepLosses, step_losses, task, task_parts
from duotrack.training.targets import heatmaps

_EPSILON = 1e-6


def drf_step(net: TPF, batch: Batch, settings: TPFSettings, memory: Memory | None) -> StepLosses:
    """One step of stage 2; `memory` is needed where `drf.kd` is above 0.

    With kd the judge is the tracker as it stands at this step: there is no copy of the one that stage 1 began with.
    """
    drf = settings.drf
    fused: Images = {}
    split: Split | None = None
    for view in VIEWS:
        if view in batch:
            fused[view], split = net.draw(batch[view][:, 0], batch[view][:, 1])
    templates = [fused["template"], fused.get("dynamic", fused["template"])]
    out = net.find(templates, fused["search"])
    loss = task(out, batch["box"], settings)
    total, parts = loss.total, task_parts(loss)
    if net.gate is not None:
        if net.level == "backbone":
            split = net.split(net.search_tokens(out))
            score = without_learning(net.box_head, _score, split.irrelevant)
        else:
            assert split is not None  # the search image's, drawn last
            score = without_learning(net, _score_of_features, split.irrelevant, templates, batch["search"][:, 0])
        irrelevant, apart = irrelevance(score, batch["box"]), decoupling(split)
        mean = split.gate.float().mean()
        total = total + drf.w_irr * irrelevant + drf.w_dec * apart + drf.prior * (mean - 0.5) ** 2
        parts |= {"irr": irrelevant, "dec": apart, "gate": mean}
    if drf.kd > 0:
        assert memory is not None  # made for these settings
        distilled, more = distillation(net, fused, batch, settings, memory)
        total = total + drf.kd * distilled
        parts |= more
    return step_losses(total, parts)


def _score(head: CenterHead, tokens: Tensor) -> Tensor:
    return head(tokens).score_map


def _score_of_features(net: TPF, features: Tensor, templates: list[Tensor], like: Tensor) -> Tensor:
    """What the tracker finds in an image that is drawn from features alone, without any pixel of the sensors."""
    height, width = (-(-side // net.fusion.stride) for side in like.shape[-2:])
    shape = like.new_empty(len(like), net.fusion.width, height, width)
    nothing = torch.zeros_like(like)
    image = normalise(net.fusion.decode(as_map(features, shape), nothing, nothing))
    out: NetOutput = net.find([z.detach() for z in templates], image)
    return out.score_map


def irrelevance(score: Tensor, box: Tensor) -> Tensor:
    """-sum y log(1 - p) / sum y: a score p (B, 1, h, w) on the target's neighbourhood y, which (B, 4) boxes give."""
    target = heatmaps(box, score.shape[-1])
    silence = torch.log((1 - score.float().squeeze(1)).clamp(min=1e-12))
    return -(target * silence).sum() / target.sum().clamp(min=1)


def decoupling(split: Split) -> Tensor:
    """Mean over tokens of the squared cosine between both parts, each less its mean over the sample's tokens."""
    one, other = (part.float() - part.float().mean(dim=1, keepdim=True) for part in (split.relevant, split.irrelevant))
    lengths = (one.square().sum(-1) + _EPSILON**2).sqrt() * (other.square().sum(-1) + _EPSILON**2).sqrt()
    return ((one * other).sum(-1) / lengths).square().mean()
