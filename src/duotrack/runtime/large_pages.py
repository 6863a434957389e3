"""Memory in pages of 2 MB, for what every frame reads from end to end.

A processor remembers where some thousand pages are, and has to look up all others: 4 kB at a time that is 4 MB, of
hundreds that a network's weights take. On a virtual machine that took a tenth of a frame.
"""

import mmap
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

PAGE = 1 << 21
_CHUNK = 32 * PAGE
"""Bytes asked for at a time; those that nothing is written to take no memory."""
_lock = threading.Lock()


@dataclass
class _Room:
    """A mapping and how much of it is taken; it lives as long as tensors in it do."""

    mapping: weakref.ref[mmap.mmap]
    used: int


_rooms: list[_Room] = []
"""The one that tensors are put into, if there is one."""


def empty(*shape: int) -> Tensor:
    """A bfloat16 tensor whose numbers are not set, next to the one asked for before.

    Where the system has no large pages (Linux's `madvise` or `always`), pages are ordinary.
    """
    size = torch.Size(shape).numel() * 2
    if not size:
        return torch.empty(shape, dtype=torch.bfloat16)
    with _lock:
        room = _rooms[-1] if _rooms else None
        mapping = room.mapping() if room else None
        if room is None or mapping is None or room.used + size > len(mapping):
            try:
                mapping, first = _mapped(max(_CHUNK, size + 2 * PAGE))
            except OSError:  # so much at once is refused, or mappings are
                return torch.empty(shape, dtype=torch.bfloat16)
            room = _Room(weakref.ref(mapping), first)
            _rooms[:] = [room]
        start = room.used
        room.used += (size + 63) // 64 * 64
    return torch.frombuffer(mapping, dtype=torch.bfloat16, count=size // 2, offset=start).view(shape)


def _mapped(size: int) -> tuple[mmap.mmap, int]:
    """A new mapping, and where its first large page begins."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size), 0
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has its own rules
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # this kernel may have none
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping, -torch.frombuffer(mapping, dtype=torch.uint8).data_ptr() % PAGE
