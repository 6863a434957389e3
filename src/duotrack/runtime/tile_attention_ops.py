"""Operations of torch that attend, on the matrix units of Intel's processors: as those of `duotrack.runtime.tile_ops`.

`duotrack::tile_self_attention`, `tile_pooled_attention` and `tile_attention`.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from duotrack.runtime.tile_library import call
from duotrack.runtime.tile_ops import BLOCK, define, require, require_norm


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
    require(tokens, channels, (qkv, qkv_bias))
    require(tokens, channels, (proj, proj_bias))
    require_norm(channels, scale, shift)
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
    require(tokens, channels, (qkv, qkv_bias))
    require(tokens, channels, (shortcut, shortcut_bias), (proj, proj_bias))
    require_norm(channels, scale, shift)
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


_OPERATIONS: dict[str, Callable[..., object]] = {
    "tile_self_attention(Tensor tokens, Tensor scale, Tensor shift, float epsilon, Tensor qkv, Tensor qkv_bias, "
    "Tensor proj, Tensor proj_bias, int heads, int skip, int look) -> (Tensor, Tensor)": _self_attention,
    "tile_pooled_attention(Tensor tokens, Tensor scale, Tensor shift, float epsilon, Tensor qkv, Tensor qkv_bias, "
    "Tensor shortcut, Tensor shortcut_bias, Tensor proj, Tensor proj_bias, int heads) -> Tensor": _pooled_attention,
    "tile_attention(Tensor query, Tensor key, Tensor value) -> Tensor": _attention,
}
define(_OPERATIONS)
