"""Every model by name: how to build it, its geometry, its default weights. One explicit dictionary."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from duotrack.errors import InputError, nearest
from duotrack.models.ckd import CKD
from duotrack.models.elimination import MODES
from duotrack.models.head import CenterHead, FrozenNorm
from duotrack.models.hiera import HieraBranch
from duotrack.models.ipl import ELIMINATIONS as IPL_ELIMINATIONS
from duotrack.models.ipl import IPL
from duotrack.models.patrack import AdaptedBlock, PATrack
from duotrack.models.pixel_fusion import PixelFusionAdapter
from duotrack.models.tpf import ELIMINATIONS as TPF_ELIMINATIONS
from duotrack.models.tpf import TPF, RelevanceGate
from duotrack.models.tpf_options import TPFOptions
from duotrack.models.vit import VisionTransformer


@dataclass(frozen=True)
class Geometry:
    """What a model looks at: square crops around the target.

    A crop's side is `factor` times the square root of the box area; it is resized to `size` pixels. `rim`: share of its
    contrast that a template keeps outside of the target's box, so that the network knows the box's shape; 1 leaves it
    as it is (ours: nothing else tells a network where in its template the target ends). `window`: the power of the Hann
    window that weights the score map; 1 as published, less trusts nearness less, 0 not at all. `unbias`: share of the
    difference between the network's own box in the first frame and the given one that is taken off each reported box
    (`duotrack.tracking.bias`); 0 as published.
    """

    template_size: int
    search_size: int
    template_factor: float = 2.0
    search_factor: float = 4.0
    stride: int = 16
    rim: float = 1.0
    window: float = 1.0
    unbias: float = 0.0


@dataclass(frozen=True)
class ModelSpec:
    """One model of the zoo.

    `build(elimination=..., drop_path=..., ...)` makes the network with initial values, further options being its
    method's; `elimination` is the default one of the `eliminations` that it knows; `weights` is the name of its file
    inside the package, None where users bring their own; `calibration` (slope, intercept) maps the logit of the raw
    score to the logit of the confidence, (1, 0) where nobody calibrated it; `windowed_score`: that
    raw score is taken times the window that chose the cell, as the release reports it; `kinds` what its auxiliary
    frames may show ("thermal", "depth", "event") where the weights do not say it; `templates`: how many it takes, 2
    where a `dynamic` one stands beside the first frame's; `template_theta`: raw score from which a frame may give that;
    `redetect`: whether a lost target is looked for in the whole frame unless somebody says otherwise; `state`: fields
    of `duotrack.tracking.state.StateRule` that differ from its defaults.
    """

    name: str
    method: str
    summary: str
    build: Callable[..., nn.Module]
    geometry: Geometry
    elimination: str
    eliminations: tuple[str, ...] = MODES
    weights: str | None = None
    calibration: tuple[float, float] = (1.0, 0.0)
    windowed_score: bool = False
    kinds: tuple[str, ...] = ("thermal",)
    templates: int = 1
    template_theta: float = 0.65
    redetect: bool = False
    state: Mapping[str, float] = field(default_factory=dict)


def build_ckd_base(
    *, elimination: str = "mce", teachers: bool = False, drop_path: float = 0.1, content_only: bool = False
) -> CKD:
    """CKD as published: two ViT-B/16 students, template 128, search 256."""
    return CKD(
        branch=partial(VisionTransformer, drop_path=drop_path),
        head=lambda inputs: CenterHead(inputs=inputs),
        teachers=teachers,
        elimination=elimination,
        content_only=content_only,
    )


def build_ckd_tiny(
    *, elimination: str = "none", teachers: bool = False, drop_path: float = 0.0, content_only: bool = False
) -> CKD:
    """CKD on Hiera-Tiny's first stages, one student for both modalities, template 96, search 192."""
    return CKD(
        branch=partial(HieraBranch, drop_path=drop_path),
        head=lambda inputs: CenterHead(inputs=inputs, channels=128, squeeze=192),
        shared=True,
        teachers=teachers,
        elimination=elimination,
        stages=(1, 3),
        content_only=content_only,
    )


