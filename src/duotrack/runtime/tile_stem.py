"""Stems of `HieraBranch` on the matrix units of Intel's processors: as the layers of `duotrack.runtime.tiles`."""

import torch
from torch import Tensor, nn

from duotrack.models.hiera import StemBlock, WindowEmbed
from duotrack.runtime.tile_library import ready
from duotrack.runtime.tile_ops import BLOCK, PATCH_LINE, pack_weights
from duotrack.runtime.tiles import TYPES, all_fit, attention_of, fits, float_bias, norm_of, packed


class TileWindowEmbed(nn.Module):
    """A stem's first layer that fits (`embed_fits`)."""

    def __init__(self, embed: WindowEmbed) -> None:
        super().__init__()
        weight = embed.proj.weight.detach()
        self._side, self._stride = embed.proj.kernel_size[0], embed.proj.stride[0]
        lines = nn.functional.pad(weight, (0, PATCH_LINE - self._side)).flatten(1)
        whole = nn.functional.pad(lines, (0, -lines.shape[1] % BLOCK))
        self._layer = pack_weights(whole[None]), float_bias(embed.proj)

    def forward(self, image: Tensor, where: Tensor) -> Tensor:
        """As `WindowEmbed.forward`."""
        made: Tensor = torch.ops.duotrack.tile_window_patches(image, *self._layer, where, self._side, self._stride)
        return made


class TilePool(nn.Module):
    """A block of a stem that pools and widens, and whose layers and heads all fit (`pool_fits`)."""

    def __init__(self, block: StemBlock) -> None:
        super().__init__()
        assert block.proj is not None, "pool_fits refuses that"
        qkv, proj, self._heads = attention_of(block)
        self._attention = (*norm_of(block.norm1), *packed(qkv), *packed(block.proj), *packed(proj))
        self._mlp = (*packed(block.mlp.fc1), *packed(block.mlp.fc2), *norm_of(block.norm2))

    def forward(self, tokens: Tensor) -> Tensor:
        """As `StemBlock.forward`, of windows of 16 tokens or a multiple of it."""
        pooled = torch.ops.duotrack.tile_pooled_attention(tokens, *self._attention, self._heads)
        made: Tensor = torch.ops.duotrack.tile_mlp(pooled, *self._mlp)
        return made


def embed_fits(embed: WindowEmbed) -> bool:
    """Whether the units are here and can take the layer."""
    return embed.proj.weight.dtype in TYPES and embed.proj.out_channels % BLOCK == 0 and ready()


def pool_fits(block: StemBlock) -> bool:
    """Whether the units are here and can take the whole block, which pools and changes its channels."""
    return block.pool and block.proj is not None and fits(block.proj) and all_fit(block)
