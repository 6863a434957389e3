"""The first layer of a `HieraStem` in C++ of ours: as those of `duotrack.runtime.tiles`."""

from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.hiera import WindowEmbed
from duotrack.runtime.tile_library import ready
from duotrack.runtime.tile_ops import BLOCK, PATCH_LINE, TYPES, pack_layer, window_patches


class TileWindowEmbed(nn.Module):
    """A stem's first layer that fits (`embed_fits`)."""

    def __init__(self, embed: WindowEmbed) -> None:
        super().__init__()
        weight = embed.proj.weight.detach()
        self._side, self._stride = embed.proj.kernel_size[0], embed.proj.stride[0]
        lines = F.pad(weight, (0, PATCH_LINE - self._side)).flatten(1)
        self._layer = pack_layer(F.pad(lines, (0, -lines.shape[1] % BLOCK))[None], embed.proj.bias)

    def forward(self, image: Tensor, where: Tensor) -> Tensor:
        """As `WindowEmbed.forward`."""
        return window_patches(image, self._layer, where, side=self._side, stride=self._stride)


def embed_fits(embed: WindowEmbed) -> bool:
    """Whether the units are here and can take the layer."""
    return embed.proj.weight.dtype in TYPES and embed.proj.out_channels % BLOCK == 0 and ready()
