"""Vision transformer with joint template/search attention, as in OSTrack (Ye et al., ECCV 2022)."""

import torch
from torch import Tensor, nn

from duotrack.models.attention import Block, init_transformer


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens in raster order."""

    def __init__(self, *, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H/patch * W/patch, dim)."""
        return self.proj(image).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """One ViT branch over template and search tokens (docs/specs/ckd.md, sections 1.1-1.3).

    Parameter names are those of OSTrack. `cls_token` and `pos_embed` are carried for checkpoints only: the forward pass
    never uses them, so they are frozen.

    Args:
        template_size, search_size: pixels of the square inputs, multiples of `patch`.
        dim, depth, heads: width, number of blocks, attention heads.
        drop_path: stochastic-depth rate of the last block; it grows linearly from 0 at the first.
    """

    def __init__(
        self,
        *,
        template_size: int = 128,
        search_size: int = 256,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = 16,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if template_size % patch or search_size % patch:
            raise ValueError(f"template {template_size} and search {search_size} must be multiples of {patch}")
        self.dim = dim
        self.template_grid = template_size // patch
        self.search_grid = search_size // patch
        self.patch_embed = PatchEmbed(dim=dim, patch=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim), requires_grad=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + 14 * 14, dim), requires_grad=False)
        self.pos_embed_z = nn.Parameter(torch.zeros(1, self.template_grid**2, dim))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.search_grid**2, dim))
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(dim=dim, heads=heads, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        for embedding in (self.cls_token, self.pos_embed, self.pos_embed_z, self.pos_embed_x):
            nn.init.trunc_normal_(embedding, std=0.02)
        self.apply(init_transformer)

    def embed(self, template: Tensor, search: Tensor, search_keep: Tensor | None = None) -> Tensor:
        """Images to tokens with positions, template first.

        Args:
            template: (B, 3, T, T) normalised. search: (B, 3, S, S) normalised.
            search_keep: (B, search tokens) bool; False tokens become zero before their position is added (masked
                modelling, docs/specs/ckd.md, section 2.3).

        Returns:
            (B, template tokens + search tokens, dim).
        """
        x = self.patch_embed(search)
        if search_keep is not None:
            x = x * search_keep.unsqueeze(-1).to(x.dtype)
        return torch.cat([self.embed_template(template), x + self.pos_embed_x], dim=1)

    def embed_template(self, template: Tensor) -> Tensor:
        """The template's part of `embed`: (B, 3, T, T) -> (B, template tokens, dim)."""
        return self.patch_embed(template) + self.pos_embed_z

    def embed_search(self, search: Tensor) -> Tensor:
        """The search region's part of `embed`: (B, 3, S, S) -> (B, search tokens, dim)."""
        return self.patch_embed(search) + self.pos_embed_x
