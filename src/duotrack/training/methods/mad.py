"""Multi-expert adaptive distillation: the adapter learns from fusion experts, a judge tracker says from whom how much.

That several experts teach the adapter, and that those whose images are tracked better get more say, is the paper's; all
formulas are ours (docs/specs/tpf.md, section 4).
"""

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.fusion.cache import FrameCache
from duotrack.fusion.choose import ExpertSource, open_experts
from duotrack.fusion.expert import Expert
from duotrack.models.statistics import denormalise, normalise
from duotrack.models.tpf import TPF
from duotrack.training.frozen import resting
from duotrack.training.image_losses import image_distance
from duotrack.training.losses import sample_losses
from duotrack.training.methods.tpf_settings import DistillationSettings, TPFSettings
from duotrack.training.step import Batch, StepLosses, step_losses, task, task_parts

VIEWS = ("template", "dynamic", "search")
Images = dict[str, Tensor]


class Memory(nn.Module):
    """What the judge remembers from step to step.

    `prior` (K,) is the running mean of the weights over experts and belongs to a run's checkpoints. `judged` keeps
    weights by search frame; they are a function of the frame, so that a resumed run finds the same again.
    """

    prior: Tensor

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.register_buffer("prior", torch.full((experts,), 1 / experts))
        self.judged: dict[int, Tensor] = {}


@cache
def experts_of(
    sources: tuple[str | ExpertSource, ...], on_missing: Literal["error", "skip"]
) -> tuple[Expert | FrameCache, ...]:
    """The experts that are named, opened once a process; see `fusion.choose.open_experts`."""
    return tuple(open_experts(sources, on_missing=on_missing))


def named_experts(settings: DistillationSettings) -> tuple[Expert | FrameCache, ...]:
    """`experts_of` the settings."""
    return experts_of(settings.experts, settings.on_missing)


def mad_step(net: TPF, batch: Batch, settings: TPFSettings, memory: Memory) -> StepLosses:
    """One step of stage 1. `iou` and the task's parts are those of the judge on the fused image."""
    learns = [name for name, p in net.named_parameters() if p.requires_grad and not name.startswith("fusion.")]
    if learns:
        raise InputError(
            f"stage mad trains the adapter alone and judges by the rest, but {learns[0]} would train as well; "
            "--set 'optimiser.learning_rates={fusion: 5.0e-4}'"
        )
    fused = fuse_views(net, batch)
    distilled, parts = distillation(net, fused, batch, settings, memory)
    templates = [fused["template"], fused.get("dynamic", fused["template"])]
    with resting(net), torch.set_grad_enabled(settings.mad.lambda_track > 0):
        loss = task(net.find(templates, fused["search"]), batch["box"], settings)
    total = distilled
    if settings.mad.lambda_track > 0:
        total = total + settings.mad.lambda_track * loss.total
    return step_losses(total, task_parts(loss) | parts)


def fuse_views(net: TPF, batch: Batch) -> Images:
    """The adapter's normalised images of all views; an absent modality holds the other's pixels already."""
    return {name: net.fuse(batch[name][:, 0], batch[name][:, 1]) for name in VIEWS if name in batch}


