"""Reading a checkpoint of any known kind: safetensors or a published pickle, never executing what it holds."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from duotrack.errors import InputError
from duotrack.weights.convert import COUNT, is_vit_key
from duotrack.weights.described import DamagedError, Inert, TensorRef
from duotrack.weights.keymap import TEACHERS, Shape, families, identify, plain_keys, shown, summary
from duotrack.weights.pickled import open_legacy, open_zip, read_tensors
from duotrack.weights.safetensor import open_safetensors, read_safetensors

_log = logging.getLogger(__name__)
_MEMBERS = ("net", "model", "state_dict", "model_state_dict", "network")
"""Where trainers keep the weights inside their checkpoint."""
_DROPPED = {"mae": "not part of the encoder", "ipl": "counts of batches, which the head's norms do not keep"}
"""Kind -> why some of its tensors are left in the file."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        kind: one of `keymap.KINDS`.
        tensors: by key, without wrapper prefixes (`module.` and the like); CPU, types as in the file.
        metadata: text to text: a safetensors file's own, or the plain values beside a pickle's weights (epoch, ...).
        container: the file format, and the member that held the weights.
        ignored: what the file holds besides, a line each.
    """

    kind: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    container: str
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class _Opened:
    shapes: Mapping[str, Shape]
    metadata: dict[str, str]
    container: str
    ignored: list[str]
    read: Callable[[list[str]], dict[str, Tensor]]


def read_checkpoint(path: str | Path, *, teachers: bool = True) -> Checkpoint:
    """Read a checkpoint and say what it is (docs/specs/ckd.md, section 6).

    Args:
        path: safetensors (ours or foreign) or a file of `torch.save`, zip or older.
        teachers: False leaves the teachers of a CKD training checkpoint in the file, which halves memory.

    Raises:
        InputError: no such file, damaged, truncated, not a checkpoint, entries that are not tensors, an unknown kind.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{'a folder' if path.is_dir() else 'no checkpoint'} at {path}; give a checkpoint's file")
    try:
        opened = _open(path)
        names = plain_keys(opened.shapes)
        shapes = {key: tuple(opened.shapes[original]) for key, original in names.items()}
        kind = identify(shapes, opened.metadata)
        dropped = [
            key
            for key in names
            if (kind == "mae" and not is_vit_key(key))
            or (kind == "ipl" and key.endswith(COUNT))
            or (not teachers and key.startswith(TEACHERS))
        ]
        for key in dropped:
            del shapes[key]
        found = opened.read([names[key] for key in shapes])
    except DamagedError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error}; download or copy it again") from error
    except InputError as error:
        raise InputError(f"cannot use {path}: {error}") from error
    ignored = list(opened.ignored)
    if dropped:
        role = _DROPPED.get(kind, "teachers, not needed for tracking")
        ignored.append(f"{len(dropped)} tensors ({role}): {summary(families(dropped))}")
    for line in ignored:
        _log.info("%s: not read: %s", path.name, line)
    tensors = {key: found[names[key]] for key in shapes}
    return Checkpoint(kind, tensors, opened.metadata, opened.container, tuple(ignored))


def _open(path: Path) -> _Opened:
    kind = container(path)
    if kind == "safetensors":
        shapes, metadata = open_safetensors(path)
        return _Opened(shapes, metadata, kind, [], lambda names: read_safetensors(path, names))
    return _open_pickled(path, legacy=kind == "stream")


def container(path: Path) -> Literal["zip", "stream", "safetensors"]:
    """What a checkpoint is packed in, by its first bytes.

    Raises:
        DamagedError: nothing that is known; says what it looks like.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise DamagedError("the file is empty")
    if head.startswith(b"PK"):
        return "zip"
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return "stream"
    if head[8:9] == b"{":
        return "safetensors"
    if head.lstrip()[:1] == b"<":
        raise DamagedError("it is a web page, not a checkpoint (a download that asked for a confirmation?)")
    if head.startswith(b"version https://git-lfs"):
        raise DamagedError("it is a Git LFS pointer, not the checkpoint itself")
    raise DamagedError(
        f"it is neither safetensors nor a PyTorch checkpoint (first bytes {shown(head[:8].decode('latin-1'))})"
    )


def _open_pickled(path: Path, *, legacy: bool) -> _Opened:
    pickled = open_legacy(path) if legacy else open_zip(path)
    value = pickled.value
    if isinstance(value, Inert):
        raise InputError(
            f"it holds an object of class {value.what}, not a dictionary of weights; ask for its state dict"
        )
    if not isinstance(value, dict):
        raise InputError(f"it holds {_described(value)}, not a dictionary of weights")
    member = next((name for name in _MEMBERS if _holds_tensors(value.get(name))), None)
    weights = value if member is None else value[member]
    if not weights:
        raise InputError("it holds an empty dictionary")
    refs: dict[str, TensorRef] = {}
    for key, entry in weights.items():
        if not isinstance(key, str) or not isinstance(entry, TensorRef):
            raise InputError(
                f"entry {shown(key)} is {_described(entry)}, not a tensor; a dictionary of weights holds tensors only"
            )
        refs[key] = entry
    rest = {} if member is None else {key: entry for key, entry in value.items() if key != member}
    plain = {shown(key): shown(entry) for key, entry in rest.items() if isinstance(entry, str | int | float)}
    ignored = [f"{shown(key)}: {_described(entry)}" for key, entry in rest.items() if shown(key) not in plain]
    if pickled.inert:
        ignored.append(f"objects of {len(pickled.inert)} classes: {summary(pickled.inert)}")
    return _Opened(
        {key: ref.size for key, ref in refs.items()},
        plain,
        pickled.container + (f", member '{member}'" if member else ""),
        ignored,
        lambda names: read_tensors(path, pickled.places, {name: refs[name] for name in names}),
    )


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(entry, TensorRef) for entry in value.values())


def _described(entry: object) -> str:
    if isinstance(entry, Inert):
        return f"an object of class {entry.what}"
    if isinstance(entry, dict | list | tuple):
        return f"{type(entry).__name__} of {len(entry)} entries"
    return "a tensor" if isinstance(entry, TensorRef) else type(entry).__name__
