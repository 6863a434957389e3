"""CKD's forward pass as the release computes it (docs/specs/ckd.md, sections 1, 2 and 8): what speed is compared with.

Eager torch in fp32: explicit attention maps in every block, the two students' whole maps stacked and maximised, a full
sort, tokens in descending order of their score and put back at the end, template patches embedded in every frame, three
head towers one after another with batch norm. The weights are those of `duotrack.build_net`, the answers the same.
"""

import math

import torch
from torch import Tensor, nn

from duotrack.models.attention import Attention, Block
from duotrack.models.ckd import CKD
from duotrack.models.elimination import template_centre
from duotrack.models.outputs import HeadMaps

Pair = tuple[Tensor | None, Tensor | None]


class ReferenceCKD(nn.Module):
    """A CKD of two students, called like any network; both modalities must be there."""

    def __init__(self, net: CKD) -> None:
        super().__init__()
        self.net = net
        self.template = net.students["rgb"].template_grid ** 2
        self.search = net.students["rgb"].search_grid ** 2
        self.centre = template_centre(net.students["rgb"].template_grid)

    def forward(self, *, template: Pair, search: Pair, available: tuple[str, ...] = ("rgb", "aux")) -> HeadMaps:
        """As `CKD.forward`."""
        students = [self.net.students["rgb"], self.net.students["aux"]]
        tokens = []
        for student, z, x in zip(students, template, search, strict=True):
            assert z is not None, "the reference knows no missing modality"
            assert x is not None, "the reference knows no missing modality"
            tokens.append(student.embed(z, x))
        order = torch.arange(self.search, device=tokens[0].device).float().expand(len(tokens[0]), -1)
        removed: list[Tensor] = []
        for index in range(len(students[0].blocks)):
            maps = []
            for stream, student in enumerate(students):
                block = student.blocks[index]
                mixed, weights = attend(block.attn, block.norm1(tokens[stream]))
                tokens[stream] = tokens[stream] + mixed
                maps.append(weights)
            if self.net.elimination == "mce" and index in self.net.stages:
                tokens, order, gone = self._eliminate(tokens, torch.stack(maps).amax(dim=0), order)
                removed.append(gone)
            tokens = [feed(student.blocks[index], each) for student, each in zip(students, tokens, strict=True)]
        final = [student.norm(each) for student, each in zip(students, tokens, strict=True)]
        if removed:
            final = [self._restore(each, order, removed) for each in final]
        return self.net.box_head(torch.cat(final, dim=-1)[:, -self.search :])

    def _eliminate(self, tokens: list[Tensor], weights: Tensor, order: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        count = weights.shape[-1] - self.template
        keep = math.ceil(self.net.keep_ratio * count)
        chosen = torch.zeros(self.template, dtype=torch.bool)
        chosen[self.centre] = True
        rows = weights[:, :, : self.template, self.template :][:, :, chosen]
        best = rows.mean(dim=2).mean(dim=1).sort(dim=1, descending=True).indices
        kept = []
        for each in tokens:
            search = each[:, self.template :]
            picked = search.gather(1, best[:, :keep, None].expand(-1, -1, each.shape[-1]))
            kept.append(torch.cat([each[:, : self.template], picked], dim=1))
        return kept, order.gather(1, best[:, :keep]), order.gather(1, best[:, keep:])

    def _restore(self, tokens: Tensor, order: Tensor, removed: list[Tensor]) -> Tensor:
        z, x = tokens[:, : self.template], tokens[:, self.template :]
        pad = x.new_zeros(len(x), self.search - x.shape[1], x.shape[2])
        places = torch.cat([order, *removed], dim=1).long()[..., None].expand(-1, -1, x.shape[2])
        full = torch.cat([x, pad], dim=1)
        return torch.cat([z, torch.zeros_like(full).scatter(1, places, full)], dim=1)


def attend(attention: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Attention with its whole map (B, heads, N, N)."""
    b, n, c = tokens.shape
    q, k, v = attention.qkv(tokens).reshape(b, n, 3, attention.heads, c // attention.heads).permute(2, 0, 3, 1, 4)
    weights = ((q @ k.transpose(-2, -1)) * (c // attention.heads) ** -0.5).softmax(dim=-1)
    return attention.proj((weights @ v).transpose(1, 2).reshape(b, n, c)), weights


def feed(block: Block, tokens: Tensor) -> Tensor:
    """The MLP residual."""
    return tokens + block.mlp(block.norm2(tokens))
