"""The selective scan in C++: as what `duotrack.runtime.tiles` has, where that may be used."""

import torch
from torch import Tensor

from duotrack.runtime.tile_library import call, ready

LANES = 16
STATES = 64


def scan_fits(channels: int, states: int) -> bool:
    """Whether the kernel is here and can take as many channels and states of each."""
    return channels % LANES == 0 and 0 < states <= STATES and ready()


def tile_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """As `duotrack.models.scan.selective_scan`, in float32, for inference on the CPU.

    Raises:
        ValueError: sizes that `scan_fits` refuses, or that do not go together.
    """
    samples, length, channels = u.shape
    states = a.shape[1]
    if delta.shape != u.shape or a.shape != (channels, states) or not b.shape == c.shape == (samples, length, states):
        shapes = [tuple(each.shape) for each in (u, delta, a, b, c)]
        raise ValueError(f"inputs, steps, rates and projections of a scan do not go together: {shapes}")
    if not scan_fits(channels, states):
        raise ValueError(f"{channels} channels, {states} states: the kernel takes multiples of {LANES}, up to {STATES}")
    given = [each.float().contiguous() for each in (u, delta, a.mT, b, c)]
    made = torch.empty_like(given[0])
    if made.numel():
        call("tiles_scan", *(each.data_ptr() for each in given), samples, length, channels, states, made.data_ptr())
    return made.to(u.dtype)
