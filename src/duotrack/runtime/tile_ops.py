"""Operations of torch on the matrix units of Intel's processors (`kernels/`), for inference on the CPU.

`duotrack::tile_product`, `tile_mlp`, `tile_self_attention`, `tile_pooled_attention` and `tile_attention` take and give
tensors of float32 or bfloat16; `pack_weights` makes the weights that they read. They give no gradients.
"""

import ctypes

import torch
from torch import Tensor

from duotrack.runtime import large_pages
from duotrack.runtime.tile_library import call

BLOCK = 32
"""Inputs and outputs that are multiplied at a time."""


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


def _require(rows: Tensor, channels: int, *layers: tuple[Tensor, Tensor], groups: int = 1) -> None:
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


def _require_norm(channels: int, scale: Tensor, shift: Tensor | None) -> None:
    for each in (scale, shift):
        if each is None or each.shape != (channels,) or each.dtype != torch.float32 or not each.is_contiguous():
            raise ValueError(f"a norm of {channels} channels has as many contiguous float32 scales and shifts")


def _product(places: Tensor, weights: Tensor, bias: Tensor, side: int) -> Tensor:
    """(pictures, h, w, channels) times weights of the side x side places around -> (pictures, h, w, outputs)."""
    places = places.contiguous()
    pictures, height, width, channels = places.shape
    groups = max(weights.shape[0], 1)
    _require(places, channels * side**2, (weights, bias), groups=groups)
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
    _require(tokens, channels, (first, first_bias), (second, second_bias))
    if scale is not None:
        _require_norm(channels, scale, shift)
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


def _self_attention(
    tokens: Tensor,
    scale: Tensor,
    shift: Tensor,
    epsilon: float,
    qkv: Tensor,
    qkv_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    heads: int,
    skip: int,
    look: int,
) -> tuple[Tensor, Tensor]:
    """A block's other half: (B, N, C) normalised, attending, added to themselves -> (B, N - skip, C).

    The second result is how token `look` weighs the others, (B, heads, N) float32; empty if `look` is -1.
    """
    tokens = tokens.contiguous()
    samples, count, channels = tokens.shape
    _require(tokens, channels, (qkv, qkv_bias))
    _require(tokens, channels, (proj, proj_bias))
    _require_norm(channels, scale, shift)
    if (qkv_bias.shape[0], proj_bias.shape[0]) != (3 * channels, channels) or channels % (heads * BLOCK):
        raise ValueError(f"{heads} heads of {channels} channels, weights {tuple(qkv.shape)} and {tuple(proj.shape)}")
    if not (0 <= skip <= count and (look == -1 or skip <= look < count)):
        raise ValueError(f"of {count} tokens {skip} are left out and number {look} is looked at")
    onto = tokens[:, skip:].contiguous()
    made = torch.empty_like(onto)
    row = tokens.new_empty(samples, heads, 0 if look == -1 else count, dtype=torch.float32)
    if made.numel():
        call(
            "tiles_self_attention",
            tokens.data_ptr(),
            samples,
            count,
            channels,
            scale.data_ptr(),
            shift.data_ptr(),
            epsilon,
            qkv.data_ptr(),
            qkv_bias.data_ptr(),
            proj.data_ptr(),
            proj_bias.data_ptr(),
            heads,
            skip,
            look,
            tokens.dtype == torch.float32,
            onto.data_ptr(),
            made.data_ptr(),
            None if look == -1 else row.data_ptr(),
        )
    return made, row


def _pooled_attention(
    tokens: Tensor,
    scale: Tensor,
    shift: Tensor,
    epsilon: float,
    qkv: Tensor,
    qkv_bias: Tensor,
    shortcut: Tensor,
    shortcut_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    heads: int,
) -> Tensor:
    """The same half of a block that pools: (windows, N, C) -> (windows, N / 4, C'), N up to 384 in whole tiles."""
    tokens = tokens.contiguous()
    windows, count, channels = tokens.shape
    outputs = proj_bias.shape[0]
    _require(tokens, channels, (qkv, qkv_bias))
    _require(tokens, channels, (shortcut, shortcut_bias), (proj, proj_bias))
    _require_norm(channels, scale, shift)
    if (qkv_bias.shape[0], shortcut_bias.shape[0]) != (3 * outputs, outputs) or outputs % (heads * BLOCK):
        raise ValueError(f"{heads} heads of {outputs} channels, weights {tuple(qkv.shape)} and {tuple(shortcut.shape)}")
    if count % 16 or not 0 < count <= 384:
        raise ValueError(f"windows have 16 tokens or a multiple of it, up to 384, not {count}")
    made = tokens.new_empty(windows, count // 4, outputs)
    if windows:
        call(
            "tiles_pooled_attention",
            tokens.data_ptr(),
            windows,
            count,
            channels,
            scale.data_ptr(),
            shift.data_ptr(),
            epsilon,
            qkv.data_ptr(),
            qkv_bias.data_ptr(),
            shortcut.data_ptr(),
            shortcut_bias.data_ptr(),
            proj.data_ptr(),
            proj_bias.data_ptr(),
            outputs,
            heads,
            tokens.dtype == torch.float32,
            made.data_ptr(),
        )
    return made


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, heads, n, D), (B, heads, N, D) twice -> (B, heads, n, D), the heads of a token next to one another."""
    given = [each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value)]
    samples, heads, count, width = query.shape
    if key.shape != value.shape or key.shape[:2] + key.shape[3:] != (samples, heads, width) or not key.shape[2]:
        raise ValueError(f"queries {tuple(query.shape)}, keys {tuple(key.shape)}, values {tuple(value.shape)}")
    if not query.dtype == key.dtype == value.dtype in (torch.float32, torch.bfloat16) or width % BLOCK:
        raise ValueError(f"{query.dtype}, {key.dtype} and {value.dtype} of width {width}")
    made = query.new_empty(samples, count, heads, width).transpose(1, 2)
    strides = [step for each in (*given, made) for step in each.stride()[:3]]
    call(
        "tiles_attention",
        *(each.data_ptr() for each in (*given, made)),
        (ctypes.c_long * len(strides))(*strides),
        samples,
        heads,
        count,
        key.shape[2],
        width,
        query.dtype == torch.float32,
    )
    return made


_OPS = torch.library.Library("duotrack", "DEF")  # type: ignore[no-untyped-call]
for _schema, _run in {
    "tile_product(Tensor places, Tensor weights, Tensor bias, int side) -> Tensor": _product,
    "tile_mlp(Tensor tokens, Tensor first, Tensor first_bias, Tensor second, Tensor second_bias, "
    "Tensor? scale=None, Tensor? shift=None, float epsilon=0.0) -> Tensor": _mlp,
    "tile_self_attention(Tensor tokens, Tensor scale, Tensor shift, float epsilon, Tensor qkv, Tensor qkv_bias, "
    "Tensor proj, Tensor proj_bias, int heads, int skip, int look) -> (Tensor, Tensor)": _self_attention,
    "tile_pooled_attention(Tensor tokens, Tensor scale, Tensor shift, float epsilon, Tensor qkv, Tensor qkv_bias, "
    "Tensor shortcut, Tensor shortcut_bias, Tensor proj, Tensor proj_bias, int heads) -> Tensor": _pooled_attention,
    "tile_attention(Tensor query, Tensor key, Tensor value) -> Tensor": _attention,
}.items():
    _OPS.impl(_OPS.define(_schema), _run, "CPU")  # type: ignore[no-untyped-call]
