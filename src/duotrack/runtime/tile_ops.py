"""Layers in C++ of ours (`kernels/`), for inference on the CPU.

They take and give tensors of float32 or bfloat16, of the type that their weights were packed from, and give no
gradients. Layers of bfloat16 may multiply in 8 bits (`kernels/int8.h`). `duotrack.runtime.tile_block_ops` has what
attends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from duotrack.errors import InputError
from duotrack.runtime import large_pages, tile_library
from duotrack.runtime.tile_library import Units, call, tally, units

BLOCK = 32
"""Inputs and outputs that are multiplied at a time."""
PATCH_LINE = 8
"""Weights that a line of an overlapping patch takes."""
TYPES = (torch.float32, torch.bfloat16)
Numbers = Literal["bf16", "fp32", "int8"]
"""What layers multiply."""
_CODES: tuple[Numbers, ...] = ("bf16", "fp32", "int8")
"""As `kernels/numbers.h` counts them."""
BLOCK8 = 64
"""Inputs that are multiplied at a time in 8 bits; others are filled up."""


@dataclass(frozen=True)
class Layer:
    """Weights as the kernels for `units` read them, and a bias in float32; `pack_layer` makes them.

    Not in buffers: the layout is this processor's, it is not to be written anywhere.
    """

    weights: Tensor
    bias: Tensor
    numbers: Numbers
    inputs: int
    outputs: int
    groups: int
    units: Units

    @property
    def kind(self) -> tuple[Numbers, Units]:
        """The same of layers that numbers go through in one call."""
        return self.numbers, self.units

    @property
    def dtype(self) -> torch.dtype:
        """Of what is given and made."""
        return torch.float32 if self.numbers == "fp32" else torch.bfloat16

    @property
    def code(self) -> int:
        """Of the numbers, for the kernels."""
        return _CODES.index(self.numbers)

    @property
    def operations(self) -> int:
        """Of a row, two for a multiplication with its addition."""
        return 2 * self.inputs * self.outputs // self.groups


@dataclass(frozen=True)
class Norm:
    """Of the channels of a token, in float32."""

    scale: Tensor
    shift: Tensor
    epsilon: float


@dataclass(frozen=True)
class Conv:
    """A layer whose inputs are those of the side x side places around, with or without a ReLU after it.

    `operations`: at a place, if the layer is filled up with zeros that do not count.

    Raises:
        ValueError: a side that has no middle, or inputs that are no whole blocks of each place and group.
    """

    layer: Layer
    side: int = 1
    relu: bool = False
    operations: int | None = None

    def __post_init__(self) -> None:
        if self.side < 1 or self.side % 2 == 0 or self.layer.inputs % (self.side**2 * self.layer.groups * BLOCK):
            raise ValueError(
                f"{self.layer.inputs} inputs in {self.layer.groups} groups, {self.side} x {self.side} places"
            )

    @property
    def channels(self) -> int:
        """Of what is given."""
        return self.layer.inputs // self.side**2


def pack_layer(weight: Tensor, bias: Tensor | None, *, int8: bool = False) -> Layer:
    """(groups, outputs of one, inputs of one), multiples of 32, and (all outputs,) of float32 or bfloat16.

    `int8`: weights are rounded to whole multiples of a 127th of the largest of their output; rows, of bfloat16, will
    be so as they come.
    """
    groups, outputs, inputs = weight.shape
    if outputs % BLOCK or inputs % BLOCK or (bias is not None and bias.shape != (groups * outputs,)):
        raise ValueError(f"weights {tuple(weight.shape)} and a bias: {BLOCK} are multiplied at a time")
    used = units()
    if used is None:
        raise InputError("no layer can be packed here: this processor's units are not there, or not to be used")
    floats = weight.new_zeros(groups * outputs) if bias is None else bias.detach()
    numbers: Numbers = "int8" if int8 else "fp32" if weight.dtype == torch.float32 else "bf16"
    pack = _bytes if int8 else _whole if (used, numbers) == ("avx512", "fp32") else _pairs
    return Layer(
        weights=pack(weight),
        bias=floats.float().contiguous(),
        numbers=numbers,
        inputs=groups * inputs,
        outputs=groups * outputs,
        groups=groups,
        units=used,
    )


def _pairs(weight: Tensor) -> Tensor:
    """-> bfloat16 (groups, panels of outputs, blocks of inputs, halves, 2, 16, 16, 2)."""
    groups, outputs, inputs = weight.shape
    shape = (groups, outputs // BLOCK, 2, 16, inputs // BLOCK, 16, 2)
    halves = [weight.bfloat16()]
    if weight.dtype == torch.float32:
        halves.append((weight - halves[0].float()).bfloat16())
    packed = large_pages.empty(groups, outputs // BLOCK, inputs // BLOCK, len(halves), 2, 16, 16, 2)
    for i, half in enumerate(halves):
        packed[:, :, :, i] = half.view(shape).permute(0, 1, 4, 2, 5, 3, 6)
    return packed


def _whole(weight: Tensor) -> Tensor:
    """-> float32 (groups, panels of outputs, blocks of inputs, 2, 2, 16, 16), its inputs before its outputs."""
    groups, outputs, inputs = weight.shape
    packed = large_pages.empty(groups, outputs // BLOCK, inputs // BLOCK, 2, 2, 16, 32).view(torch.float32)
    packed[:] = weight.view(groups, outputs // BLOCK, 2, 16, inputs // BLOCK, 2, 16).permute(0, 1, 4, 5, 2, 6, 3)
    return packed


def _bytes(weight: Tensor) -> Tensor:
    """-> (groups, panels of outputs, what is multiplied and what `kernels/int8.h` finds behind it)."""
    groups, outputs, inputs = weight.shape
    blocks, panels = -(-inputs // BLOCK8), outputs // BLOCK
    filled = F.pad(weight.float(), (0, blocks * BLOCK8 - inputs))
    steps = filled.abs().amax(-1, keepdim=True) / 127
    whole = (filled / steps.clamp_min(torch.finfo(torch.float32).tiny)).round().to(torch.int8)
    split = whole.view(groups, panels, 2, 16, blocks, 16, 4)
    sums = split.sum((5, 6), dtype=torch.int32).permute(0, 1, 4, 2, 3)
    size = blocks * BLOCK8 * BLOCK
    packed = large_pages.empty(groups, panels, size // 2 + BLOCK * 2 * (1 + blocks)).view(torch.int8)
    packed[:, :, :size] = split.permute(0, 1, 4, 2, 5, 3, 6).flatten(2)
    packed[:, :, size : size + 4 * BLOCK] = steps.reshape(groups, panels, BLOCK).view(torch.int8)
    packed[:, :, size + 4 * BLOCK :] = sums.flatten(2).contiguous().view(torch.int8)
    return packed


def require(rows: Tensor, layer: Layer, channels: int) -> None:
    """C++ reads what it is told to: rows are of the layer's type and have so many channels."""
    if not rows.is_cpu or rows.dtype != layer.dtype or rows.shape[-1] != channels:
        raise ValueError(
            f"{rows.dtype} rows of {rows.shape[-1]} on {rows.device} do not fit packed weights, "
            f"which are {layer.dtype} for {channels} on the CPU"
        )


