"""What a pickle may describe without being executed: containers, storages, tensors, and placeholders for the rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
STORAGE_DTYPES = {
    f"torch.{device}{name}Storage": dtype for name, dtype in _STORAGES.items() for device in ("", "cuda.")
}
STORAGE_DTYPES |= {"torch.storage.UntypedStorage": torch.uint8, "torch.storage._UntypedStorage": torch.uint8}


class DamagedError(ValueError):
    """The bytes are not what their format promises; the message says how."""


@dataclass(frozen=True, slots=True, eq=False)
class Inert:
    """Stands for an object of a class that is not read; `what` names the class."""

    what: str


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name that a pickle refers to, for example `torch._utils._rebuild_tensor_v2`; nothing is imported."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """A storage that lies elsewhere in the file: `numel` elements, of which [start, start + length) are meant."""

    key: str
    dtype: torch.dtype
    numel: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor as described by a pickle; offset, size and stride in elements, not yet checked against the storage."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def put(target: object, items: list[object]) -> None:
    """Set `items` (key, value, key, value, ...) in a dictionary or placeholder.

    Keys other than scalars become placeholders: hashing a deeply nested tuple overflows the C stack.
    """
    if len(items) % 2:
        raise DamagedError("a dictionary in the pickle lacks a value")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key if isinstance(key, str | int | float | bytes | None) else Inert(type(key).__name__)] = value
    elif not isinstance(target, Inert):
        raise DamagedError("the pickle sets an item of something that is no dictionary")


def add(target: object, items: list[object]) -> None:
    """Append `items` to a list or placeholder."""
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Inert):
        raise DamagedError("the pickle appends to something that is no list")


def _ordered_dict(args: tuple[object, ...]) -> object:
    result: dict[object, object] = {}
    pairs = args[0] if args else []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise DamagedError("the pickle makes a dictionary of something else than pairs")
    put(result, [item for pair in pairs for item in pair])
    return result


def _tensor(args: tuple[object, ...]) -> object:
    storage, offset, size, stride = (*args[:4], None, None, None, None)[:4]
    if not (isinstance(storage, StorageRef) and _whole(offset) and _wholes(size) and _wholes(stride)):
        raise DamagedError(
            "the pickle describes a tensor by something else than a storage, an offset, sizes and strides"
        )
    assert isinstance(offset, int)
    assert isinstance(size, tuple)
    assert isinstance(stride, tuple)
    return TensorRef(storage, offset, size, stride)


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _wholes(value: object) -> bool:
    return isinstance(value, tuple) and len(value) <= 16 and all(_whole(item) for item in value)


def _rebuilt(args: tuple[object, ...]) -> object:
    function, _, inner = (*args[:3], None, None, None)[:3]  # (function, tensor class, arguments, attributes)
    if isinstance(function, Global) and function.name in _TENSORS and isinstance(inner, tuple):
        return _TENSORS[function.name](inner)
    return Inert("torch._tensor._rebuild_from_type_v2")


def _first(args: tuple[object, ...]) -> object:
    return args[0]


_TENSORS: Mapping[str, Callable[[tuple[object, ...]], object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
}
RULES: Mapping[str, Callable[[tuple[object, ...]], object]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _rebuilt,
    "torch.Size": lambda args: tuple(args[0]) if args and isinstance(args[0], list | tuple) else (),
    "collections.OrderedDict": _ordered_dict,
}


def _text(value: object) -> object:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def storage_ref(pid: object) -> StorageRef | None:
    """The storage that a persistent identifier names as `torch.save` writes it; None for the class of a whole module.

    Raises:
        DamagedError: it names something else, an unknown element type, or a view outside its storage.
    """
    if isinstance(pid, tuple) and pid and _text(pid[0]) == "module":
        return None
    if not (isinstance(pid, tuple) and len(pid) in (5, 6) and _text(pid[0]) == "storage"):
        raise DamagedError("the pickle refers to something else than a storage")
    kind, key, numel = pid[1], _text(pid[2]), pid[4]
    _, start, length = pid[5] if len(pid) == 6 and _view(pid[5]) else (None, 0, numel)
    if not (isinstance(kind, Global) and kind.name in STORAGE_DTYPES):
        raise DamagedError(f"a storage is of unknown type {ascii(getattr(kind, 'name', None))[:100]}")
    if not (isinstance(key, str | int) and _whole(numel) and start + length <= numel):
        raise DamagedError("the pickle describes a storage without key and size, or a view outside it")
    return StorageRef(str(key), STORAGE_DTYPES[kind.name], numel, start, length)


def _view(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and _wholes(value[1:])
