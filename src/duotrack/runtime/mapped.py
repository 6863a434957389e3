"""Giving memory back: pages of files that were read once, and what the allocator holds on to."""

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """Return what loading has left: freed memory that the allocator keeps, and code of libraries that ran only then.

    Code that nobody changed in memory is the file's own and comes back, page by page, when it is run again. Linux with
    glibc only; elsewhere nothing happens.
    """
    maps = Path("/proc/self/smaps")
    libc = ctypes.CDLL(None) if maps.exists() else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        return
    gc.collect()
    libc.malloc_trim(0)
    code: tuple[int, int] | None = None
    for line in maps.read_text().splitlines():
        fields = line.split(maxsplit=5)
        if not fields[0].endswith(":"):  # the head of a mapping: addresses, permissions, ..., file
            plain = len(fields) == 6 and fields[5].startswith("/") and fields[1] == "r-xp"
            code = _addresses(fields[0]) if plain else None
        elif fields[0] == "Anonymous:" and fields[1] == "0" and code is not None:
            libc.madvise(ctypes.c_void_p(code[0]), ctypes.c_size_t(code[1] - code[0]), _DONTNEED)


def _addresses(text: str) -> tuple[int, int]:
    first, last = (int(each, 16) for each in text.split("-"))
    return first, last


def _drop(path: Path) -> None:
    libc = ctypes.CDLL(None)
    resolved = str(path.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == resolved and "w" not in fields[1]:
            first, last = _addresses(fields[0])
            # fails only where the mapping has gone meanwhile, which is as good
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)
