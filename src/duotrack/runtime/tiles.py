"""Layers for inference in C++ of ours (`kernels/`), on processors that multiply bfloat16. No gradients.

Intel's matrix units (AMX) know no float32: it is multiplied as sums of three bfloat16 products
(`kernels/amx.h`). Numbers are off by 1e-5 of the largest one at most, torch's own by 1e-6; attention whose scores go
into the hundreds by 1e-4; infinities become NaN. Vectors (AVX-512, `kernels/avx512.h`) multiply float32 as it is.
"""

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from duotrack.models.adapters import Pointwise
from duotrack.models.attention import Block, Mlp
from duotrack.models.hiera import StemBlock
from duotrack.models.patrack import AdaptedBlock
from duotrack.runtime import tile_block_ops, tile_ops
from duotrack.runtime.mapped import LARGE, trim
from duotrack.runtime.tile_block_ops import PackedBlock
from duotrack.runtime.tile_library import ready
from duotrack.runtime.tile_ops import BLOCK, BLOCK8, TYPES, Conv, Layer, Norm, pack_layer

_REPLACED = ("norm1", "attn", "norm2", "mlp")


class TileLinear(nn.Module):
    """Linear layers with ReLUs between that all `fits`, or one."""

    def __init__(self, *linears: nn.Linear | Pointwise) -> None:
        super().__init__()
        self._layers = tuple(Conv(_packed(linear), relu=linear is not linears[-1]) for linear in linears)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) of the layers' type -> (..., outputs)."""
        made = tile_ops.convs(tokens.reshape(1, 1, -1, tokens.shape[-1]), self._layers)
        return made.view(*tokens.shape[:-1], made.shape[-1])


class TilePatches(nn.Module):
    """A convolution that embeds patches and `fits`; channels lie last in the memory of what it gives."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._side = conv.kernel_size[0]
        self._layer = Conv(pack_layer(conv.weight.detach().flatten(1)[None], conv.bias))

    def forward(self, cells: Tensor) -> Tensor:
        """(B, inputs, h, w) of the convolution's type -> (B, outputs, h / side, w / side)."""
        side = self._side
        b, c, h, w = cells.shape
        high, wide = h // side, w // side
        split = cells[:, :, : high * side, : wide * side].reshape(b, c, high, side, wide, side)
        places = split.permute(0, 2, 4, 1, 3, 5).reshape(b, high, wide, c * side**2)
        return tile_ops.convs(places, (self._layer,)).permute(0, 3, 1, 2)


