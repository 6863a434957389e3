"""The kernels for Intel's matrix units (`kernels/`): compiled once, loaded where the units may be used. Linux only."""

import ctypes
import logging
import os
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
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
_NORM = (_POINTER, _POINTER, ctypes.c_float)
_ARGUMENTS = {
    "tiles_product": (
        *(_POINTER, _LONG, _INT, _INT, _INT, _INT, _INT),
        *(_POINTER, _POINTER, _INT, _INT, _POINTER, _LONG, _INT),
    ),
    "tiles_window_patches": (
        *(_POINTER, _INT, _INT, _INT, _INT, _INT, _INT),
        *(_POINTER, _POINTER, _INT, _POINTER, _INT, _POINTER, _INT),
    ),
    "tiles_mlp": (
        *(_POINTER, _INT, _INT, *_NORM, _POINTER, _POINTER, _INT),
        *(_POINTER, _POINTER, _INT, _INT, _POINTER, _INT),
    ),
    "tiles_self_attention": (
        *(_POINTER, _INT, _INT, _INT, *_NORM),
        *(_POINTER, _POINTER, _POINTER, _POINTER, _INT, _INT, _INT, _INT, _POINTER, _POINTER, _POINTER, _INT),
    ),
    "tiles_pooled_attention": (
        *(_POINTER, _INT, _INT, _INT, *_NORM),
        *(_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _INT, _INT, _POINTER, _INT),
    ),
    "tiles_attention": (
        *(_POINTER, _POINTER, _POINTER, _POINTER, ctypes.POINTER(_LONG)),
        *(_INT, _INT, _INT, _INT, _INT, _INT, _INT),
    ),
}


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
    if not _has_units():
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


def _has_units() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    return set(next((line for line in lines if line.startswith("flags")), "").split()) >= _UNITS
