"""Operations of torch on the matrix units of Intel's processors (`kernels/`), for inference on the CPU.

`duotrack::tile_product`, `tile_mlp` and `tile_attention` take and give tensors of float32 or bfloat16; `pack_weights`
makes the weights that they read. Linux only; a C++ compiler is needed once. They give no gradients.
"""

import ctypes
import logging
import os
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from duotrack.errors import InputError
from duotrack.runtime.native import load_library

logger = logging.getLogger(__name__)
BLOCK = 32
"""Inputs and outputs that are multiplied at a time."""
_UNITS = frozenset(("amx_tile", "amx_bf16", "avx512f", "avx512_bf16"))
_FLAGS = (
    *("-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-mprefer-vector-width=512"),
    *("-mavx512f", "-mavx512bf16", "-mfma", "-mamx-tile", "-mamx-bf16", "-mprfchw"),
)
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
_ARGUMENTS = {
    "tiles_product": (
        *(_POINTER, _LONG, _INT, _INT, _INT, _INT, _INT),
        *(_POINTER, _POINTER, _INT, _INT, _POINTER, _LONG, _INT),
    ),
    "tiles_mlp": (
        *(_POINTER, _INT, _INT, _POINTER, _POINTER, _INT),
        *(_POINTER, _POINTER, _INT, _INT, _POINTER, _INT),
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


def pack_weights(weight: Tensor) -> Tensor:
    """(groups, outputs, inputs) -> bfloat16 (groups, panels of outputs, blocks of inputs, halves, 2, 16, 16, 2)."""
    halves = [weight.bfloat16()]
    if weight.dtype == torch.float32:
        halves.append((weight - halves[0].float()).bfloat16())
    groups, outputs, inputs = weight.shape
    shape = (groups, outputs // BLOCK, 2, 16, inputs // BLOCK, 16, 2)
    return torch.stack([half.view(shape).permute(0, 1, 4, 2, 5, 3, 6) for half in halves], dim=3)


def operations(rows: int, *weights: tuple[int, ...]) -> int:
    """Operations on that many rows by the shapes of packed weights, two for a multiplication with its addition."""
    return sum(2 * rows * groups * panels * blocks * BLOCK**2 for groups, panels, blocks, *_ in weights)


def _require(rows: Tensor, channels: int, *layers: tuple[Tensor, Tensor]) -> None:
    """C++ reads what it is told to: rows of so many channels must fit packed weights and biases."""
    parts = {torch.float32: 2, torch.bfloat16: 1}.get(rows.dtype)
    for weights, bias in layers:
        groups, panels, blocks, halves = weights.shape[:4]
        packed = (groups * panels * BLOCK, groups * blocks * BLOCK, halves, torch.bfloat16, torch.float32)
        if packed != (bias.shape[0], channels, parts, weights.dtype, bias.dtype):
            raise ValueError(f"{rows.dtype} rows of {channels} do not fit packed weights {tuple(weights.shape)}")
        if not (weights.is_contiguous() and bias.is_contiguous()):
            raise ValueError("packed weights and biases have to be contiguous")
        channels = bias.shape[0]


def _product(places: Tensor, weights: Tensor, bias: Tensor, side: int) -> Tensor:
    """(pictures, h, w, channels) times weights of the side x side places around -> (pictures, h, w, outputs)."""
    places = places.contiguous()
    pictures, height, width, channels = places.shape
    _require(places, channels * side**2, (weights, bias))
    made = places.new_empty(pictures, height, width, bias.shape[0])
    groups = weights.shape[0]
    inputs, outputs = channels // groups, bias.shape[0] // groups
    for group in range(groups if made.numel() else 0):
        _call(
            "tiles_product",
            places.data_ptr() + group * inputs * places.element_size(),
            channels,
            pictures * height * width,
            inputs,
            height,
            width,
            side,
            weights[group].data_ptr(),
            bias.data_ptr() + group * outputs * bias.element_size(),
            outputs,
            places.dtype == torch.float32,
            made.data_ptr() + group * outputs * made.element_size(),
            groups * outputs,
        )
    return made


def _mlp(tokens: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor) -> Tensor:
    """(..., C) through two layers and a GELU between them -> (..., C')."""
    tokens = tokens.contiguous()
    _require(tokens, tokens.shape[-1], (first, first_bias), (second, second_bias))
    made = tokens.new_empty(*tokens.shape[:-1], second_bias.shape[0])
    if made.numel():
        _call(
            "tiles_mlp",
            tokens.data_ptr(),
            tokens.numel() // tokens.shape[-1],
            tokens.shape[-1],
            first.data_ptr(),
            first_bias.data_ptr(),
            first_bias.shape[0],
            second.data_ptr(),
            second_bias.data_ptr(),
            second_bias.shape[0],
            tokens.dtype == torch.float32,
            made.data_ptr(),
        )
    return made


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, heads, n, D), (B, heads, N, D) twice -> (B, heads, n, D), the heads of a token next to one another."""
    given = [each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value)]
    samples, heads, count, width = query.shape
    if key.shape != value.shape or key.shape[:2] + key.shape[3:] != (samples, heads, width) or not key.shape[2]:
        raise ValueError(f"queries {tuple(query.shape)}, keys {tuple(key.shape)}, values {tuple(value.shape)}")
    if not query.dtype == key.dtype == value.dtype in (torch.float32, torch.bfloat16) or width % BLOCK:
        raise ValueError(f"{query.dtype}, {key.dtype} and {value.dtype} of width {width}")
    made = query.new_empty(samples, count, heads, width).transpose(1, 2)
    strides = [step for each in (*given, made) for step in each.stride()[:3]]
    _call(
        "tiles_attention",
        *(each.data_ptr() for each in (*given, made)),
        (_LONG * len(strides))(*strides),
        samples,
        heads,
        count,
        key.shape[2],
        width,
        query.dtype == torch.float32,
    )
    return made


def _call(name: str, *arguments: object) -> None:
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


_OPS = torch.library.Library("duotrack", "DEF")  # type: ignore[no-untyped-call]
for _schema, _run in {
    "tile_product(Tensor places, Tensor weights, Tensor bias, int side) -> Tensor": _product,
    "tile_mlp(Tensor tokens, Tensor first, Tensor first_bias, Tensor second, Tensor second_bias) -> Tensor": _mlp,
    "tile_attention(Tensor query, Tensor key, Tensor value) -> Tensor": _attention,
}.items():
    _OPS.impl(_OPS.define(_schema), _run, "CPU")  # type: ignore[no-untyped-call]