def build_patrack_base(*, elimination: str = "none", drop_path: float = 0.1, routing: str = "released") -> PATrack:
    """PATrack as published: one ViT-B/16 with adapters for both modalities, template 128, search 256."""
    return PATrack(
        elimination=elimination,
        backbone=partial(VisionTransformer, drop_path=drop_path, block=AdaptedBlock),
        head=lambda inputs: CenterHead(inputs=inputs),
        routing=routing,
    )


def build_ipl_base(*, elimination: str = "ce", drop_path: float = 0.1, frozen_norm: bool = True) -> IPL:
    """IPL as published: one ViT-B/16 for both modalities, template 128, search 256; stage 1 trains the head's norms."""
    return IPL(
        branch=partial(VisionTransformer, drop_path=drop_path),
        head=lambda inputs: CenterHead(inputs=inputs, norm=partial(FrozenNorm, frozen=frozen_norm)),
        elimination=elimination,
    )


def build_ipl_tiny(*, elimination: str = "none", drop_path: float = 0.0, frozen_norm: bool = True) -> IPL:
    """IPL on the backbone and with the head of ckd-tiny."""
    return IPL(
        branch=partial(HieraBranch, drop_path=drop_path),
        head=lambda inputs: CenterHead(
            inputs=inputs, channels=128, squeeze=192, norm=partial(FrozenNorm, frozen=frozen_norm)
        ),
        elimination=elimination,
        stages=(1, 3),
    )


def build_tpf_base(
    *,
    elimination: str = "none",
    drop_path: float = 0.1,
    options: TPFOptions | None = None,
    backend: str = "chunk",
    chunk: int | None = None,
    recompute: bool = True,
) -> TPF:
    """TPF on ViT-B/16, template 128, search 256; `options` None has a gate of 96 inside; scans: see `models.scan`."""
    options = options or TPFOptions(bottleneck=96)
    scan: dict[str, Any] = {"backend": backend, "chunk": chunk, "recompute": recompute}
    return TPF(
        fusion=partial(PixelFusionAdapter, **options.adapter.model_dump(), **scan),
        branch=partial(VisionTransformer, drop_path=drop_path),
        head=lambda inputs: CenterHead(inputs=inputs),
        gate=_gate(options),
        elimination=elimination,
        level=options.level,
        gate_answers=options.gate_answers,
        options=options,
    )


def build_tpf_tiny(
    *,
    elimination: str = "none",
    drop_path: float = 0.0,
    options: TPFOptions | None = None,
    backend: str = "chunk",
    chunk: int | None = None,
    recompute: bool = True,
) -> TPF:
    """TPF on the backbone of ckd-tiny, template 96, search 192; `options` None has a gate of 48 inside."""
    options = options or TPFOptions(bottleneck=48)
    scan: dict[str, Any] = {"backend": backend, "chunk": chunk, "recompute": recompute}
    return TPF(
        fusion=partial(PixelFusionAdapter, **options.adapter.model_dump(), **scan),
        branch=partial(HieraBranch, drop_path=drop_path),
        head=lambda inputs: CenterHead(inputs=inputs, channels=128, squeeze=192),
        gate=_gate(options),
        elimination=elimination,
        stages=(1, 3),
        level=options.level,
        gate_answers=options.gate_answers,
        options=options,
    )


def _gate(options: TPFOptions) -> Callable[[int], RelevanceGate] | None:
    width = options.bottleneck
    return None if width is None else lambda dim: RelevanceGate(dim=dim, bottleneck=width)


