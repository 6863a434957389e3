"""Small stride-16 backbone: the first stages of Hiera-Tiny, then joint template/search attention.

Hiera: Ryali et al., ICML 2023; windowed positions: Bolya et al., 2023; the initial weights are those of the SAM 2 image
encoder (Ravi et al., 2024). The stem (two pooling stages inside 32-pixel windows) runs on template and search alone,
the last blocks attend over both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.attention import Block, Mlp, init_transformer, through

WINDOW = 32
"""Side in pixels of a stem window; inputs are multiples of it."""


class StemBlock(nn.Module):
    """Hiera block over windows whose tokens are ordered so that each pooling group is a leading axis.

    Args:
        dim_in, dim: channels before and after.
        heads: attention heads (width of a head: dim / heads).
        pool: whether the block keeps one of four tokens, by maximum over 2x2 neighbours.
    """

    def __init__(self, *, dim_in: int, dim: int, heads: int, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.norm1 = nn.LayerNorm(dim_in, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim_in, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.heads = heads
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim=dim, hidden=4 * dim)
        self.proj = nn.Linear(dim_in, dim) if dim_in != dim else None

    def forward(self, tokens: Tensor) -> Tensor:
        """(windows, n, dim_in) -> (windows, n or n / 4, dim)."""
        normed = self.norm1(tokens)
        shortcut = tokens if self.proj is None else self.proj(normed)
        windows, n, _ = normed.shape
        q, k, v = self.attn["qkv"](normed).view(windows, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.pool:
            shortcut = shortcut.unflatten(1, (4, n // 4)).amax(dim=1)
            q = q.unflatten(2, (4, n // 4)).amax(dim=2)
        mixed = _attend(q, k, v) if self.pool else F.scaled_dot_product_attention(q, k, v)
        tokens = shortcut + self.attn["proj"](mixed.transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.norm2(tokens))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention written out, the softmax divided out last.

    OpenVINO 2026.4 fuses what it recognises as attention, and with four queries gets it wrong in float32 (by tenths);
    this form it does not recognise.
    """
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return (weights @ v) / weights.sum(dim=-1, keepdim=True)


