"""CKD: coupled knowledge distillation for RGB-T tracking (Lu et al., ACM MM 2024), inference and training form.

Two student branches meet only in elimination and in the fused head; in training two teachers with heads of their own
run beside them. Behaviour: docs/specs/ckd.md, section 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from duotrack.models.attention import Block, instance_norm
from duotrack.models.elimination import (
    MODES,
    elimination_score,
    keep_best,
    restore_search,
    take_search,
    template_centre,
)
from duotrack.models.head import CenterHead
from duotrack.models.outputs import HeadMaps, NetOutput

Pair = tuple[Tensor | None, Tensor | None]
_NAMES = ("rgb", "aux")


class Branch(Protocol):
    """What CKD asks of a backbone (`VisionTransformer`, `HieraBranch`)."""

    dim: int
    template_grid: int
    search_grid: int
    blocks: Sequence[Block]
    norm: nn.LayerNorm

    def embed(self, template: Tensor, search: Tensor, search_keep: Tensor | None = None) -> Tensor:
        """Images to (B, template + search tokens, dim)."""
        ...

    def embed_template(self, template: Tensor) -> Tensor:
        """The template's part of `embed`: (B, template tokens, dim)."""
        ...

    def embed_search(self, search: Tensor) -> Tensor:
        """The search region's part of `embed`: (B, search tokens, dim)."""
        ...


