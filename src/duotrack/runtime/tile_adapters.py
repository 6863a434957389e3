"""PATrack's blocks and frequency mixers in C++: as what `duotrack.runtime.tiles` has, where that may be used."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from duotrack.models.adapters import FrequencyMixer
from duotrack.models.patrack import AdaptedBlock
from duotrack.runtime import tile_block_ops, tile_library
from duotrack.runtime.tile_library import call, tally
from duotrack.runtime.tile_ops import BLOCK, TYPES, Layer
from duotrack.runtime.tiles import packed_block


@dataclass(frozen=True)
class PackedMixer:
    """A mixer and the norm before it, in float32, as `kernels/calls.h` wants them; `pack_mixer` makes them."""

    down: Tensor
    down_bias: Tensor
    filter: Tensor
    peaks: Tensor
    peaks_bias: Tensor
    fuse: Tensor
    up: Tensor
    up_bias: Tensor
    epsilon: float
    dtype: torch.dtype

    @property
    def operations(self) -> int:
        """Of a token, as of the mixer's own layers."""
        hidden, channels = self.down.shape
        half, mixed = hidden // 2, self.up.shape[0]
        inside = half * hidden // 4 * 2 + half * 9 + mixed * 9
        return 2 * (hidden * channels + inside + mixed * channels)


def pack_mixer(mixer: FrequencyMixer, norm: nn.LayerNorm) -> PackedMixer:
    """Of the type that both have.

    Raises:
        ValueError: channels that are no whole blocks.
    """
    dtype = norm.weight.dtype
    if dtype not in TYPES or norm.weight.shape[0] % BLOCK:
        raise ValueError(f"{norm.weight.shape[0]} channels of {dtype}: {BLOCK} are taken at a time")
    down, scale, shift = (each.detach().double() for each in (mixer.D_fc1.weight, norm.weight, norm.bias))
    high, bias = mixer.high_mixer, mixer.proj.bias
    assert high.proj2.bias is not None
    assert bias is not None
    filtered = high.conv1.weight.detach().double() * high.proj1.weight.detach().double()
    fuse = mixer.conv_fuse.weight.detach().double().clone()
    fuse[:, :, 1, 1] += 1
    made = {
        "down": down * scale,
        "down_bias": mixer.D_fc1.bias.detach().double() + down @ shift,
        "filter": filtered,
        "peaks": high.proj2.weight.detach().flatten(1),
        "peaks_bias": high.proj2.bias.detach(),
        "fuse": fuse,
        "up": mixer.proj.weight.detach().flatten(1).T,
        "up_bias": bias.detach(),
    }
    floats = {name: each.float().contiguous() for name, each in made.items()}
    return PackedMixer(**floats, epsilon=norm.eps, dtype=dtype)


def add_mixed(tokens: Tensor, mixer: PackedMixer, sides: tuple[int, ...], onto: Tensor, *, crossed: bool) -> None:
    """Normalise and mix tokens (samples, N, C) of grids with these sides; what comes of it is added to `onto`.

    That has the same shape. `crossed`: what comes of each half of the samples is added to the other half.

    Raises:
        ValueError: what does not go together, odd sides, or an odd number of samples that are to be crossed.
    """
    tokens = tokens.contiguous()
    samples, count = tokens.shape[:2]
    channels = mixer.down.shape[1]
    for each in (tokens, onto):
        if not each.is_cpu or each.dtype != mixer.dtype or each.shape != (samples, count, channels):
            raise ValueError(
                f"{each.dtype} tokens {tuple(each.shape)} on {each.device} for a mixer of {channels} channels of "
                f"{mixer.dtype}"
            )
    if sum(side * side for side in sides) != count or any(side < 2 or side % 2 for side in sides):
        raise ValueError(f"{count} tokens in grids of {sides} cells a side, which are even")
    if crossed and samples % 2:
        raise ValueError(f"{samples} samples have no halves that could be crossed")
    if not tokens.numel():
        return
    if not onto.is_contiguous() or onto.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr():
        raise ValueError("what is added to lies in one piece, and in memory of its own")
    tally(lambda: samples * count * mixer.operations)
    call(
        "tiles_mix",
        None,
        tokens.data_ptr(),
        samples,
        count,
        (ctypes.c_int * len(sides))(*sides),
        _struct(mixer),
        crossed,
        tokens.dtype == torch.float32,
        onto.data_ptr(),
    )


def _struct(mixer: PackedMixer) -> tile_library.Mixer:
    hidden, channels = mixer.down.shape
    numbers = (mixer.down, mixer.down_bias, mixer.filter, mixer.peaks, mixer.peaks_bias, mixer.fuse, mixer.up)
    pointers = [each.data_ptr() for each in (*numbers, mixer.up_bias)]
    return tile_library.Mixer(*pointers, mixer.epsilon, channels, hidden)


class TileAdaptedBlock(nn.Module):
    """A block with adapters that fits (`duotrack.runtime.tiles.block_fits`); shared attention stays with torch."""

    def __init__(self, block: AdaptedBlock, eight: Mapping[nn.Module, Layer] | None = None) -> None:
        super().__init__()
        self.packed = packed_block(block, eight)
        self.mixers = (pack_mixer(block.adap_t, block.norm1), pack_mixer(block.adap2_t, block.norm2))
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.norml1, self.norml2 = block.norml1, block.norml2
        self.highfuseadapter1, self.highfuseadapter2 = block.highfuseadapter1, block.highfuseadapter2

    def forward(self, tokens: Tensor, sides: tuple[int, ...], *, entangled: bool, crossed: bool) -> Tensor:
        """As `AdaptedBlock.forward`."""
        attended, _ = tile_block_ops.attend(tokens, self.packed)
        if entangled:
            attended += self.norm1(self.highfuseadapter1(self.norml1(tokens), sides, crossed=crossed))
        else:
            add_mixed(tokens, self.mixers[0], sides, attended, crossed=crossed)
        made = tile_block_ops.feed(attended, self.packed)
        if entangled:
            made += self.norm2(self.highfuseadapter2(self.norml2(attended), sides, crossed=crossed))
        else:
            add_mixed(attended, self.mixers[1], sides, made, crossed=crossed)
        return made