class WindowEmbed(nn.Module):
    """Overlapping patches, four pixels apart, to tokens by windows of 8 x 8 of them.

    Args:
        dim: channels of a token.
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=4, padding=3)

    def forward(self, image: Tensor, where: Tensor) -> Tensor:
        """(B, 3, S, S), S a multiple of 32, and positions (windows, 64, dim) -> (B * windows, 64, dim)."""
        cells = by_windows(self.proj(image))
        return (cells.view(-1, *where.shape) + where).view(cells.shape)


def by_windows(cells: Tensor) -> Tensor:
    """(B, C, h, w) -> (B * windows, 64, C); tokens of a window are ordered (finest 2x2, next 2x2, coarsest 2x2)."""
    b, c, h, w = cells.shape
    # row = 8 * window + 4 * coarse + 2 * middle + fine, likewise for columns
    split = cells.view(b, c, h // 8, 2, 2, 2, w // 8, 2, 2, 2)
    return split.permute(0, 2, 6, 5, 9, 4, 8, 3, 7, 1).reshape(-1, 64, c)


class HieraStem(nn.Module):
    """Patch embedding and the four windowed blocks of Hiera-Tiny: stride 16, 384 channels."""

    def __init__(self, *, dim: int = 96) -> None:
        super().__init__()
        self.patch_embed = WindowEmbed(dim=dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, dim, 7, 7))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, dim, 8, 8))
        heads = dim // 96 or 1
        self.blocks = nn.ModuleList(
            [
                StemBlock(dim_in=dim, dim=dim, heads=heads, pool=False),
                StemBlock(dim_in=dim, dim=2 * dim, heads=2 * heads, pool=True),
                StemBlock(dim_in=2 * dim, dim=2 * dim, heads=2 * heads, pool=False),
                StemBlock(dim_in=2 * dim, dim=4 * dim, heads=4 * heads, pool=True),
            ]
        )

    def forward(self, images: list[Tensor], *, patches: nn.Module | None = None) -> list[Tensor]:
        """Stacks of square images (B, 3, S, S), S a multiple of 32 -> for each (B, (S/16)^2, 4 dim) in raster order.

        All windows of all images share one pass: no window sees another. `patches`: a patch embedding in place of the
        stem's own.
        """
        embed = self.patch_embed if patches is None else patches
        windows = [embed(image, self._where(image.shape[-1])) for image in images]
        tokens = through(torch.cat(windows), self.blocks)
        parts = torch.split(tokens, [part.shape[0] for part in windows])
        return [_raster(part, image.shape[-1] // WINDOW) for part, image in zip(parts, images, strict=True)]

    def fix_positions(self, image_side: int) -> None:
        """Keep the positions of images of that many pixels a side, for inference: they are no longer computed."""
        self.register_buffer(f"where_{image_side}", self._where(image_side).detach(), persistent=False)

    def _where(self, image_side: int) -> Tensor:
        """(windows, 64, dim): positions of an image of that many pixels a side."""
        fixed = self._buffers.get(f"where_{image_side}")
        if fixed is not None:
            return fixed
        side = image_side // 4
        spread = F.interpolate(self.pos_embed, size=(side, side), mode="bicubic")
        return by_windows(spread + self.pos_embed_window.tile(1, 1, side // 8, side // 8))


def _raster(tokens: Tensor, side: int) -> Tensor:
    """(B * side^2, 4, C) window tokens -> (B, (2 * side)^2, C) in raster order."""
    c = tokens.shape[-1]
    split = tokens.view(-1, side, side, 2, 2, c)
    return split.permute(0, 1, 3, 2, 4, 5).reshape(split.shape[0], 4 * side * side, c)


class HieraBranch(nn.Module):
    """Hiera stem on each crop, then plain blocks over template and search tokens together.

    Has the same faces as `VisionTransformer`: `embed`, `blocks`, `norm`, `template_grid`, `search_grid`, `dim`.

    Args:
        template_size, search_size: pixels of the square inputs, multiples of 32.
        dim: channels of the first stem stage; tokens have four times as many.
        depth: joint blocks (six in Hiera-Tiny's third stage beyond its first block).
        drop_path: stochastic-depth rate of the last joint block; it grows linearly from 0.
    """

    def __init__(
        self,
        *,
        template_size: int = 96,
        search_size: int = 192,
        dim: int = 96,
        depth: int = 6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if template_size % WINDOW or search_size % WINDOW:
            raise ValueError(f"template {template_size} and search {search_size} must be multiples of {WINDOW}")
        self.dim = 4 * dim
        self.template_grid = template_size // 16
        self.search_grid = search_size // 16
        self.stem = HieraStem(dim=dim)
        # one learned vector a place tells both the place and whether it is template or search
        self.pos_embed_z = nn.Parameter(torch.zeros(1, self.template_grid**2, self.dim))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.search_grid**2, self.dim))
        heads = 4 * (dim // 96 or 1)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(dim=self.dim, heads=heads, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(self.dim, eps=1e-6)
        for embedding in (self.pos_embed_z, self.pos_embed_x, self.stem.pos_embed, self.stem.pos_embed_window):
            nn.init.trunc_normal_(embedding, std=0.02)
        self.apply(init_transformer)

    @property
    def patches(self) -> nn.Module:
        """The stem's patch embedding."""
        return self.stem.patch_embed

    def embed(
        self, template: Tensor, search: Tensor, search_keep: Tensor | None = None, *, patches: nn.Module | None = None
    ) -> Tensor:
        """As `VisionTransformer.embed`, through the stem."""
        z, x = self.stem([template, search], patches=patches)
        if search_keep is not None:
            x = x * search_keep.unsqueeze(-1).to(x.dtype)
        return torch.cat([z + self.pos_embed_z, x + self.pos_embed_x], dim=1)

    def embed_template(self, template: Tensor) -> Tensor:
        """As `VisionTransformer.embed_template`."""
        return self.stem([template])[0] + self.pos_embed_z

    def embed_search(self, search: Tensor) -> Tensor:
        """As `VisionTransformer.embed_search`."""
        return self.stem([search])[0] + self.pos_embed_x

    def fix_positions(self) -> None:
        """See `HieraStem.fix_positions`, for the template's and the search region's size."""
        for grid in (self.template_grid, self.search_grid):
            self.stem.fix_positions(16 * grid)