def require_whole(hidden: Layer) -> None:
    """An MLP's hidden numbers become inputs of the second layer block by block."""
    if hidden.numbers == "int8" and hidden.outputs % BLOCK8:
        raise ValueError(f"{hidden.outputs} hidden numbers: in 8 bits {BLOCK8} are multiplied at a time")


def convs(places: Tensor, given: Sequence[Conv]) -> Tensor:
    """(pictures, h, w, channels) through convolutions that keep the grid -> (pictures, h, w, outputs of the last)."""
    places = places.contiguous()
    pictures, height, width, _ = places.shape
    require(places, given[0].layer, given[0].channels)
    for before, after in pairwise(given):
        if (after.channels, *after.layer.kind) != (before.layer.outputs, *before.layer.kind):
            raise ValueError(
                f"a convolution of {after.channels} channels after one that gives {before.layer.outputs}, "
                f"{after.layer.kind} after {before.layer.kind}"
            )
    made = places.new_empty(pictures, height, width, given[-1].layer.outputs)
    if made.numel():
        whole = (tile_library.Conv * len(given))(*(_conv(each) for each in given))
        tally(lambda: pictures * height * width * sum(each.operations or each.layer.operations for each in given))
        sizes = (pictures, height, width)
        call(
            "tiles_convs",
            given[0].layer.units,
            places.data_ptr(),
            *sizes,
            whole,
            len(given),
            given[0].layer.code,
            made.data_ptr(),
        )
    return made


