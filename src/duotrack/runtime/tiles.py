"""Layers for inference on the matrix units of Intel's processors (AMX), which multiply bfloat16 only.

float32 is multiplied as sums of three bfloat16 products (`kernels/tiles.h`): numbers are off by 1e-5 of the largest one
at most, torch's own by 1e-6; attention whose scores go into the hundreds by 1e-4; infinities become NaN. No gradients.
"""

import torch
from torch import Tensor, nn

import duotrack.runtime.tile_attention_ops  # noqa: F401  (it makes operations)
from duotrack.models.attention import Block, Mlp
from duotrack.models.hiera import StemBlock
from duotrack.runtime.tile_library import ready
from duotrack.runtime.tile_ops import BLOCK, pack_weights

TYPES = (torch.float32, torch.bfloat16)
_REPLACED = ("norm1", "attn", "norm2", "mlp")


class TileLinear(nn.Module):
    """A linear layer that `fits`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # not buffers: the layout is this processor's, it is not to be written anywhere
        self._weights, self._bias = packed(linear)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) of the layer's type -> (..., outputs)."""
        rows = tokens.reshape(1, 1, -1, tokens.shape[-1])
        made: Tensor = torch.ops.duotrack.tile_product(rows, self._weights, self._bias, 1)
        return made.view(*tokens.shape[:-1], self._bias.shape[0])


class TileConv(nn.Module):
    """A convolution that `fits`; channels lie last in the memory of what it gives."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self._patch = _patch(conv)
        by_place = weight.flatten(1) if self._patch else weight.permute(0, 2, 3, 1)
        self._weights = pack_weights(by_place.reshape(conv.groups, weight.shape[0] // conv.groups, -1))
        self._bias = float_bias(conv)
        self._side = 1 if self._patch else conv.kernel_size[0]

    def forward(self, cells: Tensor) -> Tensor:
        """(B, inputs, h, w) of the convolution's type -> (B, outputs, h', w')."""
        if self._patch:
            b, c, h, w = cells.shape
            high, wide = h // self._patch, w // self._patch
            whole = cells[:, :, : high * self._patch, : wide * self._patch]
            split = whole.reshape(b, c, high, self._patch, wide, self._patch)
            places = split.permute(0, 2, 4, 1, 3, 5).reshape(b, high, wide, c * self._patch**2)
        else:
            places = cells.permute(0, 2, 3, 1)
        made: Tensor = torch.ops.duotrack.tile_product(places, self._weights, self._bias, self._side)
        return made.permute(0, 3, 1, 2)


class TileMlp(nn.Module):
    """An MLP whose layers both `fits`."""

    def __init__(self, mlp: Mlp) -> None:
        super().__init__()
        self._layers = (*packed(mlp.fc1), *packed(mlp.fc2))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) of the layers' type -> (..., C')."""
        made: Tensor = torch.ops.duotrack.tile_mlp(tokens, *self._layers)
        return made


class TileBlock(nn.Module):
    """A transformer block whose layers and heads all fit (`block_fits`): two calls instead of a dozen.

    What else hangs on the block, such as a prompter, it takes over.
    """

    def __init__(self, block: Block | StemBlock) -> None:
        super().__init__()
        for name, child in block.named_children():
            if name not in _REPLACED:
                self.add_module(name, child)
        qkv, proj, self._heads = attention_of(block)
        self._attention = (*norm_of(block.norm1), *packed(qkv), *packed(proj))
        self._mlp = (*packed(block.mlp.fc1), *packed(block.mlp.fc2), *norm_of(block.norm2))

    def attend(self, tokens: Tensor, *, query: int | None = None, skip: int = 0) -> tuple[Tensor, Tensor | None]:
        """As `Block.attend`.

        Raises:
            ValueError: `query` is no index from the first token on, or is asked for together with `skip`.
        """
        if query is not None and (query < 0 or skip):
            raise ValueError(f"the query is a token's index and goes with no skip, got {query} and {skip}")
        look = -1 if query is None else query
        made, row = torch.ops.duotrack.tile_self_attention(tokens, *self._attention, self._heads, skip, look)
        return made, None if query is None else row

    def feed(self, tokens: Tensor) -> Tensor:
        """As `Block.feed`."""
        made: Tensor = torch.ops.duotrack.tile_mlp(tokens, *self._mlp)
        return made

    def forward(self, tokens: Tensor) -> Tensor:
        """As `Block.forward`."""
        return self.feed(self.attend(tokens)[0])


def block_fits(block: Block | StemBlock) -> bool:
    """Whether the units are here and can take the whole block, which does not pool or change its channels."""
    if isinstance(block, StemBlock) and (block.pool or block.proj is not None):
        return False
    return all_fit(block)


def all_fit(block: Block | StemBlock) -> bool:
    qkv, proj, heads = attention_of(block)
    width = proj.in_features // heads
    return attends(width, qkv.weight.dtype) and all(fits(each) for each in (qkv, proj, block.mlp.fc1, block.mlp.fc2))


def attention_of(block: Block | StemBlock) -> tuple[nn.Linear, nn.Linear, int]:
    if isinstance(block, Block):
        return block.attn.qkv, block.attn.proj, block.attn.heads
    qkv, proj = block.attn["qkv"], block.attn["proj"]
    assert isinstance(qkv, nn.Linear)
    assert isinstance(proj, nn.Linear)
    return qkv, proj, block.heads


def tile_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of (B, heads, N, D) tensors of a width and type for which `attends` says yes."""
    made: Tensor = torch.ops.duotrack.tile_attention(query, key, value)
    return made


def attends(width: int, dtype: torch.dtype) -> bool:
    """Whether the units are here and can take heads of that width."""
    return dtype in TYPES and width % BLOCK == 0 and ready()


def fits(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether the units are here and can take the layer: channels in whole blocks, a grid that stays, or patches."""
    if isinstance(layer, nn.Linear):
        sizes = (layer.in_features, layer.out_features)
    else:
        side = layer.kernel_size[0]
        keeps = (layer.kernel_size, layer.padding, layer.stride, layer.dilation)
        if not _patch(layer) and (side % 2 == 0 or keeps != ((side, side), (side // 2, side // 2), (1, 1), (1, 1))):
            return False
        inputs = layer.in_channels * (side**2 if _patch(layer) else 1)
        sizes = (inputs // layer.groups, layer.out_channels // layer.groups)
    return layer.weight.dtype in TYPES and all(size and size % BLOCK == 0 for size in sizes) and ready()


def _patch(conv: nn.Conv2d) -> int:
    """The side of the patches that a convolution embeds, which do not overlap; 0 for other convolutions."""
    side = conv.kernel_size[0]
    embeds = (conv.kernel_size, conv.stride) == ((side, side), (side, side)) and side > 1
    return side if embeds and (conv.padding, conv.dilation, conv.groups) == ((0, 0), (1, 1), 1) else 0


def packed(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    return pack_weights(linear.weight.detach()[None]), float_bias(linear)


def norm_of(norm: nn.LayerNorm) -> tuple[Tensor, Tensor, float]:
    return norm.weight.detach().float().contiguous(), norm.bias.detach().float().contiguous(), norm.eps


def float_bias(layer: nn.Linear | nn.Conv2d) -> Tensor:
    if layer.bias is None:
        return layer.weight.new_zeros(layer.weight.shape[0], dtype=torch.float32)
    return layer.bias.detach().float().contiguous()