class CKD(nn.Module):
    """CKD network; `teachers=True` makes the training form.

    Args:
        branch: makes one backbone.
        head: makes one centre head for a number of input channels.
        shared: one student (`branch`) serves both modalities instead of `rgb_branch` and `tir_branch`.
        teachers: add `teacher_rgb`, `teacher_tir` and their heads `box_head_v`, `box_head_i`; they run
            in train mode only.
        elimination: "mce" (one choice for both modalities), "ce" (each modality its own), "none"; may be set later.
        stages: blocks (0-based) that eliminate between attention and MLP.
        keep_ratio: share of search tokens that each stage keeps, rounded up.
        content_only: take each stream's style away after its final norm, by instance normalisation over its tokens (the
            paper's "baseline w/ IN", Table V; it does not say where its normalisation stands).
    """

    def __init__(
        self,
        *,
        branch: Callable[[], nn.Module],
        head: Callable[[int], CenterHead],
        shared: bool = False,
        teachers: bool = False,
        elimination: str = "mce",
        stages: tuple[int, ...] = (3, 6, 9),
        keep_ratio: float = 0.7,
        content_only: bool = False,
    ) -> None:
        super().__init__()
        if elimination not in MODES:
            raise ValueError(f"elimination is one of {', '.join(MODES)}, got {elimination!r}")
        self.shared = shared
        self.elimination = elimination
        self.stages = stages
        self.keep_ratio = keep_ratio
        self.content_only = content_only
        if shared:
            self.branch = branch()
        else:
            self.rgb_branch, self.tir_branch = branch(), branch()
        student: Branch = self.students["rgb"]
        self.box_head = head(2 * student.dim)
        self.has_teachers = teachers
        if teachers:
            self.teacher_rgb, self.teacher_tir = branch(), branch()
            self.box_head_v, self.box_head_i = head(student.dim), head(student.dim)

    @property
    def students(self) -> dict[str, Branch]:
        """Modality -> its student backbone (the same one twice where it is shared)."""
        if self.shared:
            return {"rgb": self.branch, "aux": self.branch}  # type: ignore[dict-item]
        return {"rgb": self.rgb_branch, "aux": self.tir_branch}  # type: ignore[dict-item]

    def forward(
        self,
        *,
        template: Pair,
        search: Pair,
        available: tuple[str, ...] = ("rgb", "aux"),
        search_keep: Tensor | None = None,
        present: Tensor | None = None,
    ) -> NetOutput:
        """Find the template's target in the search region.

        A modality that is missing (its search tensor None, or its name not in `available`) takes the other's features;
        one that is present but never had a template takes the other's template. CKD itself knows no missing
        modalities: this fallback is ours.

        Args:
            template: (rgb, aux), each (B, 3, T, T) normalised or None.
            search: (rgb, aux), each (B, 3, S, S) normalised or None.
            available: names of the modalities that count.
            search_keep: (B, search tokens) bool, students' masked modelling; see `VisionTransformer.embed`.
            present: (B, 2) bool, where samples differ in what they have: absent images are not looked at, and `blocks`
                and `kept` hold the samples that have both. Not for the training form.

        Raises:
            ValueError: no modality is present in the search region, or none in the template.
        """
        if present is None:
            encoded = self._encode(template, search, available, search_keep)
            fused = _fuse(encoded.final)
        else:
            encoded, fused = self._encode_mixed(template, search, search_keep, present)
        z = self.students["rgb"].template_grid ** 2
        maps = self.box_head(fused[:, z:])
        teachers: dict[str, HeadMaps] = {}
        for name, head in (("rgb", "box_head_v"), ("aux", "box_head_i")):
            if f"teacher_{name}" in encoded.final:
                teachers[name] = self.get_submodule(head)(encoded.final[f"teacher_{name}"][:, z:])
        return NetOutput(
            score_map=maps.score_map,
            size_map=maps.size_map,
            offset_map=maps.offset_map,
            features=fused,
            kept=encoded.kept,
            teachers=teachers,
            blocks=encoded.blocks,
        )

    def deployed(self) -> nn.Module:
        """Its inference form, `duotrack.models.ckd_deployed.DeployedCKD`, which takes the weights over."""
        from duotrack.models.ckd_deployed import DeployedCKD

        return DeployedCKD(self)

    def _encode(
        self, template: Pair, search: Pair, available: tuple[str, ...], search_keep: Tensor | None
    ) -> "_Encoded":
        """Backbones of the modalities at hand, and of their teachers in training."""
        crops = {
            name: image for name, image in zip(_NAMES, search, strict=True) if image is not None and name in available
        }
        spare = next((image for image in template if image is not None), None)
        if not crops or spare is None:
            raise ValueError("both modalities are missing: at least one template and one search image are needed")
        own = dict(zip(_NAMES, template, strict=True))
        streams = {name: self.students[name] for name in crops}
        if self.training and self.has_teachers:
            teachers: dict[str, Branch] = {"rgb": self.teacher_rgb, "aux": self.teacher_tir}  # type: ignore[dict-item]
            streams |= {f"teacher_{name}": teachers[name] for name in crops}
        tokens = {}
        for stream, backbone in streams.items():
            name = stream.removeprefix("teacher_")
            z = own[name]
            tokens[stream] = backbone.embed(
                spare if z is None else z, crops[name], search_keep if stream == name else None
            )
        return self._advance(streams, tokens)

    def _encode_mixed(
        self, template: Pair, search: Pair, search_keep: Tensor | None, present: Tensor
    ) -> tuple["_Encoded", Tensor]:
        """Samples that have the same modalities go together; fused features come back in the batch's order."""
        if self.training and self.has_teachers:
            raise ValueError("the training form needs both modalities of every sample: fill absent images in first")
        if not present.any(dim=1).all():
            raise ValueError("both modalities are missing in a sample of the batch")
        both = _Encoded({}, {}, {})
        parts, order = [], []
        for names in (("rgb", "aux"), ("rgb",), ("aux",)):
            wanted = torch.tensor([name in names for name in _NAMES], device=present.device)
            index = (present == wanted).all(dim=1).nonzero()[:, 0]
            if len(index) == 0:
                continue
            keep = None if search_keep is None else search_keep[index]
            encoded = self._encode(_pick(template, index), _pick(search, index), names, keep)
            both = encoded if len(names) == 2 else both
            parts.append(_fuse(encoded.final))
            order.append(index)
        return both, torch.cat(parts)[torch.cat(order).argsort()]

    def _advance(self, streams: dict[str, Branch], tokens: dict[str, Tensor]) -> "_Encoded":
        """All streams through all blocks, one block at a time, so that elimination sees both modalities."""
        student = next(iter(streams.values()))
        z, total = student.template_grid**2, student.search_grid**2
        centre = template_centre(student.template_grid)
        kept: dict[str, list[Tensor]] = {name: [] for name in streams if name in _NAMES}
        blocks: dict[str, list[Tensor]] = {name: [] for name in streams} if self.training else {}
        for i in range(len(student.blocks)):
            eliminates = self.elimination != "none" and i in self.stages
            rows = {}
            for name, backbone in streams.items():
                query = centre if eliminates and name in kept else None
                tokens[name], row = backbone.blocks[i].attend(tokens[name], query=query)
                if row is not None:
                    rows[name] = row[:, :, z:]
            for name, chosen in self._choose(rows).items():
                kept[name].append(kept[name][-1].gather(1, chosen) if kept[name] else chosen)
                for stream in {name, f"teacher_{name}"} & set(tokens):
                    tokens[stream] = take_search(tokens[stream], z, chosen)
            for name, backbone in streams.items():
                tokens[name] = backbone.blocks[i].feed(tokens[name])
                if self.training:
                    blocks[name].append(tokens[name])
        final = {}
        for name, backbone in streams.items():
            final[name] = backbone.norm(tokens[name])
            if self.content_only:
                final[name] = instance_norm(final[name])
            positions = kept[name.removeprefix("teacher_")]
            if positions:
                final[name] = restore_search(final[name], z, positions[-1], total)
        return _Encoded(final, kept, blocks)

    def _choose(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which search tokens each modality keeps, from the centre row's attention; empty when all stay."""
        if not rows:
            return {}
        if self.elimination == "mce":
            chosen = keep_best(elimination_score(list(rows.values())), self.keep_ratio)
            return {} if chosen is None else dict.fromkeys(rows, chosen)
        own = {name: keep_best(elimination_score([row]), self.keep_ratio) for name, row in rows.items()}
        return {name: chosen for name, chosen in own.items() if chosen is not None}


@dataclass
class _Encoded:
    """Per stream: final tokens, positions kept after each elimination stage, block outputs (train mode)."""

    final: dict[str, Tensor]
    kept: dict[str, list[Tensor]]
    blocks: dict[str, list[Tensor]]


def _fuse(final: dict[str, Tensor]) -> Tensor:
    """Students' tokens side by side, RGB first; a missing modality takes the other's features."""
    there = [final[name] for name in _NAMES if name in final]
    return torch.cat([there[0], there[-1]], dim=-1)


def _pick(pair: Pair, index: Tensor) -> Pair:
    rgb, aux = pair
    return None if rgb is None else rgb[index], None if aux is None else aux[index]
