"""Memory in pages of 2 MB, for what every frame reads from end to end.

A processor remembers where some thousand pages are, and has to look up all others: 4 kB at a time that is 4 MB, of
hundreds that a network's weights take. On a virtual machine those searches took a third of the time of an MLP.
"""

import mmap
import threading
import weakref

import torch
from torch import Tensor

PAGE = 1 << 21
_CHUNK = 64 * PAGE
"""Bytes asked for at a time; those that nothing is written to take no memory."""


class _Open:  # the mapping that still has room; it lives as long as tensors in it do
    lock = threading.Lock()
    mapping: weakref.ref[mmap.mmap] | None = None
    used = 0


def empty(*shape: int) -> Tensor:
    """A bfloat16 tensor whose numbers are not set, next to the one asked for before.

    Where the system has no large pages (Linux's `madvise` or `always`), pages are ordinary.
    """
    size = torch.Size(shape).numel() * 2
    if not size:
        return torch.empty(shape, dtype=torch.bfloat16)
    with _Open.lock:
        mapping = _Open.mapping() if _Open.mapping else None
        if mapping is None or _Open.used + size > len(mapping):
            mapping, _Open.used = _mapped(max(_CHUNK, size + 2 * PAGE))
            _Open.mapping = weakref.ref(mapping)
        start, _Open.used = _Open.used, _Open.used + (size + 63) // 64 * 64
    return torch.frombuffer(mapping, dtype=torch.bfloat16, count=size // 2, offset=start).view(shape)


def _mapped(size: int) -> tuple[mmap.mmap, int]:
    """A new mapping, and where its first large page begins."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size), 0
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has its own rules
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping, -torch.frombuffer(mapping, dtype=torch.uint8).data_ptr() % PAGE
