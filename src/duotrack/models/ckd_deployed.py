"""CKD as it is deployed: the maps of `CKD` to rounding, and nothing else computed (docs/specs/ckd.md, section 8).

The template's tokens are made once and handed in again; in the last block only search tokens go on, because nothing
reads the template's afterwards; a backbone that both modalities share takes them as one batch; the head is merged.
Batching the two backbones of `ckd-base` (stacked weights) is left out: on CPUs it costs the libraries' packed weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from duotrack.models.attention import instance_norm, through
from duotrack.models.branch import Branch
from duotrack.models.ckd import CKD
from duotrack.models.elimination import (
    elimination_score,
    keep_best,
    restore_search,
    stretches,
    take_search,
    template_centre,
)
from duotrack.models.merged_head import MergedHead
from duotrack.models.outputs import HeadMaps

Pair = tuple[Tensor | None, Tensor | None]
_NAMES = ("rgb", "aux")


class DeployedCKD(nn.Module):
    """Inference form of a CKD network, whose backbones it takes over.

    Args:
        net: a network in evaluation mode; teachers are left behind.
    """

    masks = True
    """`forward` understands `present`: one traced graph answers whatever modalities a frame has."""

    def __init__(self, net: CKD) -> None:
        super().__init__()
        self.elimination = net.elimination
        self.stages = net.stages
        self.keep_ratio = net.keep_ratio
        self.content_only = net.content_only
        self.shared = net.shared
        self.branches = nn.ModuleList([net.branch] if net.shared else [net.rgb_branch, net.tir_branch])
        for branch in self.branches:
            fix = getattr(branch, "fix_positions", None)
            if fix is not None:
                fix()
        self.head = MergedHead(net.box_head)
        self.eval().requires_grad_(False)

    def remember(self, template: Pair) -> Pair:
        """What `forward` wants to know of a template: (rgb, aux) images (B, 3, T, T) -> tokens (B, n, C) of both.

        A modality without an image takes the other's, as in `CKD.forward`.
        """
        rgb, aux = template
        rgb, aux = (aux if rgb is None else rgb), (rgb if aux is None else aux)
        if rgb is None or aux is None:
            raise ValueError("both modalities are missing: at least one template is needed")
        if self.shared and rgb is aux:
            tokens = self._branch("rgb").embed_template(rgb)
            return tokens, tokens
        return self._branch("rgb").embed_template(rgb), self._branch("aux").embed_template(aux)

    def forward(
        self,
        *,
        template: Pair,
        search: Pair,
        available: tuple[str, ...] = _NAMES,
        present: Tensor | None = None,
    ) -> HeadMaps:
        """Maps of the head.

        Args:
            template: tokens from `remember`; those of modalities that are not searched are not looked at.
            search: (rgb, aux), each (B, 3, S, S) normalised or None.
            available: names of the modalities that count.
            present: (B, 2) bool, at least one True a row: which search images are there, where both are handed in and
                some are only fillers.
        """
        names = [n for n, image in zip(_NAMES, search, strict=True) if image is not None and n in available]
        memory, crops = dict(zip(_NAMES, template, strict=True)), dict(zip(_NAMES, search, strict=True))
        if not names or any(memory[name] is None for name in names):
            raise ValueError("both modalities are missing, or a template: nothing to look for")
        there = {} if present is None else {name: present[:, i] for i, name in enumerate(_NAMES)}
        streams = self._advance({n: (memory[n], crops[n]) for n in names}, there)  # type: ignore[misc]
        if there:
            rgb, aux = streams["rgb"], streams["aux"]
            keep = {name: flag[:, None, None] for name, flag in there.items()}
            streams = {"rgb": torch.where(keep["rgb"], rgb, aux), "aux": torch.where(keep["aux"], aux, rgb)}
        final = list(streams.values())
        return self.head(torch.cat([final[0], final[-1]], dim=-1))

    def _branch(self, name: str) -> Branch:
        return self.branches[0 if self.shared else _NAMES.index(name)]  # type: ignore[return-value]

    def _advance(self, inputs: Mapping[str, tuple[Tensor, Tensor]], there: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each modality's final search tokens (B, search tokens, C), zeros where eliminated."""
        names = list(inputs)
        first = self._branch(names[0])
        z, total, last = first.template_grid**2, first.search_grid**2, len(first.blocks) - 1
        centre = template_centre(first.template_grid)
        stages = () if self.elimination == "none" else self.stages
        # style statistics (`content_only`) are of all tokens, so then the template's stay to the end
        skip = 0 if self.content_only or last in stages else z
        lanes = self._lanes(inputs)
        kept: dict[str, Tensor] = {}
        for run, stage in stretches(last + 1, stages):
            for lane, tokens in lanes.items():
                plain = list(self._branch(lane[0]).blocks)[run]
                lanes[lane] = through(tokens, plain, skip=skip if stage is None else 0)
            if stage is None:
                break
            rows: dict[str, Tensor] = {}
            for lane, tokens in lanes.items():
                lanes[lane], row = self._branch(lane[0]).blocks[stage].attend(tokens, query=centre)
                assert row is not None
                rows |= _apart(row[:, :, z:], lane)
            chosen = self._choose(rows, there)
            if chosen:
                kept = {name: kept[name].gather(1, chosen[name]) if kept else chosen[name] for name in names}
            for lane, tokens in lanes.items():
                if chosen:
                    tokens = take_search(tokens, z, torch.cat([chosen[name] for name in lane]))
                lanes[lane] = self._branch(lane[0]).blocks[stage].feed(tokens)
        final: dict[str, Tensor] = {}
        for lane, tokens in lanes.items():
            normed = self._branch(lane[0]).norm(tokens)
            if self.content_only:
                normed = instance_norm(normed)
            final |= _apart(normed[:, z - skip :], lane)
        return {name: restore_search(x, 0, kept[name], total) if kept else x for name, x in final.items()}

    def _lanes(self, inputs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[tuple[str, ...], Tensor]:
        """Which modalities go through a backbone together -> their tokens, one after the other in the batch."""
        groups = [tuple(inputs)] if self.shared else [(name,) for name in inputs]
        lanes = {}
        for group in groups:
            template = torch.cat([inputs[name][0] for name in group])
            search = self._branch(group[0]).embed_search(torch.cat([inputs[name][1] for name in group]))
            lanes[group] = torch.cat([template, search], dim=1)
        return lanes

    def _choose(self, rows: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `CKD._choose`; attention of a modality that is not there counts as none."""
        if not rows:
            return {}
        if self.elimination == "mce":
            heard = [row * there[n][:, None, None].to(row.dtype) if there else row for n, row in rows.items()]
            chosen = keep_best(elimination_score(heard), self.keep_ratio)
            return {} if chosen is None else dict.fromkeys(rows, chosen)
        own = {name: keep_best(elimination_score([row]), self.keep_ratio) for name, row in rows.items()}
        return {name: chosen for name, chosen in own.items() if chosen is not None}


def _apart(stacked: Tensor, lane: tuple[str, ...]) -> dict[str, Tensor]:
    return dict(zip(lane, stacked.view(len(lane), -1, *stacked.shape[1:]).unbind(0), strict=True))