def _conv(conv: Conv) -> tile_library.Conv:
    layer = conv.layer
    return tile_library.Conv(
        layer.weights.data_ptr(),
        layer.bias.data_ptr(),
        layer.groups,
        conv.channels,
        layer.outputs,
        conv.side,
        conv.relu,
    )


def window_patches(images: Tensor, layer: Layer, where: Tensor, *, side: int, stride: int) -> Tensor:
    """(B, C, h, w) -> (B * windows, 64, outputs), ordered as `by_windows` does; `where`, of one picture, is added.

    Patches of side x side places, as many above and left of the place in the middle as after it. The layer's inputs
    are (C, side, 8), zeros after `side` and at the end.
    """
    images, where = images.contiguous(), where.contiguous()
    pictures, channels, height, width = images.shape
    windows, outputs, window = height * width // (8 * stride) ** 2, layer.outputs, 8 * stride
    if side % 2 == 0 or side > PATCH_LINE or not windows or height % window or width % window:
        raise ValueError(f"windows of {window} x {window} in {width} x {height}, patches of {side} x {side}")
    if (
        not images.is_cpu
        or images.dtype != layer.dtype
        or layer.inputs != -(-channels * side * PATCH_LINE // BLOCK) * BLOCK
    ):
        raise ValueError(f"{images.dtype} pictures of {channels} channels on {images.device} do not fit packed weights")
    if not where.is_cpu or (where.shape, where.dtype) != ((windows, 64, outputs), images.dtype):
        raise ValueError(f"{where.dtype} positions {tuple(where.shape)} of {windows} windows, {outputs} outputs")
    made = images.new_empty(pictures * windows, 64, outputs)
    if pictures:
        tally(lambda: 2 * made.numel() * channels * side**2)  # without the zeros after a line
        call(
            "tiles_window_patches",
            layer.units,
            images.data_ptr(),
            pictures,
            channels,
            height,
            width,
            side,
            stride,
            layer.weights.data_ptr(),
            layer.bias.data_ptr(),
            outputs,
            where.data_ptr(),
            images.dtype == torch.float32,
            made.data_ptr(),
        )
    return made


def mlp(tokens: Tensor, first: Layer, second: Layer, norm: Norm | None = None) -> Tensor:
    """(..., C) through two layers and a GELU between them -> (..., C').

    With a norm it is a block's half: tokens are normalised, and what comes of them is added.
    """
    tokens = tokens.contiguous()
    channels = first.inputs
    require(tokens, first, channels)
    if (second.inputs, *second.kind) != (first.outputs, *first.kind) or first.groups * second.groups > 1:
        raise ValueError(
            f"a layer for {second.inputs} after one that gives {first.outputs}, {second.kind} after {first.kind}"
        )
    require_whole(first)
    if norm is not None and not norm.scale.shape == norm.shift.shape == (channels,) == (second.outputs,):
        raise ValueError(f"a norm of {tuple(norm.scale.shape)}: {second.outputs} channels are added to {channels}")
    made = tokens.new_empty(*tokens.shape[:-1], second.outputs)
    rows = tokens.numel() // channels
    if rows:
        tally(lambda: rows * (first.operations + second.operations))
        call(
            "tiles_mlp",
            first.units,
            tokens.data_ptr(),
            rows,
            channels,
            None if norm is None else norm.scale.data_ptr(),
            None if norm is None else norm.shift.data_ptr(),
            0.0 if norm is None else norm.epsilon,
            first.weights.data_ptr(),
            first.bias.data_ptr(),
            first.outputs,
            second.weights.data_ptr(),
            second.bias.data_ptr(),
            second.outputs,
            first.code,
            made.data_ptr(),
        )
    return made
