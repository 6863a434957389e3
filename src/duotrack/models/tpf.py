"""TPF: task-driven pixel fusion for RGB-T tracking (Lu et al., arXiv 2503.11247).

Both images become one by the pixel-level fusion adapter; a single-stream tracker sees only that one, with two
templates: the first frame's, and a dynamic one. From the paper: fusion at the pixel by a light state-space adapter, one
stream behind it, a dynamic template, a split into what matters to the task and what does not. Ours: how they are built
(docs/specs/tpf.md, sections 3 and 5, which mark every line).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from duotrack.models.attention import Block, through
from duotrack.models.elimination import (
    elimination_score,
    keep_best,
    restore_search,
    stretches,
    take_search,
    template_centre,
)
from duotrack.models.head import CenterHead
from duotrack.models.outputs import NetOutput
from duotrack.models.pixel_fusion import PixelFusionAdapter
from duotrack.models.statistics import denormalise, normalise
from duotrack.models.tpf_options import TPFOptions

Pair = tuple[Tensor | None, Tensor | None]
_NAMES = ("rgb", "aux")
ELIMINATIONS = ("none", "ce")
LEVELS = ("backbone", "pfa")


class Backbone(Protocol):
    """What TPF asks of a backbone (`VisionTransformer`, `HieraBranch`)."""

    dim: int
    template_grid: int
    search_grid: int
    blocks: Sequence[Block]
    norm: nn.LayerNorm

    def embed_template(self, template: Tensor) -> Tensor:
        """(B, 3, T, T) -> (B, template tokens, dim)."""
        ...

    def embed_search(self, search: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, search tokens, dim)."""
        ...


