"""Operations of torch on the matrix units of Intel's processors (`kernels/`), for inference on the CPU.

`duotrack::tile_product`, `tile_window_patches` and `tile_mlp` take and give tensors of float32 or bfloat16;
`pack_weights` makes the weights that they read. They give no gradients. `duotrack.runtime.tile_attention_ops` has those
that attend.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from duotrack.runtime import large_pages
from duotrack.runtime.tile_library import call

BLOCK = 32
"""Inputs and outputs that are multiplied at a time."""
PATCH_LINE = 8
"""Weights that a line of an overlapping patch takes."""


def pack_weights(weight: Tensor) -> Tensor:
    """(groups, outputs, inputs) -> bfloat16 (groups, panels of outputs, blocks of inputs, halves, 2, 16, 16, 2)."""
    groups, outputs, inputs = weight.shape
    shape = (groups, outputs // BLOCK, 2, 16, inputs // BLOCK, 16, 2)
    halves = [weight.bfloat16()]
    if weight.dtype == torch.float32:
        halves.append((weight - halves[0].float()).bfloat16())
    packed = large_pages.empty(groups, outputs // BLOCK, inputs // BLOCK, len(halves), 2, 16, 16, 2)
    for i, half in enumerate(halves):
        packed[:, :, :, i] = half.view(shape).permute(0, 1, 4, 2, 5, 3, 6)
    return packed


def operations(rows: int, *weights: tuple[int, ...]) -> int:
    """Operations on that many rows by the shapes of packed weights, two for a multiplication with its addition."""
    return sum(2 * rows * groups * panels * blocks * BLOCK**2 for groups, panels, blocks, *_ in weights)


def require(rows: Tensor, channels: int, *layers: tuple[Tensor, Tensor], groups: int = 1) -> None:
    """C++ reads what it is told to: rows of so many channels must fit packed weights and biases."""
    parts = {torch.float32: 2, torch.bfloat16: 1}.get(rows.dtype)
    for weights, bias in layers:
        outputs, unit = bias.numel(), groups * BLOCK
        shapes = (groups, outputs // unit, channels // unit, parts, 2, 16, 16, 2), (outputs,)
        found = tuple(weights.shape), tuple(bias.shape), weights.dtype, bias.dtype
        if found != (*shapes, torch.bfloat16, torch.float32) or outputs % unit or channels % unit:
            raise ValueError(f"{rows.dtype} rows of {channels} do not fit packed weights {tuple(weights.shape)}")
        if not (weights.is_contiguous() and bias.is_contiguous()):
            raise ValueError("packed weights and biases have to be contiguous")
        channels = outputs


def require_norm(channels: int, scale: Tensor, shift: Tensor | None) -> None:
    for each in (scale, shift):
        if each is None or each.shape != (channels,) or each.dtype != torch.float32 or not each.is_contiguous():
            raise ValueError(f"a norm of {channels} channels has as many contiguous float32 scales and shifts")


def _product(places: Tensor, weights: Tensor, bias: Tensor, side: int) -> Tensor:
    """(pictures, h, w, channels) times weights of the side x side places around -> (pictures, h, w, outputs)."""
    places = places.contiguous()
    pictures, height, width, channels = places.shape
    groups = max(weights.shape[0], 1)
    require(places, channels * side**2, (weights, bias), groups=groups)
    if channels % (groups * BLOCK) or side % 2 == 0:
        raise ValueError(f"{channels} channels in {groups} groups, {side} x {side} places")
    made = places.new_empty(pictures, height, width, bias.shape[0])
    inputs, outputs = channels // groups, bias.shape[0] // groups
    for group in range(groups if made.numel() else 0):
        call(
            "tiles_product",
            places.data_ptr() + group * inputs * places.element_size(),
            channels,
            pictures * height * width,
            inputs,
            height,
            width,
            side,
            weights[group].data_ptr(),
            bias.data_ptr() + group * outputs * bias.element_size(),
            outputs,
            places.dtype == torch.float32,
            made.data_ptr() + group * outputs * made.element_size(),
            groups * outputs,
        )
    return made


def _window_patches(images: Tensor, weights: Tensor, bias: Tensor, where: Tensor, side: int, stride: int) -> Tensor:
    """(B, C, h, w) -> (B * windows, 64, outputs), ordered as `by_windows` does; `where`, of one picture, is added.

    Patches of side x side places, as many above and left of the place in the middle as after it. `weights` are of
    (outputs, C, side, 8), zeros after `side`.
    """
    images, where = images.contiguous(), where.contiguous()
    pictures, channels, height, width = images.shape
    windows, outputs, window = height * width // (8 * stride) ** 2, bias.shape[0], 8 * stride
    if side % 2 == 0 or side > PATCH_LINE or not windows or height % window or width % window:
        raise ValueError(f"windows of {window} x {window} in {width} x {height}, patches of {side} x {side}")
    require(images, -(-channels * side * PATCH_LINE // BLOCK) * BLOCK, (weights, bias))
    if (where.shape, where.dtype) != ((windows, 64, outputs), images.dtype):
        raise ValueError(f"{where.dtype} positions {tuple(where.shape)} of {windows} windows, {outputs} outputs")
    made = images.new_empty(pictures * windows, 64, outputs)
    if pictures:
        call(
            "tiles_window_patches",
            images.data_ptr(),
            pictures,
            channels,
            height,
            width,
            side,
            stride,
            weights.data_ptr(),
            bias.data_ptr(),
            outputs,
            where.data_ptr(),
            images.dtype == torch.float32,
            made.data_ptr(),
        )
    return made


def _mlp(
    tokens: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    epsilon: float = 0.0,
) -> Tensor:
    """(..., C) through two layers and a GELU between them -> (..., C').

    With the scale and shift of a norm it is a block's half: tokens are normalised, and what comes of them is added.
    """
    tokens = tokens.contiguous()
    channels = tokens.shape[-1]
    require(tokens, channels, (first, first_bias), (second, second_bias))
    if scale is not None:
        require_norm(channels, scale, shift)
        if second_bias.shape[0] != channels:
            raise ValueError(f"{second_bias.shape[0]} channels cannot be added to {channels}")
    made = tokens.new_empty(*tokens.shape[:-1], second_bias.shape[0])
    if made.numel():
        call(
            "tiles_mlp",
            tokens.data_ptr(),
            tokens.numel() // channels,
            channels,
            None if scale is None else scale.data_ptr(),
            None if shift is None else shift.data_ptr(),
            epsilon,
            first.data_ptr(),
            first_bias.data_ptr(),
            first_bias.shape[0],
            second.data_ptr(),
            second_bias.data_ptr(),
            second_bias.shape[0],
            tokens.dtype == torch.float32,
            made.data_ptr(),
        )
    return made


_OPS = torch.library.Library("duotrack", "DEF")  # type: ignore[no-untyped-call]


def define(operations: Mapping[str, Callable[..., object]]) -> None:
    """Make operations `duotrack::...` of torch: schema -> what runs on the CPU."""
    for schema, run in operations.items():
        _OPS.impl(_OPS.define(schema), run, "CPU")  # type: ignore[no-untyped-call]


_OPERATIONS: dict[str, Callable[..., object]] = {
    "tile_product(Tensor places, Tensor weights, Tensor bias, int side) -> Tensor": _product,
    "tile_window_patches(Tensor images, Tensor weights, Tensor bias, Tensor where, int side, int stride) -> Tensor": (
        _window_patches
    ),
    "tile_mlp(Tensor tokens, Tensor first, Tensor first_bias, Tensor second, Tensor second_bias, "
    "Tensor? scale=None, Tensor? shift=None, float epsilon=0.0) -> Tensor": _mlp,
}
define(_OPERATIONS)
