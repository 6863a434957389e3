"""safetensors files: reading with owned memory, writing whole or not at all."""

import errno
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.files import atomic_path
from duotrack.weights.described import DamagedError
from duotrack.weights.keymap import TEACHERS
from duotrack.weights.pickled import Place, read_place
from duotrack.weights.tpf import carried

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_CODES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def open_safetensors(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and metadata of a safetensors file whose header has been checked against the file.

    Raises:
        DamagedError: the header is wrong or promises more than the file holds.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return shapes, dict(file.metadata() or {})
    except SafetensorError as error:
        raise DamagedError(f"the safetensors header does not fit the file ({error})") from error


def read_safetensors(path: Path, names: list[str]) -> dict[str, Tensor]:
    """Read the tensors `names` of a file that `open_safetensors` accepted.

    The library maps the file; we read into own memory, so that a later overwrite cannot change a network, and half the
    resident memory is needed.

    Raises:
        DamagedError: an element type that no network uses, or the file changed meanwhile.
    """
    result = {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name in names:
            code, (begin, end) = header[name]["dtype"], header[name]["data_offsets"]
            if code not in _CODES:
                raise DamagedError(f"tensor {ascii(name)[:100]} has elements of type {code}")
            raw = read_place(file, Place(8 + length + begin, end - begin))
            result[name] = raw.view(_CODES[code]).view(header[name]["shape"])
    return result


def save_weights(
    path: str | Path,
    weights: nn.Module | Mapping[str, Tensor],
    *,
    model: str,
    elimination: str,
    form: str = "inference",
    dtype: str = "fp32",
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write weights as safetensors with their configuration in the metadata, whole or not at all.

    Args:
        path: file to write, replaced if it is there.
        weights: a network or its state dict (keys of `models/ckd.py`).
        model: name in the zoo. elimination: "mce", "ce" or "none".
        form: "inference" (teachers left out) or "training".
        dtype: "fp32", "fp16" or "bf16" for floating-point entries; integers stay as they are.
        extra: more metadata, text to text.

    Raises:
        InputError: unknown form or dtype, a value that float16 cannot hold, or the file cannot be written.
    """
    if form not in ("inference", "training"):
        raise InputError(f"form is 'inference' or 'training', got {form!r}")
    if dtype not in DTYPES:
        raise InputError(f"dtype is one of {', '.join(DTYPES)}, got {dtype!r}")
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    ready = {
        key: _packed(key, tensor, DTYPES[dtype])
        for key, tensor in tensors.items()
        if form == "training" or not key.startswith(TEACHERS)
    }
    own = {"format": "duotrack", "version": version("duotrack"), "model": model, "elimination": elimination}
    if getattr(weights, "content_only", False):
        own["content_only"] = "yes"
    if hasattr(weights, "routing"):
        own["routing"] = str(weights.routing)
    own |= carried(weights)
    metadata = {**(extra or {}), **own, "form": form, "dtype": dtype}
    with atomic_path(path) as temporary:
        try:
            save_file(ready, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(errno.EIO, f"cannot write weights ({error})", str(path)) from error


def _packed(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy of its own on the CPU: safetensors refuses tensors that share memory."""
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor.clone(memory_format=torch.contiguous_format)
    packed = tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)
    if dtype == torch.float16 and bool((packed.isinf() & tensor.isfinite()).any()):
        raise InputError(f"{key} has values beyond the range of float16; use bf16 or fp32")
    return packed
