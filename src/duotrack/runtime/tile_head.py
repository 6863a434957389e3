"""The merged head in C++ of ours: as the layers of `duotrack.runtime.tiles`.

Its towers halve their channels until they are fewer than kernels multiply at a time: each tower's are filled up with
zeros.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.head import TOWERS
from duotrack.models.merged_head import MergedHead, as_maps
from duotrack.models.outputs import HeadMaps
from duotrack.runtime.tile_library import ready
from duotrack.runtime.tile_ops import BLOCK, TYPES, Conv, convs, pack_layer

_TOWERS = len(TOWERS)


class TileHead(nn.Module):
    """A head that fits (`head_fits`)."""

    def __init__(self, head: MergedHead) -> None:
        super().__init__()
        layers = _layers(head)
        squeezed = [] if head.squeeze is None else [_conv(layers.pop(0), outputs=1, inputs=1, relu=False)]
        *stages, last = layers
        self._convs = (
            *squeezed,
            *(_conv(stage, outputs=_TOWERS, inputs=1) for stage in stages),
            _conv(last, outputs=1, inputs=_TOWERS, relu=False),
        )

    def forward(self, tokens: Tensor) -> HeadMaps:
        """As `CenterHead.forward`."""
        b, n, c = tokens.shape
        grid = round(n**0.5)
        made = convs(tokens.reshape(b, grid, grid, c), self._convs)
        return as_maps(made[..., : sum(TOWERS.values())].permute(0, 3, 1, 2))


def head_fits(head: MergedHead) -> bool:
    """Whether the units are here and can take the head."""
    dense = _layers(head)[: 1 if head.squeeze is None else 2]
    return all(conv.weight.dtype in TYPES and conv.in_channels % BLOCK == 0 for conv in dense) and ready()


def _layers(head: MergedHead) -> list[nn.Conv2d]:
    return [module for module in head.modules() if isinstance(module, nn.Conv2d)]


def _conv(conv: nn.Conv2d, *, outputs: int, inputs: int, relu: bool = True) -> Conv:
    """`outputs`, `inputs`: of so many towers each, filled up on their own; in groups, a tower has inputs of its own."""
    weight = conv.weight.detach()
    count, channels, side, _ = weight.shape
    split = weight.view(outputs, count // outputs, inputs, channels // inputs, side, side)
    filled = _filled(_filled(split, 3), 1)  # (towers, outputs of one, towers, inputs of one, side, side)
    by_place = filled.permute(0, 1, 4, 5, 2, 3).flatten(2)  # channels lie last: those of all towers
    layer = by_place.reshape(conv.groups, -1, by_place.shape[-1])
    bias = None if conv.bias is None else _filled(conv.bias.detach().view(outputs, -1), 1).flatten()
    return Conv(pack_layer(layer, bias), side=side, relu=relu, operations=2 * weight.numel())


def _filled(numbers: Tensor, axis: int) -> Tensor:
    """With zeros after those along an axis, up to whole blocks."""
    return F.pad(numbers, (*(0, 0) * (numbers.dim() - 1 - axis), 0, -numbers.shape[axis] % BLOCK))
