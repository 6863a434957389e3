"""Every knob of TPF's training (docs/specs/tpf.md, section 9). The stages' names are the paper's, the numbers ours."""

from typing import Annotated, Literal

from pydantic import Field

from duotrack.fusion.choose import DEFAULT, ExpertSource
from duotrack.models.tpf_options import AdapterOptions
from duotrack.training.settings import Settings


class AdapterSettings(AdapterOptions):
    """The pixel-level fusion adapter: what it computes, which travels with the weights, and how."""

    backend: Literal["chunk", "loop", "mamba_ssm"] = Field(
        default="chunk", description="the scan: chunk; loop, slow; mamba_ssm, a CUDA kernel of that package"
    )
    chunk: Annotated[int, Field(ge=1, le=65536)] | Literal["auto"] = Field(
        default="auto", description="steps in a chunk; auto: near the root of all"
    )
    recompute: bool = Field(default=True, description="the scan's states are computed again backwards, not kept")


class DistillationSettings(Settings):
    """Stage mad, multi-expert adaptive distillation; in stage drf, what `drf.kd` weighs."""

    experts: tuple[str | ExpertSource, ...] = Field(
        default=DEFAULT,
        min_length=1,
        description="experts by name, or with what they are made of: docs/fusion.md",
    )
    on_missing: Literal["error", "skip"] = Field(
        default="error", description="an expert whose weights or cache are not there ends the run, or is left out"
    )
    tau: float = Field(
        default=1.0, gt=0, description="temperature of the weights over experts: towards 0 the best alone, .inf: equal"
    )
    weights: Literal["online", "cached"] = Field(
        default="online",
        description="online: the judge sees every expert's crops of the step; cached: it sees fixed crops of a search "
        "frame, once (needs data.sampling.centred)",
    )
    prior: float = Field(
        default=0.0, ge=0, lt=1, description="momentum of a running mean of the weights, which multiplies them; 0: none"
    )
    target: Literal["sum", "mean_image"] = Field(
        default="sum", description="weighted sum of distances to the experts, or distance to their weighted mean"
    )
    l1: float = Field(default=1.0, ge=0, description="weight of the mean absolute difference of pixels")
    ssim: float = Field(default=1.0, ge=0, description="weight of 1 - structural similarity")
    grad: float = Field(default=1.0, ge=0, description="weight of the mean absolute difference of Sobel gradients")
    template_weight: float = Field(default=0.5, ge=0, description="weight of templates beside the search image's 1")
    lambda_track: float = Field(default=0.0, ge=0, description="weight of the tracking loss of the fused image")


class DecouplingSettings(Settings):
    """Stage drf, decoupled representation fine-tuning."""

    level: Literal["backbone", "pfa"] = Field(
        default="backbone", description="features that are split: the tracker's search tokens, or the adapter's"
    )
    bottleneck: int | None = Field(default=96, ge=1, le=4096, description="width inside the gate; null: no gate")
    w_irr: float = Field(
        default=0.1, ge=0, description="weight of the term that the irrelevant part shows no target to the resting head"
    )
    w_dec: float = Field(default=0.1, ge=0, description="weight of the squared cosine between both parts")
    prior: float = Field(default=1e-3, ge=0, description="weight of (mean gate - 0.5) squared")
    kd: float = Field(default=0.0, ge=0, description="weight of stage mad's loss against forgetting; needs the experts")
    inference_gate: bool = Field(
        default=True, description="the head reads the relevant part; false: all, the gate serves the terms above only"
    )


class TPFSettings(Settings):
    """What TPF learns from."""

    stage: Literal["mad", "drf"] = Field(
        default="drf", description="mad: the adapter learns from experts; drf: all learns to track"
    )
    pfa: AdapterSettings = Field(default_factory=AdapterSettings, description="the fusion adapter")
    mad: DistillationSettings = Field(default_factory=DistillationSettings, description="stage mad")
    drf: DecouplingSettings = Field(default_factory=DecouplingSettings, description="stage drf")
    giou_weight: float = Field(default=2.0, ge=0, description="weight of 1 - GIoU in the task loss, the judge's too")
    l1_weight: float = Field(default=5.0, ge=0, description="weight of the corner L1 distance in the task loss")
    focal_weight: float = Field(default=1.0, ge=0, description="weight of the focal loss in the task loss")
