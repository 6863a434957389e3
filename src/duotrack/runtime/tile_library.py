"""The kernels (`kernels/`): compiled once for the units that this processor multiplies with, and loaded. Linux only."""

import ctypes
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import torch

from duotrack.errors import InputError
from duotrack.runtime.native import load_library

logger = logging.getLogger(__name__)
Units = Literal["amx", "avx512"]
"""What multiplies bfloat16 and bytes: Intel's matrix units, or vectors (AVX-512), which multiply float32 as well."""
_VECTORS = frozenset(("avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_vnni"))
_ASKED: dict[Units, frozenset[str]] = {"amx": _VECTORS | {"amx_tile", "amx_bf16", "amx_int8"}, "avx512": _VECTORS}
"""What the system says of processors that have them; the best come first."""
_FLAGS = (
    *("-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-mprefer-vector-width=512"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mavx512vnni", "-mfma", "-mprfchw"),
)
_OWN_FLAGS: dict[Units, tuple[str, ...]] = {"amx": ("-mamx-tile", "-mamx-bf16", "-mamx-int8"), "avx512": ()}
_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_float


class Conv(ctypes.Structure):
    """As in `kernels/calls.h`."""

    _fields_ = (
        *((name, _POINTER) for name in ("weights", "bias")),
        *((name, _INT) for name in ("groups", "channels", "outputs", "side", "relu")),
    )


class Block(ctypes.Structure):
    """As in `kernels/calls.h`."""

    _fields_ = (
        *((name, _POINTER) for name in ("scale", "shift", "qkv", "qkv_bias", "shortcut", "shortcut_bias")),
        *((name, _POINTER) for name in ("proj", "proj_bias", "mlp_scale", "mlp_shift")),
        *((name, _POINTER) for name in ("first", "first_bias", "second", "second_bias")),
        *((name, _FLOAT) for name in ("epsilon", "mlp_epsilon")),
        *((name, _INT) for name in ("channels", "outputs", "heads", "hidden")),
    )


class Mixer(ctypes.Structure):
    """As in `kernels/calls.h`."""

    _fields_ = (
        *((name, _POINTER) for name in ("down", "down_bias", "filter", "peaks", "peaks_bias", "fuse", "up", "up_bias")),
        ("epsilon", _FLOAT),
        *((name, _INT) for name in ("channels", "hidden")),
    )


_ARGUMENTS = {
    "tiles_convs": (_POINTER, _INT, _INT, _INT, ctypes.POINTER(Conv), _INT, _INT, _POINTER, _INT),
    "tiles_window_patches": (
        *(_POINTER, _INT, _INT, _INT, _INT, _INT, _INT),
        *(_POINTER, _POINTER, _INT, _POINTER, _INT, _POINTER, _INT),
    ),
    "tiles_mlp": (
        *(_POINTER, _INT, _INT, _POINTER, _POINTER, _FLOAT, _POINTER, _POINTER, _INT),
        *(_POINTER, _POINTER, _INT, _INT, _POINTER, _INT),
    ),
    "tiles_attend": (
        *(_POINTER, _INT, _INT, ctypes.POINTER(Block), _INT, _INT, _INT),
        *(_POINTER, _POINTER, _POINTER, _INT),
    ),
    "tiles_blocks": (_POINTER, _INT, _INT, ctypes.POINTER(Block), _INT, _INT, _INT, _POINTER, _INT),
    "tiles_scan": (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _INT, _INT, _INT, _POINTER, _INT),
    "tiles_mix": (
        *(_POINTER, _INT, _INT, ctypes.POINTER(_INT), ctypes.POINTER(Mixer)),
        *(_INT, _INT, _POINTER, _INT),
    ),
    "tiles_attention": (
        *(_POINTER, _POINTER, _POINTER, _POINTER, ctypes.POINTER(_LONG)),
        *(_INT, _INT, _INT, _INT, _INT, _INT, _INT),
    ),
}
_TALLY: ContextVar[list[int] | None] = ContextVar("_TALLY", default=None)


@contextmanager
def tallied() -> Iterator[list[int]]:
    """The operations of each kernel that this thread runs meanwhile: torch does not see them."""
    tally: list[int] = []
    before = _TALLY.set(tally)
    try:
        yield tally
    finally:
        _TALLY.reset(before)


def tally(operations: Callable[[], int]) -> None:
    """Note what a kernel does, if anybody counts."""
    running = _TALLY.get()
    if running is not None:
        running.append(operations())


def units() -> Units | None:
    """What the kernels may use here, None without any; `DUOTRACK_KERNELS` chooses.

    Raises:
        InputError: that variable has a value that it does not know.
    """
    said = os.environ.get("DUOTRACK_KERNELS") or "1"
    if said not in ("0", "1", *_ASKED):
        raise InputError(
            f"DUOTRACK_KERNELS is {said!r}: give 0 to let torch multiply, 1 to use what is best here, "
            f"or {' or '.join(_ASKED)} for those units alone"
        )
    used = next((each for each in _ASKED if said in ("1", each) and _library(each) is not None), None)
    if used is None and said in _ASKED and said not in suited():
        _warn(f"it has no {said}, which DUOTRACK_KERNELS asks for")
    return used


def ready() -> bool:
    """Whether there are `units`."""
    return units() is not None


def call(name: str, used: Units | None, *arguments: object) -> None:
    """Run a kernel on torch's number of threads, with the units that what it reads was packed for; None: with any.

    Raises:
        InputError: these units are not here. MemoryError: there is no memory for it.
    """
    library = _any() if used is None else _library(used)
    if library is None:
        raise InputError(
            f"this network was made ready for a processor with {used or 'bf16'} units: load the tracker anew here"
        )
    if not getattr(library, name)(*arguments, torch.get_num_threads()):
        raise MemoryError(f"no memory for {name}")


def _any() -> ctypes.CDLL | None:
    """Those that `DUOTRACK_KERNELS` names come first; what was loaded goes on when it changes."""
    named = os.environ.get("DUOTRACK_KERNELS")
    ordered = sorted(_ASKED, key=lambda each: each != named)
    return next((library for each in ordered if (library := _library(each)) is not None), None)


@cache
def _library(used: Units) -> ctypes.CDLL | None:
    if used not in suited():
        return None
    try:
        library = described(load_library("tiles", code(), (*_FLAGS, *_OWN_FLAGS[used])))
    except OSError as error:
        _warn(str(error))
        return None
    if not library.tiles_ready():
        _warn(f"the system does not let programs use {used}", silenced_by="avx512")
        return None
    return library


def code() -> dict[str, bytes]:
    """The files of the kernels by their names."""
    files = resources.files("duotrack").joinpath("runtime", "kernels").iterdir()
    return {each.name: each.read_bytes() for each in files}


def described(library: ctypes.CDLL) -> ctypes.CDLL:
    """The same library, its functions told what they take."""
    for name, types in _ARGUMENTS.items():
        getattr(library, name).argtypes = types
    return library


@cache
def _warn(reason: str, silenced_by: str = "0") -> None:
    """Once, though it may be the same for all units."""
    logger.warning(
        "networks run slower than they could on this processor: %s (DUOTRACK_KERNELS=%s silences this)",
        reason,
        silenced_by,
    )


def suited() -> list[Units]:
    """Units of this processor that kernels are for, as far as the system says; `units` also asks for a compiler."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    return [each for each, asked in _ASKED.items() if asked <= flags]
