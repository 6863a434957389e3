"""Giving memory back: pages of files that were read once, and what the allocator holds on to."""

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGE = 8 << 20
"""Bytes whose memory is worth giving back at once. In a program with much memory in pieces that took 0.15 s."""
_DONTNEED = 4
_EVERY = 0.05
"""Seconds between two sweeps."""


@contextmanager
def dropping_pages(path: Path) -> Iterator[None]:
    """While the block runs, and once more at its end, pages of `path` that are mapped and not written are given back.

    A library that packs weights into a layout of its own keeps the file mapped beside them, so that they count twice.
    The pages are the file's own and come back when they are read again. Linux only; elsewhere nothing happens.
    """
    if not Path("/proc/self/maps").exists():
        yield
        return
    done = threading.Event()

    def sweep() -> None:
        while not done.wait(_EVERY):
            _drop(path)

    sweeper = threading.Thread(target=sweep, daemon=True)
    sweeper.start()
    try:
        yield
    finally:
        done.set()
        sweeper.join()
        _drop(path)


def give_back() -> None:
    """Collect what nothing refers to, and return memory that is free and that the allocator keeps (see `trim`)."""
    gc.collect()
    trim()


def trim() -> None:
    """Return memory that is free and that the allocator keeps. Linux with glibc only; elsewhere nothing happens."""
    libc = ctypes.CDLL(None) if Path("/proc/self/maps").exists() else None
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _drop(path: Path) -> None:
    libc = ctypes.CDLL(None)
    resolved = str(path.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == resolved and "w" not in fields[1]:
            first, last = (int(each, 16) for each in fields[0].split("-"))
            # fails only where the mapping has gone meanwhile, which is as good
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)
