"""Attention and whole transformer blocks in C++ of ours: as `duotrack.runtime.tile_ops`."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from duotrack.runtime import tile_library
from duotrack.runtime.tile_library import call, tally
from duotrack.runtime.tile_ops import BLOCK, TYPES, Layer, Norm, mlp, require, require_whole

LONGEST_WINDOW = 384
"""Tokens of a window that is pooled, at most."""


@dataclass(frozen=True)
class PackedBlock:
    """A pre-norm block. With a `shortcut` it pools: of four tokens it keeps one, and gives more channels.

    Raises:
        ValueError: layers that do not go together.
    """

    norm: Norm
    qkv: Layer
    proj: Layer
    heads: int
    mlp_norm: Norm
    first: Layer
    second: Layer
    shortcut: Layer | None = None

    def __post_init__(self) -> None:
        channels, outputs = self.qkv.inputs, self.proj.outputs
        made = channels if self.shortcut is None else self.shortcut.outputs
        sizes = (self.qkv.outputs, self.proj.inputs, made, self.first.inputs, self.second.outputs)
        if sizes != (3 * outputs, outputs, outputs, outputs, outputs) or self.first.outputs != self.second.inputs:
            raise ValueError(f"layers of {sizes} channels in a block from {channels} to {outputs}")
        if outputs % (self.heads * BLOCK) or (self.shortcut is not None and self.shortcut.inputs != channels):
            raise ValueError(f"{self.heads} heads and a shortcut in a block from {channels} to {outputs}")
        layers = [self.qkv, self.proj, self.first, self.second, *([] if self.shortcut is None else [self.shortcut])]
        if any((*layer.kind, layer.groups) != (*self.qkv.kind, 1) for layer in layers):
            raise ValueError(f"layers of {[layer.kind for layer in layers]} in one block")
        require_whole(self.first)
        for norm, count in ((self.norm, channels), (self.mlp_norm, outputs)):
            if norm.scale.shape != (count,) or norm.shift.shape != (count,):
                raise ValueError(f"a norm of {tuple(norm.scale.shape)} in a block from {channels} to {outputs}")

    def operations(self, samples: int, tokens: int, kept: int) -> int:
        """Of that many tokens, of which so many go on (or, where it pools, are made)."""
        shortcut = 0 if self.shortcut is None else self.shortcut.operations
        on = self.proj.operations + self.first.operations + self.second.operations
        attention = 4 * kept * tokens * self.proj.outputs
        return samples * (tokens * (self.qkv.operations + shortcut) + kept * on + attention)


def attend(tokens: Tensor, block: PackedBlock, *, skip: int = 0, look: int = -1) -> tuple[Tensor, Tensor]:
    """The first half of a block that does not pool: (B, N, C) -> (B, N - skip, C).

    The second result is how token `look` weighs the others, (B, heads, N) float32; empty if `look` is -1.
    """
    tokens = tokens.contiguous()
    require(tokens, block.qkv, block.qkv.inputs)
    samples, count, channels = tokens.shape
    if block.shortcut is not None:
        raise ValueError("a block that pools goes through both halves at once")
    if not (0 <= skip <= count and (look == -1 or skip <= look < count)):
        raise ValueError(f"of {count} tokens {skip} are left out and number {look} is looked at")
    onto = tokens[:, skip:].contiguous() if skip else tokens
    made = torch.empty_like(onto)
    row = tokens.new_empty(samples, block.heads, 0 if look == -1 else count, dtype=torch.float32)
    if made.numel():
        half = block.qkv.operations * count + (block.proj.operations + 4 * count * channels) * (count - skip)
        tally(lambda: samples * half)
        call(
            "tiles_attend",
            block.qkv.units,
            tokens.data_ptr(),
            samples,
            count,
            _struct(block),
            skip,
            look,
            block.qkv.code,
            onto.data_ptr(),
            made.data_ptr(),
            None if look == -1 else row.data_ptr(),
        )
    return made, row


def feed(tokens: Tensor, block: PackedBlock) -> Tensor:
    """The second half: (..., C) -> (..., C)."""
    return mlp(tokens, block.first, block.second, block.mlp_norm)


def through(tokens: Tensor, blocks: Sequence[PackedBlock], *, skip: int = 0) -> Tensor:
    """Tokens (B, N, C) through whole blocks; of the last, if it does not pool, only those from `skip` on are made."""
    tokens = tokens.contiguous()
    samples, count, channels = tokens.shape
    require(tokens, blocks[0].qkv, blocks[0].qkv.inputs)
    sizes = [(count, channels)]
    for block in blocks:
        before, width = sizes[-1]
        if (block.qkv.inputs, *block.qkv.kind) != (width, *blocks[0].qkv.kind):
            raise ValueError(
                f"a block for {block.qkv.inputs} channels after one that gives {width}, "
                f"{block.qkv.kind} after {blocks[0].qkv.kind}"
            )
        if block.shortcut is not None and (before % 16 or not 0 < before <= LONGEST_WINDOW):
            raise ValueError(f"windows have 16 tokens or a multiple of it, up to {LONGEST_WINDOW}, not {before}")
        sizes.append((before if block.shortcut is None else before // 4, block.proj.outputs))
    made_count, outputs = sizes[-1]
    if not 0 <= skip <= made_count or (skip and blocks[-1].shortcut is not None):
        raise ValueError(f"of {made_count} tokens {skip} are left out")
    made = tokens.new_empty(samples, made_count - skip, outputs)
    if made.numel():
        kept = [*(size[0] for size in sizes[1:-1]), made_count - skip]
        tally(lambda: sum(b.operations(samples, n[0], k) for b, n, k in zip(blocks, sizes, kept, strict=False)))
        call(
            "tiles_blocks",
            blocks[0].qkv.units,
            tokens.data_ptr(),
            samples,
            count,
            (tile_library.Block * len(blocks))(*map(_struct, blocks)),
            len(blocks),
            skip,
            blocks[0].qkv.code,
            made.data_ptr(),
        )
    return made


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention: (B, heads, n, D), (B, heads, N, D) twice -> (B, heads, n, D), D a multiple of 32.

    The heads of a token lie next to one another.
    """
    given = [each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value)]
    samples, heads, count, width = query.shape
    if key.shape != value.shape or key.shape[:2] + key.shape[3:] != (samples, heads, width) or not key.shape[2]:
        raise ValueError(f"queries {tuple(query.shape)}, keys {tuple(key.shape)}, values {tuple(value.shape)}")
    if not query.dtype == key.dtype == value.dtype in TYPES or width % BLOCK or not all(t.is_cpu for t in given):
        raise ValueError(f"{query.dtype}, {key.dtype} and {value.dtype} of width {width} on {query.device}")
    made = query.new_empty(samples, count, heads, width).transpose(1, 2)
    strides = [step for each in (*given, made) for step in each.stride()[:3]]
    tally(lambda: 4 * samples * heads * count * key.shape[2] * width)
    call(
        "tiles_attention",
        None,
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


def _struct(block: PackedBlock) -> tile_library.Block:
    def numbers(layer: Layer | None) -> tuple[int | None, int | None]:
        return (None, None) if layer is None else (layer.weights.data_ptr(), layer.bias.data_ptr())

    return tile_library.Block(
        block.norm.scale.data_ptr(),
        block.norm.shift.data_ptr(),
        *numbers(block.qkv),
        *numbers(block.shortcut),
        *numbers(block.proj),
        block.mlp_norm.scale.data_ptr(),
        block.mlp_norm.shift.data_ptr(),
        *numbers(block.first),
        *numbers(block.second),
        block.norm.epsilon,
        block.mlp_norm.epsilon,
        block.qkv.inputs,
        block.proj.outputs,
        block.heads,
        block.first.outputs,
    )
