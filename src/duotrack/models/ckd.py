"""CKD: coupled knowledge distillation for RGB-T tracking (Lu et al., ACM MM 2024), inference and training form.

Two student branches meet only in elimination and in the fused head; in training two teachers with heads of their own
run beside them. Behaviour: docs/specs/ckd.md, section 2.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from duotrack.models.attention import Block
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
    ) -> None:
        super().__init__()
        if elimination not in MODES:
            raise ValueError(f"elimination is one of {', '.join(MODES)}, got {elimination!r}")
        self.shared = shared
        self.elimination = elimination
        self.stages = stages
        self.keep_ratio = keep_ratio
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

        Raises:
            ValueError: no modality is present in the search region, or none in the template.
        """
        crops = {
            name: image
            for name, image in zip(("rgb", "aux"), search, strict=True)
            if image is not None and name in available
        }
        spare = next((image for image in template if image is not None), None)
        if not crops or spare is None:
            raise ValueError("both modalities are missing: at least one template and one search image are needed")
        own = dict(zip(("rgb", "aux"), template, strict=True))
        streams = {name: self.students[name] for name in crops}
        if self.training and self.has_teachers:
            teachers: dict[str, Branch] = {"rgb": self.teacher_rgb, "aux": self.teacher_tir}  # type: ignore[dict-item]
            streams |= {f"teacher_{name}": teachers[name] for name in crops}
        tokens = {}
        for stream, backbone in streams.items():
            name = stream.removeprefix("teacher_")
            z = own[name] if own[name] is not None else spare
            assert z is not None
            tokens[stream] = backbone.embed(z, crops[name], search_keep if stream == name else None)
        return self._advance(streams, tokens)

    def _advance(self, streams: dict[str, Branch], tokens: dict[str, Tensor]) -> NetOutput:
        """All streams through all blocks, one block at a time, so that elimination sees both modalities."""
        student = streams[next(iter(streams))]
        z, total = student.template_grid**2, student.search_grid**2
        centre = template_centre(student.template_grid)
        kept: dict[str, list[Tensor]] = {name: [] for name in streams if not name.startswith("teacher_")}
        blocks: dict[str, list[Tensor]] = {name: [] for name in streams} if self.training else {}
        for i in range(len(student.blocks)):
            eliminates = self.elimination != "none" and i in self.stages
            rows = {}
            for name, backbone in streams.items():
                query = centre if eliminates and name in kept else None
                tokens[name], row = backbone.blocks[i].attend(tokens[name], query=query)
                if row is not None:
                    rows[name] = row[:, :, z:]
            if eliminates:
                for name, chosen in self._choose(rows).items():
                    before = kept[name]
                    before.append(before[-1].gather(1, chosen) if before else chosen)
                    for stream in (name, f"teacher_{name}"):
                        if stream in tokens:
                            tokens[stream] = take_search(tokens[stream], z, chosen)
            for name, backbone in streams.items():
                tokens[name] = backbone.blocks[i].feed(tokens[name])
                if self.training:
                    blocks[name].append(tokens[name])
        final = {}
        for name, backbone in streams.items():
            final[name] = backbone.norm(tokens[name])
            positions = kept[name.removeprefix("teacher_")]
            if positions:
                final[name] = restore_search(final[name], z, positions[-1], total)
        present = [final[name] for name in ("rgb", "aux") if name in final]
        fused = torch.cat([present[0], present[-1]], dim=-1)  # a missing modality takes the other's features
        maps = self.box_head(fused[:, z:])
        teachers: dict[str, HeadMaps] = {}
        if "teacher_rgb" in final:
            teachers["rgb"] = self.box_head_v(final["teacher_rgb"][:, z:])
        if "teacher_aux" in final:
            teachers["aux"] = self.box_head_i(final["teacher_aux"][:, z:])
        return NetOutput(
            score_map=maps.score_map,
            size_map=maps.size_map,
            offset_map=maps.offset_map,
            features=fused,
            kept=kept,
            teachers=teachers,
            blocks=blocks,
        )

    def _choose(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which search tokens each modality keeps, from the centre row's attention; empty when all stay."""
        if self.elimination == "mce":
            chosen = keep_best(elimination_score(list(rows.values())), self.keep_ratio)
            return {} if chosen is None else dict.fromkeys(rows, chosen)
        own = {name: keep_best(elimination_score([row]), self.keep_ratio) for name, row in rows.items()}
        return {name: chosen for name, chosen in own.items() if chosen is not None}