def distillation(
    net: TPF, fused: Images, batch: Batch, settings: TPFSettings, memory: Memory
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_MAD of a batch, and scalars for the log: mean weight of each expert, their entropy.

    Args:
        net: its tracker is the judge.
        fused: normalised images of the adapter, by view.
    """
    experts, mad = named_experts(settings.mad), settings.mad
    taught = {name: expert_images(experts, batch, name) for name in fused}
    weights = _weights(net, taught, batch, settings, memory)
    loss = fused["search"].new_zeros(())
    templates = [name for name in fused if name != "search"]
    for name, images in fused.items():
        share = 1.0 if name == "search" else mad.template_weight / len(templates)
        if share:
            loss = loss + share * _distance(denormalise(images.float()), taught[name], weights, mad).mean()
    mean = weights.mean(dim=0)
    parts = {f"w_{expert.name}": value for expert, value in zip(experts, mean, strict=True)}
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum()
    return loss, parts | {"mad": loss, "entropy": entropy}


def _distance(images: Tensor, targets: Tensor, weights: Tensor, mad: DistillationSettings) -> Tensor:
    """(B,) from (B, 3, H, W) to (K, B, 3, H, W) under weights (B, K)."""
    terms = {"l1": mad.l1, "ssim": mad.ssim, "grad": mad.grad}
    if mad.target == "mean_image":
        return image_distance(images, torch.einsum("bk,kbchw->bchw", weights, targets), **terms)
    return (weights.mT * image_distance(images, targets, **terms)).sum(dim=0)


@torch.no_grad()
def expert_images(experts: tuple[Expert | FrameCache, ...], batch: Batch, view: str) -> Tensor:
    """(K, B, 3, S, S) in [0, 1]: what the experts make of a view, or made of its frames before.

    Raises:
        InputError: an expert whose frames lie in a cache, and the batch has none.
    """
    rgb, aux = (denormalise(image.float()).clamp(0, 1) for image in batch[view].unbind(1))
    made, from_cache = [], 0
    for expert in experts:
        if isinstance(expert, Expert):
            made.append(expert(rgb, aux))
            continue
        if f"fused_{view}" not in batch:
            raise InputError(f"expert {expert.name} lies in a cache, and these pairs have no cached frames")
        made.append(denormalise(batch[f"fused_{view}"][:, from_cache].float()).clamp(0, 1))
        from_cache += 1
    return torch.stack(made)


@torch.no_grad()
def judge(net: TPF, taught: Images, box: Tensor, settings: TPFSettings) -> Tensor:
    """(B, K): how badly the tracker does on each expert's images, each sample by itself.

    Args:
        taught: (K, B, 3, S, S) in [0, 1], by view. box: (B, 4) of the targets.
    """
    count = len(taught["search"])
    images = {name: normalise(each.flatten(0, 1)) for name, each in taught.items()}
    with resting(net):
        out = net.find([images["template"], images.get("dynamic", images["template"])], images["search"])
    losses = sample_losses(
        out,
        box.repeat(count, 1),
        giou_weight=settings.giou_weight,
        l1_weight=settings.l1_weight,
        focal_weight=settings.focal_weight,
    )
    return losses.view(count, -1).mT


def expert_weights(losses: Tensor, tau: float, prior: Tensor | None = None) -> Tensor:
    """softmax(-(l - min l) / tau) over experts, times a prior and normalised again: (B, K) -> (B, K), rows sum to 1.

    An expert whose loss is no finite number gets nothing; where none has one, all get the same.
    """
    losses = losses.detach().float()
    sound = losses.isfinite()
    losses = torch.where(sound, losses, math.inf)
    lead = losses - losses.amin(dim=1, keepdim=True)
    scores = torch.where(sound, -lead / tau, -math.inf)
    scores = torch.where(sound.any(dim=1, keepdim=True), scores, 0.0)
    if prior is not None:
        scores = scores + prior.clamp(min=1e-12).log()
    return scores.softmax(dim=1)


def _weights(net: TPF, taught: Images, batch: Batch, settings: TPFSettings, memory: Memory) -> Tensor:
    """(B, K), by this step's crops or by fixed ones, and the prior brought up to date."""
    if settings.mad.weights == "online":
        own = expert_weights(judge(net, taught, batch["box"], settings), settings.mad.tau)
    else:
        own = _remembered(net, batch, settings, memory)
    if settings.mad.prior == 0:
        return own
    weights = own * memory.prior
    if net.training:
        # the mean of what the judge says by itself: fed by its own product, the prior would drift to one expert
        memory.prior.lerp_(own.mean(dim=0), 1 - settings.mad.prior)
    return weights / weights.sum(dim=1, keepdim=True)


def _remembered(net: TPF, batch: Batch, settings: TPFSettings, memory: Memory) -> Tensor:
    if "frame" not in batch:
        raise InputError("mad.weights is cached, which judges fixed crops; --set data.sampling.centred=true")
    frames = batch["frame"].tolist()
    experts = named_experts(settings.mad)
    for i, frame in enumerate(frames):
        if frame in memory.judged:
            continue
        # one by one: a frame's weights must not depend, even in rounding, on the batch that it came in first
        fixed = {key.replace("centred_", ""): value[i : i + 1] for key, value in batch.items() if "centred_" in key}
        taught = {name: expert_images(experts, fixed, name) for name in ("template", "search")}
        memory.judged[frame] = expert_weights(judge(net, taught, fixed["box"], settings), settings.mad.tau)[0]
    return torch.stack([memory.judged[frame] for frame in frames])
