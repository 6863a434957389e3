"""The selective scan in C++: as what `duotrack.runtime.tiles` has, where that may be used."""

import torch
from torch import Tensor

from duotrack.runtime.tile_library import call, ready, tally

LANES = 16
STATES = 64


def scan_fits(channels: int, states: int) -> bool:
    """Whether the kernel is here and can take as many channels and states of each."""
    return _sizes_fit(channels, states) and ready()


def _sizes_fit(channels: int, states: int) -> bool:
    return channels % LANES == 0 and 0 < states <= STATES


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
    if not _sizes_fit(channels, states):
        raise ValueError(f"{channels} channels, {states} states: the kernel takes multiples of {LANES}, up to {STATES}")
    if not all(each.is_cpu for each in (u, delta, a, b, c)):
        raise ValueError(f"a scan on {u.device}: the kernel computes on the CPU")
    given = [each.float().contiguous() for each in (u, delta, a.mT, b, c)]
    made = torch.empty_like(given[0])
    if made.numel():
        tally(lambda: 2 * made.numel() * states)  # as torch counts the plain scan: its products with `c`
        call(
            "tiles_scan", None, *(each.data_ptr() for each in given), samples, length, channels, states, made.data_ptr()
        )
    return made.to(u.dtype)