class TileMlp(nn.Module):
    """An MLP whose layers both `fits`."""

    def __init__(self, mlp: Mlp) -> None:
        super().__init__()
        self._layers = (_packed(mlp.fc1), _packed(mlp.fc2))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) of the layers' type -> (..., C')."""
        return tile_ops.mlp(tokens, *self._layers)


class TileBlock(nn.Module):
    """A transformer block whose layers and heads all fit (`block_fits`): one call instead of a dozen.

    What else hangs on the block, such as a prompter, it takes over.
    """

    def __init__(self, block: Block | StemBlock, eight: Mapping[nn.Module, Layer] | None = None) -> None:
        super().__init__()
        shortcut = block.proj if isinstance(block, StemBlock) else None
        for name, child in block.named_children():
            if name not in _REPLACED and child is not shortcut:
                self.add_module(name, child)
        self.packed = packed_block(block, eight)

    def attend(self, tokens: Tensor, *, query: int | None = None, skip: int = 0) -> tuple[Tensor, Tensor | None]:
        """As `Block.attend`.

        Raises:
            ValueError: `query` is no index from the first token on, or is asked for together with `skip`.
        """
        if query is not None and (query < 0 or skip):
            raise ValueError(f"the query is a token's index and goes with no skip, got {query} and {skip}")
        made, row = tile_block_ops.attend(tokens, self.packed, skip=skip, look=-1 if query is None else query)
        return made, None if query is None else row

    def feed(self, tokens: Tensor) -> Tensor:
        """As `Block.feed`."""
        return tile_block_ops.feed(tokens, self.packed)

    def forward(self, tokens: Tensor) -> Tensor:
        """As `Block.forward`, or `StemBlock.forward`."""
        return tile_block_ops.through(tokens, (self.packed,))

    def through(self, tokens: Tensor, after: Sequence[nn.Module], *, skip: int = 0) -> Tensor | None:
        """`duotrack.models.attention.through` this block and those after; None where not all fit or are alike."""
        packed = [self.packed, *(block.packed for block in after if isinstance(block, TileBlock))]
        alike = len(packed) > len(after) and len({each.qkv.kind for each in packed}) == 1
        return tile_block_ops.through(tokens, packed, skip=skip) if alike else None


def packed_block(
    block: Block | StemBlock | AdaptedBlock, eight: Mapping[nn.Module, Layer] | None = None
) -> PackedBlock:
    """The layers of a block that fits, without its adapters if it has some; those of `eight` are taken from there."""
    qkv, proj, first, second, *shortcut = [(eight or {}).get(each) or _packed(each) for each in _layers_of(block)]
    return PackedBlock(
        norm=_norm(block.norm1),
        qkv=qkv,
        proj=proj,
        heads=_attention_of(block)[2],
        mlp_norm=_norm(block.norm2),
        first=first,
        second=second,
        shortcut=shortcut[0] if shortcut else None,
    )


def in_8_bits(net: nn.Module) -> WeakKeyDictionary[nn.Module, Layer]:
    """The layers of blocks, to multiply in 8 bits: fitted to weights that need not be rounded to bfloat16 before.

    Of blocks that fit and whose MLP's hidden numbers are whole blocks of those. It keeps no layer alive.
    """
    blocks = [part for part in net.modules() if isinstance(part, (Block, StemBlock, AdaptedBlock)) and block_fits(part)]
    fitting = [block for block in blocks if block.mlp.fc1.out_features % BLOCK8 == 0]
    eight: WeakKeyDictionary[nn.Module, Layer] = WeakKeyDictionary()
    for block in fitting:
        eight |= {layer: _packed(layer, int8=True) for layer in _layers_of(block)}
        if sum(layer.weight.nbytes for layer in _layers_of(block)) >= LARGE:
            trim()
    return eight


def block_fits(block: Block | StemBlock | AdaptedBlock) -> bool:
    """Whether the units are here and can take the whole block; one that pools has to change its channels."""
    _, proj, heads = _attention_of(block)
    if isinstance(block, StemBlock) and block.pool != (block.proj is not None):
        return False
    return attends(proj.in_features // heads, proj.weight.dtype) and all(fits(layer) for layer in _layers_of(block))


def _layers_of(block: Block | StemBlock | AdaptedBlock) -> list[nn.Linear]:
    """Query, key and value; projection; the MLP's two; the shortcut of a block that pools."""
    qkv, proj, _ = _attention_of(block)
    shortcut = [block.proj] if isinstance(block, StemBlock) and block.proj is not None else []
    return [qkv, proj, block.mlp.fc1, block.mlp.fc2, *shortcut]


def _attention_of(block: Block | StemBlock | AdaptedBlock) -> tuple[nn.Linear, nn.Linear, int]:
    if not isinstance(block, StemBlock):
        return block.attn.qkv, block.attn.proj, block.attn.heads
    qkv, proj = block.attn["qkv"], block.attn["proj"]
    assert isinstance(qkv, nn.Linear)
    assert isinstance(proj, nn.Linear)
    return qkv, proj, block.heads


def attends(width: int, dtype: torch.dtype) -> bool:
    """Whether the units are here and can take heads of that width."""
    return dtype in TYPES and width % BLOCK == 0 and ready()


def fits(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether the units are here and can take the layer: channels in whole blocks; a convolution embeds patches."""
    if isinstance(layer, (nn.Linear, Pointwise)):
        sizes = (layer.weight.shape[1], layer.weight.shape[0])
    else:
        sizes = (layer.in_channels * _patch(layer) ** 2, layer.out_channels)
    return layer.weight.dtype in TYPES and all(size and size % BLOCK == 0 for size in sizes) and ready()


def _patch(conv: nn.Conv2d) -> int:
    """The side of the patches that a convolution embeds, which do not overlap; 0 for other convolutions."""
    side = conv.kernel_size[0]
    embeds = (conv.kernel_size, conv.stride) == ((side, side), (side, side)) and side > 1
    return side if embeds and (conv.padding, conv.dilation, conv.groups) == ((0, 0), (1, 1), 1) else 0


def _packed(linear: nn.Linear | Pointwise, *, int8: bool = False) -> Layer:
    return pack_layer(linear.weight.detach().flatten(1)[None], linear.bias, int8=int8)


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(norm.weight.detach().float().contiguous(), norm.bias.detach().float().contiguous(), norm.eps)
