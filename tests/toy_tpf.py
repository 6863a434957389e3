"""A small TPF and batches for it: `from toy_tpf import small_tpf, batch`."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from duotrack.models.head import CenterHead
from duotrack.models.pixel_fusion import PixelFusionAdapter
from duotrack.models.statistics import normalise
from duotrack.models.tpf import TPF, RelevanceGate
from duotrack.models.tpf_options import AdapterOptions, TPFOptions
from duotrack.models.vit import VisionTransformer

TEMPLATE, SEARCH = 32, 64


def small_tpf(*, bottleneck: int | None = 16, awake: bool = True, seed: int = 0, **options: Any) -> TPF:
    """Two layers of 64 channels in training mode; `awake`: the adapter's head and the gate have left their zeros."""
    torch.manual_seed(seed)
    adapter = AdapterOptions(width=8, d_state=4)
    net = TPF(
        fusion=partial(PixelFusionAdapter, **adapter.model_dump()),
        branch=partial(
            VisionTransformer, template_size=TEMPLATE, search_size=SEARCH, dim=64, depth=2, heads=4, drop_path=0.0
        ),
        head=lambda inputs: CenterHead(inputs=inputs, channels=32),
        gate=None if bottleneck is None else lambda dim: RelevanceGate(dim=dim, bottleneck=bottleneck),
        options=TPFOptions(adapter=adapter, bottleneck=bottleneck),
        **options,
    )
    if awake:
        nn.init.normal_(net.fusion.head.weight, std=0.05)
        if net.gate is not None:
            nn.init.normal_(net.gate.up.weight, std=0.5)
    return net


def for_stage_one(net: TPF) -> TPF:
    """Only the adapter learns."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("fusion."))
    return net


def batch(count: int = 3, seed: int = 0, *, dynamic: bool = True) -> dict[str, Tensor]:
    """Random images whose thermal channels are equal."""
    draw = torch.Generator().manual_seed(seed)

    def pair(side: int) -> Tensor:
        rgb = torch.rand(count, 3, side, side, generator=draw)
        thermal = torch.rand(count, 1, side, side, generator=draw).expand(-1, 3, -1, -1)
        return torch.stack([normalise(rgb), normalise(thermal)], dim=1)

    made = {"template": pair(TEMPLATE), "search": pair(SEARCH)}
    if dynamic:
        made["dynamic"] = pair(TEMPLATE)
    corner = torch.rand(count, 2, generator=draw) * 0.5
    made["box"] = torch.cat([corner, 0.2 + 0.2 * torch.rand(count, 2, generator=draw)], dim=1)
    made["present"] = torch.ones(count, 2, dtype=torch.bool)
    return made


def gradients(net: nn.Module) -> set[str]:
    """Top-level parts that a backward pass has reached."""
    return {n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
