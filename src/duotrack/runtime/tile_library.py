"""The kernels for Intel's matrix units (`kernels/`): compiled once, loaded where the units may be used. Linux only."""

import ctypes
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import resources
from pathlib import Path

import torch

from duotrack.errors import InputError
from duotrack.runtime.native import load_library

logger = logging.getLogger(__name__)
_UNITS = frozenset(("amx_tile", "amx_bf16", "avx512f", "avx512bw", "avx512vl", "avx512_bf16"))
_FLAGS = (
    *("-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-mprefer-vector-width=512"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mfma", "-mamx-tile", "-mamx-bf16", "-mprfchw"),
)
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


def ready() -> bool:
    """Whether the units are here and may be used; `DUOTRACK_MATRIX_UNITS=0` forbids it.

    Raises:
        InputError: that variable has a value that it does not know.
    """
    said = os.environ.get("DUOTRACK_MATRIX_UNITS") or "1"
    if said not in ("0", "1"):
        raise InputError(f"DUOTRACK_MATRIX_UNITS is {said!r}: give 0 to leave them unused, or 1")
    return said == "1" and _library() is not None


def call(name: str, *arguments: object) -> None:
    """Run a kernel on torch's number of threads.

    Raises:
        InputError: the units are not here. MemoryError: there is no memory for it.
    """
    library = _library()
    if library is None:
        raise InputError("this network was made ready for a processor with matrix units: load the tracker anew here")
    if not getattr(library, name)(*arguments, torch.get_num_threads()):
        raise MemoryError(f"no memory for {name}")


@cache
def _library() -> ctypes.CDLL | None:
    if not has_units():
        return None
    files = resources.files("duotrack").joinpath("runtime", "kernels").iterdir()
    try:
        library = load_library("tiles", {each.name: each.read_bytes() for each in files}, _FLAGS)
        for name, types in _ARGUMENTS.items():
            getattr(library, name).argtypes = types
        if not library.tiles_ready():
            raise OSError("the system does not let programs use them")
    except OSError as error:
        logger.warning(
            "networks run slower than they could, this processor's matrix units stay unused: %s "
            "(DUOTRACK_MATRIX_UNITS=0 silences this)",
            error,
        )
        return None
    return library


def has_units() -> bool:
    """Whether this processor multiplies tiles of bf16, as far as the system says; `ready` also asks for a compiler."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    return set(next((line for line in lines if line.startswith("flags")), "").split()) >= _UNITS
