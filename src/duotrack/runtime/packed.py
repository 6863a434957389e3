"""Weights laid out once as this processor multiplies them: torch's own layers lay theirs out again in every call.

Where the processor multiplies bfloat16 that is for products of ours (`duotrack.runtime.tiles`), elsewhere for oneDNN's,
whose layouts can be neither copied nor pickled. No packed network is to be saved.
"""

import platform
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.models.adapters import Entangle, HeadAdapter, Pointwise, SharedAttention
from duotrack.models.attention import Attention, Block, Mlp
from duotrack.models.hiera import StemBlock, WindowEmbed
from duotrack.models.merged_head import MergedHead
from duotrack.models.patrack import AdaptedBlock
from duotrack.models.prompter import Coupling
from duotrack.models.ssm import ViMBlock
from duotrack.models.vit import PatchEmbed
from duotrack.runtime.mapped import LARGE, give_back, trim
from duotrack.runtime.tile_adapters import TileAdaptedBlock
from duotrack.runtime.tile_block_ops import attention as tile_attention
from duotrack.runtime.tile_head import TileHead, head_fits
from duotrack.runtime.tile_ops import Layer
from duotrack.runtime.tile_scan import scan_fits, tile_scan
from duotrack.runtime.tile_stem import TileWindowEmbed, embed_fits
from duotrack.runtime.tiles import TileBlock, TileLinear, TileMlp, TilePatches, attends, block_fits, fits

_OPS = torch.ops.mkldnn
_ROWS = 256
"""About as many tokens as one call multiplies; other numbers work as well."""


class PackedLinear(nn.Module):
    """A linear layer for inference on the CPU, with its GELU if there is one; the numbers are the layer's."""

    def __init__(self, linear: nn.Linear | Pointwise, *, gelu: bool = False) -> None:
        super().__init__()
        # not a buffer: the layout is this machine's, it is not to be written anywhere
        self._packed: Tensor = _OPS._reorder_linear_weight(linear.weight.detach().flatten(1), _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._after: tuple[Any, ...] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) of the layer's type -> (..., outputs)."""
        made: Tensor = _OPS._linear_pointwise(tokens, self._packed, self._bias, *self._after)
        return made


class PackedConv(nn.Module):
    """A 2D convolution for inference on the CPU; the numbers are the convolution's.

    The layout is chosen for one picture of the size of the first ones that come, and pictures go through one by one:
    for three at once oneDNN may want another layout, and going from one to the other took it half a second a call.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._places = [list(each) for each in (conv.padding, conv.stride, conv.dilation)]
        self._groups = conv.groups
        self._weight: Tensor | None = conv.weight.detach()
        self._packed: Tensor | None = None
        self._packing = threading.Lock()
        self._bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, cells: Tensor) -> Tensor:
        """(B, inputs, h, w) of the convolution's type -> (B, outputs, h', w')."""
        how = (self._laid_out(cells), self._bias, *self._places, self._groups, "none", [], "")
        made: list[Tensor] = [_OPS._convolution_pointwise(each, *how) for each in torch.split(cells, 1)]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _laid_out(self, cells: Tensor) -> Tensor:
        with self._packing:  # clones of a tracker may share the network and be in threads of their own
            if self._packed is None:
                size = [1, *cells.shape[1:]]
                self._packed = _OPS._reorder_convolution_weight(self._weight, *self._places, self._groups, size)
                self._weight = None
                give_back()
            return self._packed


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `pack` is for such a network on this machine: torch is built with oneDNN, which multiplies that here."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.float32:
        return platform.machine().lower() in ("x86_64", "amd64")  # tried on no other processors
    return dtype == torch.bfloat16 and bool(_OPS._is_mkldnn_bf16_supported())


def pack(net: nn.Module, eight: Mapping[nn.Module, Layer] | None = None) -> nn.Module:
    """Replace the layers of blocks and heads, in which the work is; `net` already has the type that it computes in.

    `eight`: layers of blocks that multiply in 8 bits instead, of a network in bfloat16; `in_8_bits` makes them.

    Its `state_dict` raises `InputError` from then on: half of the weights would be missing. Blocks that sit in several
    places would no longer be shared.
    """
    _pack(net, eight or {})
    net.register_state_dict_pre_hook(_refuse)  # type: ignore[no-untyped-call]
    return net


def _pack(part: nn.Module, eight: Mapping[nn.Module, Layer]) -> None:
    if isinstance(part, PatchEmbed):
        part.proj = TilePatches(part.proj) if fits(part.proj) else part.proj  # type: ignore[assignment]
    elif isinstance(part, Attention) and attends(part.qkv.in_features // part.heads, part.qkv.weight.dtype):
        part.dot_product = tile_attention
    elif isinstance(part, Coupling):
        part.F, part.G = _two_layers(part.F), _two_layers(part.G)  # type: ignore[assignment]
    elif isinstance(part, ViMBlock) and part.chunked and scan_fits(*part.states):
        part.scan = tile_scan
    for name in [name for name, _ in part.named_children()]:  # names only: a list of parts would keep them alive
        large = sum(each.nbytes for each in part.get_submodule(name).parameters()) >= LARGE
        _pack_child(part, name, eight)
        if large:
            trim()  # or the layers' own weights and laid out ones pile up side by side
    if isinstance(part, (Attention, StemBlock, MergedHead, SharedAttention, Entangle, HeadAdapter)):
        _pack_within(part)


def _pack_child(part: nn.Module, name: str, eight: Mapping[nn.Module, Layer]) -> None:
    child = part.get_submodule(name)
    if isinstance(child, (Block, StemBlock)) and block_fits(child):
        block = TileBlock(child, eight)
        setattr(part, name, block)
        _pack(block, eight)
    elif isinstance(child, AdaptedBlock) and block_fits(child):
        adapted = TileAdaptedBlock(child, eight)
        setattr(part, name, adapted)
        _pack(adapted, eight)
    elif isinstance(child, WindowEmbed) and embed_fits(child):
        setattr(part, name, TileWindowEmbed(child))
    elif isinstance(child, MergedHead) and head_fits(child):
        setattr(part, name, TileHead(child))
    elif isinstance(child, Mlp):
        setattr(part, name, _mlp(child))
    elif not isinstance(child, (nn.Linear, nn.Conv2d)):
        _pack(child, eight)


def _refuse(*_: Any) -> None:
    raise InputError(
        "this network was made ready for tracking: its weights lie as this processor multiplies them and cannot be "
        "saved; take them from duotrack.build_net"
    )


def _mlp(mlp: Mlp) -> nn.Module:
    if fits(mlp.fc1) and fits(mlp.fc2):
        return TileMlp(mlp)
    return nn.Sequential(PackedLinear(mlp.fc1, gelu=True), PackedLinear(mlp.fc2))


def _two_layers(layers: nn.Sequential) -> nn.Module:
    """Those of a coupling."""
    first, relu, second = layers
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    if fits(first) and fits(second):
        return TileLinear(first, second)
    return nn.Sequential(PackedLinear(first), relu, PackedLinear(second))


def _pack_within(part: nn.Module) -> None:
    for name, child in list(part.named_children()):
        if isinstance(child, (nn.Linear, Pointwise)):
            setattr(part, name, TileLinear(child) if fits(child) else PackedLinear(child))
        elif isinstance(child, nn.Conv2d):
            setattr(part, name, PackedConv(child))
        elif isinstance(child, (nn.ModuleDict, nn.ModuleList)):
            _pack_within(child)
