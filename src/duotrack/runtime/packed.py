"""Weights laid out once as oneDNN multiplies them: torch's own layers lay theirs out again in every call on the CPU.

A packed network can be neither copied nor pickled: the layout is the library's.
"""

from typing import Any

import torch
from torch import Tensor, nn

from duotrack.models.attention import Attention, Mlp
from duotrack.models.hiera import StemBlock
from duotrack.models.merged_head import MergedHead

_OPS = torch.ops.mkldnn
_ROWS = 256
"""About as many tokens as one call multiplies; other numbers work as well."""


class PackedLinear(nn.Module):
    """A linear layer for inference in bf16 on the CPU, with its GELU if there is one; the numbers are the layer's."""

    def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        # not a buffer: the layout is this machine's, it is not to be written anywhere
        self._packed: Tensor = _OPS._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._after: tuple[Any, ...] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) bf16 -> (..., outputs)."""
        made: Tensor = _OPS._linear_pointwise(tokens, self._packed, self._bias, *self._after)
        return made


class PackedConv(nn.Module):
    """A 2D convolution for inference in bf16 on the CPU; the numbers are the convolution's."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        places = [list(each) for each in (conv.padding, conv.stride, conv.dilation)]
        self._packed: Tensor = _OPS._reorder_convolution_weight(conv.weight.detach(), *places, conv.groups, None)
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._how = (*places, conv.groups, "none", [], "")

    def forward(self, cells: Tensor) -> Tensor:
        """(B, inputs, h, w) bf16 -> (B, outputs, h', w')."""
        made: Tensor = _OPS._convolution_pointwise(cells, self._packed, self._bias, *self._how)
        return made


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `pack` is for such a network on this machine: torch is built with oneDNN, and that takes bf16 here."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(_OPS._is_mkldnn_bf16_supported())


def pack(net: nn.Module) -> nn.Module:
    """Replace the layers of blocks and heads, in which the work is; `net` is in bf16 and will not be trained again."""
    for part in list(net.modules()):
        if isinstance(part, Mlp):
            part.fc1, part.fc2 = PackedLinear(part.fc1, gelu=True), PackedLinear(part.fc2)  # type: ignore[assignment]
            part.act = nn.Identity()
        elif isinstance(part, (Attention, StemBlock, MergedHead)):
            _pack_within(part)
    return net


def _pack_within(part: nn.Module) -> None:
    for name, child in list(part.named_children()):
        if isinstance(child, nn.Linear):
            setattr(part, name, PackedLinear(child))
        elif isinstance(child, nn.Conv2d):
            setattr(part, name, PackedConv(child))
        elif isinstance(child, (nn.ModuleDict, nn.ModuleList)):
            _pack_within(child)