class RelevanceGate(nn.Module):
    """Which part of each token's features matters to the task (ours; docs/specs/tpf.md, section 5).

    Args:
        dim: channels of a token.
        bottleneck: width between.
    """

    def __init__(self, *, dim: int, bottleneck: int = 96) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.constant_(self.up.bias, 2.0)  # g = 0.88 everywhere: nearly nothing is taken away at first

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> g in (0, 1) of the same shape: relevant = g * tokens, irrelevant = (1 - g) * tokens."""
        return torch.sigmoid(self.up(nn.functional.gelu(self.down(self.norm(tokens)))))


@dataclass(frozen=True)
class Split:
    """Tokens (B, N, C) in two parts whose sum they are, and the gate in (0, 1) that parted them, of the same shape."""

    relevant: Tensor
    irrelevant: Tensor
    gate: Tensor


class TPF(nn.Module):
    """Pixel fusion in front of a single-stream tracker.

    Args:
        fusion: makes the adapter.
        branch: makes the backbone.
        head: makes the centre head for a number of input channels.
        gate: makes the relevance gate for a number of channels; None leaves it out.
        level: what the gate splits: "backbone", the search tokens that the head reads; "pfa", the adapter's merged
            features that the image is decoded from.
        elimination: "none" or "ce"; may be set later.
        stages, keep_ratio: as in `CKD`.
        gate_answers: the relevant part is what is read or decoded; False leaves the gate to auxiliary losses.
        options: what was asked of the zoo's builder; weights files carry it.
    """

    def __init__(
        self,
        *,
        fusion: Callable[[], PixelFusionAdapter],
        branch: Callable[[], nn.Module],
        head: Callable[[int], CenterHead],
        gate: Callable[[int], RelevanceGate] | None,
        elimination: str = "none",
        stages: tuple[int, ...] = (3, 6, 9),
        keep_ratio: float = 0.7,
        level: str = "backbone",
        gate_answers: bool = True,
        options: TPFOptions | None = None,
    ) -> None:
        super().__init__()
        if level not in LEVELS:
            raise ValueError(f"level is one of {', '.join(LEVELS)}, got {level!r}")
        if elimination not in ELIMINATIONS:
            raise ValueError(f"elimination is one of {', '.join(ELIMINATIONS)}, got {elimination!r}")
        self.elimination = elimination
        self.stages = stages
        self.keep_ratio = keep_ratio
        self.level = level
        self.gate_answers = gate_answers
        self.options = options
        self.fusion = fusion()
        self.backbone: Backbone = branch()  # type: ignore[assignment]
        dim = self.backbone.dim
        self.template_slots = nn.Parameter(torch.zeros(2, 1, dim))
        self.gate = None if gate is None else gate(dim if level == "backbone" else self.fusion.width)
        self.box_head = head(dim)

    def forward(
        self,
        *,
        template: Pair,
        search: Pair,
        available: tuple[str, ...] = _NAMES,
        present: Tensor | None = None,
        dynamic: Pair | None = None,
    ) -> NetOutput:
        """Fuse, then find the template's target in the search region.

        A modality that is missing takes the other's image before fusion. TPF itself knows no missing modalities: this
        fallback is ours.

        Args:
            template, search: (rgb, aux) normalised images (B, 3, T, T) and (B, 3, S, S), None where missing.
            available: names of the modalities that count in the search region.
            present: (B, 2) bool, where samples differ in what they have.
            dynamic: the second template, as `template`; None takes the first one twice.

        Raises:
            ValueError: a template or the search region has no image at all.
        """
        templates = [self.fuse(*_filled(template, present))]
        if dynamic is None:
            templates *= 2
        else:
            templates.append(self.fuse(*_filled(dynamic, present)))
        return self.find(templates, self.fuse_search(search, available, present))

    def deployed(self) -> nn.Module:
        """Its inference form, `duotrack.models.tpf_deployed.DeployedTPF`, which takes the weights over."""
        from duotrack.models.tpf_deployed import DeployedTPF

        return DeployedTPF(self)

    def fuse(self, rgb: Tensor, aux: Tensor) -> Tensor:
        """Normalised (B, 3, S, S) images of both modalities -> the fused one, normalised."""
        return self.draw(rgb, aux)[0]

    def draw(self, rgb: Tensor, aux: Tensor) -> tuple[Tensor, Split | None]:
        """As `fuse`; and the split of the adapter's features, where the gate stands there."""
        image, split = self.picture(denormalise(rgb), denormalise(aux))
        return normalise(image), split

    def picture(self, rgb: Tensor, aux: Tensor) -> tuple[Tensor, Split | None]:
        """As `draw`, of images (B, 3, H, W) and (B, 1 or 3, H, W) in [0, 1] and to one in about that range."""
        features = self.fusion.encode(rgb, aux)
        split = self.split(as_tokens(features)) if self.level == "pfa" and self.gate is not None else None
        if split is not None and self.gate_answers:
            features = as_map(split.relevant, features)
        return self.fusion.decode(features, rgb, aux), split

    def split(self, tokens: Tensor) -> Split:
        """What the gate makes of (B, N, C) tokens of its level; X_r + X_i = X whatever the gate says.

        Raises:
            ValueError: there is no gate.
        """
        if self.gate is None:
            raise ValueError("this network has no relevance gate")
        gate: Tensor = self.gate(tokens)
        relevant = gate * tokens
        return Split(relevant, tokens - relevant, gate)

    def search_tokens(self, out: NetOutput) -> Tensor:
        """(B, search tokens, C), the last of an output's features, as the backbone's norm left them."""
        assert out.features is not None
        return out.features[:, out.features.shape[1] - self.backbone.search_grid**2 :]

    def fuse_search(self, search: Pair, available: tuple[str, ...] = _NAMES, present: Tensor | None = None) -> Tensor:
        """`fuse` of search images as `forward` takes them."""
        seen = tuple(image if name in available else None for name, image in zip(_NAMES, search, strict=True))
        return self.fuse(*_filled((seen[0], seen[1]), present))

    def find(self, templates: Sequence[Tensor], search: Tensor) -> NetOutput:
        """The single-stream tracker alone.

        Args:
            templates: one or two normalised (B, 3, T, T) images, the initial one first.
            search: (B, 3, S, S) normalised.
        """
        return self.follow([self.backbone.embed_template(z) for z in templates], search)

    def follow(self, templates: Sequence[Tensor], search: Tensor) -> NetOutput:
        """As `find`, the templates being tokens of the backbone's `embed_template`, (B, n, C)."""
        features, kept = self._encode(templates, search)
        tokens = features[:, features.shape[1] - self.backbone.search_grid**2 :]
        if self.gate is not None and self.gate_answers and self.level == "backbone":
            tokens = self.split(tokens).relevant
        maps = self.box_head(tokens)
        return NetOutput(
            score_map=maps.score_map,
            size_map=maps.size_map,
            offset_map=maps.offset_map,
            features=features,
            kept={"fused": kept} if kept else {},
            fused=search,
        )

    def encode(self, templates: Sequence[Tensor], search: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Final tokens (B, template + search tokens, C), and the search positions kept after each stage."""
        return self._encode([self.backbone.embed_template(z) for z in templates], search)

    def _encode(self, templates: Sequence[Tensor], search: Tensor) -> tuple[Tensor, list[Tensor]]:
        known = [z + slot for z, slot in zip(templates, self.template_slots, strict=False)]
        z, total = sum(part.shape[1] for part in known), self.backbone.search_grid**2
        centre = template_centre(self.backbone.template_grid)
        tokens = torch.cat([*known, self.backbone.embed_search(search)], dim=1)
        kept: list[Tensor] = []
        blocks = list(self.backbone.blocks)
        for run, stage in stretches(len(blocks), self.stages if self.elimination == "ce" else ()):
            tokens = through(tokens, blocks[run])
            if stage is None:
                break
            tokens, row = blocks[stage].attend(tokens, query=centre)
            assert row is not None
            chosen = keep_best(elimination_score([row[:, :, z:]]), self.keep_ratio)
            if chosen is not None:
                kept.append(kept[-1].gather(1, chosen) if kept else chosen)
                tokens = take_search(tokens, z, chosen)
            tokens = blocks[stage].feed(tokens)
        tokens = self.backbone.norm(tokens)
        return (restore_search(tokens, z, kept[-1], total) if kept else tokens), kept


def as_tokens(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return features.flatten(2).mT


def as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """(B, h * w, C) -> the shape of `like`, (B, C, h, w)."""
    return tokens.mT.reshape(like.shape)


def _filled(pair: Pair, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both images, a missing one replaced by the other."""
    rgb, aux = pair
    rgb, aux = (aux if rgb is None else rgb), (rgb if aux is None else aux)
    if rgb is None or aux is None:
        raise ValueError("both modalities are missing: at least one template and one search image are needed")
    if present is None:
        return rgb, aux
    there = present[:, :, None, None, None]
    return torch.where(there[:, 0], rgb, aux), torch.where(there[:, 1], aux, rgb)