MODELS: dict[str, ModelSpec] = {
    "ckd-base": ModelSpec(
        name="ckd-base",
        method="ckd",
        summary="CKD as published (ACM MM 2024): two ViT-B branches, multi-modal elimination",
        build=build_ckd_base,
        geometry=Geometry(template_size=128, search_size=256),
        elimination="mce",
    ),
    "ckd-tiny": ModelSpec(
        name="ckd-tiny",
        method="ckd",
        summary="CKD on a small Hiera backbone shared by both modalities; runs on a laptop CPU",
        build=build_ckd_tiny,
        geometry=Geometry(
            template_size=96,
            search_size=192,
            template_factor=1.7,
            search_factor=3.4,
            rim=0.5,
            window=0.5,
            unbias=0.5,
        ),
        elimination="none",
        weights="ckd-tiny.safetensors",
        calibration=(1.977, 0.553),  # fitted on the held-out videos of docs/models/ckd-tiny.md
        redetect=True,
        state={"lost_below": 0.3, "lost_after": 4},  # docs/redetection.md says how to measure them
    ),
    "patrack-base": ModelSpec(
        name="patrack-base",
        method="patrack",
        summary="PATrack as published (arXiv 2603.21100): one ViT-B with adapters, weights for thermal, depth or event",
        build=build_patrack_base,
        geometry=Geometry(template_size=128, search_size=256),
        elimination="none",
        eliminations=("none",),
        kinds=("thermal", "depth", "event"),
        windowed_score=True,  # docs/specs/patrack.md, section 4
    ),
    "ipl-base": ModelSpec(
        name="ipl-base",
        method="ipl",
        summary="IPL as published (IJCV 2024): one shared ViT-B, invertible prompters stand in for a missing modality",
        build=build_ipl_base,
        geometry=Geometry(template_size=128, search_size=256),
        elimination="ce",
        eliminations=IPL_ELIMINATIONS,
    ),
    "ipl-tiny": ModelSpec(
        name="ipl-tiny",
        method="ipl",
        summary="IPL on the backbone of ckd-tiny, to train and try on a laptop CPU; no weights in the package",
        build=build_ipl_tiny,
        geometry=Geometry(template_size=96, search_size=192),
        elimination="none",
        eliminations=IPL_ELIMINATIONS,
    ),
    "tpf-base": ModelSpec(
        name="tpf-base",
        method="tpf",
        summary="TPF after arXiv 2503.11247, whose equations we could not read: adapter, gate, losses are our design, "
        "not the authors' network; pixel fusion, one ViT-B stream; no trained weights exist",
        build=build_tpf_base,
        geometry=Geometry(template_size=128, search_size=256),
        elimination="none",
        eliminations=TPF_ELIMINATIONS,
        templates=2,
    ),
    "tpf-tiny": ModelSpec(
        name="tpf-tiny",
        method="tpf",
        summary="our design of TPF on the backbone of ckd-tiny, to try on a laptop CPU; no trained weights exist",
        build=build_tpf_tiny,
        geometry=Geometry(template_size=96, search_size=192),
        elimination="none",
        eliminations=TPF_ELIMINATIONS,
        templates=2,
    ),
}


def model_spec(name: str) -> ModelSpec:
    """The model of that name.

    Raises:
        InputError: no such model; names the nearest one.
    """
    if name not in MODELS:
        raise InputError(f"no model is called {name!r}{nearest(name, list(MODELS))}")
    return MODELS[name]


def elimination_of(spec: ModelSpec, asked: str | None) -> str:
    """The elimination that is asked for, or the model's own.

    Raises:
        InputError: the model does not know it.
    """
    mode = asked or spec.elimination
    if mode not in spec.eliminations:
        known = list(spec.eliminations)
        raise InputError(f"{spec.name} knows no elimination {mode!r}, only {', '.join(known)}{nearest(mode, known)}")
    return mode


def build_on_meta(spec: ModelSpec, **options: object) -> nn.Module:
    """The network of `spec` on the meta device: shapes without memory, for counting and for loading into."""
    with torch.device("meta"):
        return spec.build(**options)
