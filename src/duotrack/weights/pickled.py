"""The two containers of `torch.save`: a zip archive (since PyTorch 1.6) and a plain stream of pickles (before)."""

import mmap
import struct
import zipfile
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from duotrack.weights.described import DamagedError, TensorRef
from duotrack.weights.unpickle import Unpickled, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_PICKLE = 256 << 20
_MAX_EXPANDED = 1 << 27
"""Elements of a tensor that repeats its storage (stride 0): materialised, it would outgrow its file."""


@dataclass(frozen=True)
class Place:
    """Where bytes lie in a file; `crc` is their CRC-32, None where the file states none."""

    offset: int
    nbytes: int
    crc: int | None = None


@dataclass(frozen=True)
class Pickled:
    """A checkpoint's object tree, where its storages lie, and what the container is called."""

    value: object
    places: dict[str, Place]
    inert: dict[str, int]
    container: str


def open_zip(path: Path) -> Pickled:
    """Read the object tree of a zip checkpoint; storages are located, not read.

    Raises:
        DamagedError: no zip archive, no `data.pkl`, compressed or encrypted records, records outside the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename: info for info in archive.infolist()}
    except (
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        ValueError,
        NotImplementedError,
        OverflowError,
        OSError,
    ) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise DamagedError("the zip archive is truncated or damaged") from error
    roots = [name for name in infos if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)]
    if len(roots) != 1:
        raise DamagedError("the zip archive holds no data.pkl, so it is no PyTorch checkpoint")
    root = roots[0].removesuffix("data.pkl")
    with path.open("rb") as file:
        if f"{root}byteorder" in infos and _read(file, _locate(file, infos[f"{root}byteorder"], 16)) == b"big":
            raise DamagedError("the checkpoint was written on a big-endian machine")
        found = unpickle(_read(file, _locate(file, infos[roots[0]], _MAX_PICKLE)))
        places = {}
        for key in found.storages:
            if f"{root}data/{key}" not in infos:
                raise DamagedError(f"storage {ascii(key)[:100]} is missing from the zip archive")
            places[key] = _locate(file, infos[f"{root}data/{key}"])
    return Pickled(found.value, places, found.inert, "PyTorch zip")


def _locate(file: BufferedReader, info: zipfile.ZipInfo, limit: int | None = None) -> Place:
    name = ascii(info.filename)[:100]
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise DamagedError(f"{name} is compressed or encrypted, which PyTorch never does")
    if limit is not None and info.file_size > limit:
        raise DamagedError(f"{name} claims {info.file_size} bytes")
    file.seek(max(info.header_offset, 0))
    header = file.read(30)
    if info.header_offset < 0 or len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise DamagedError(f"the zip archive points {name} to a wrong place")
    offset = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    if offset + info.file_size > file.seek(0, 2):
        raise DamagedError(f"{name} lies beyond the end of the file")
    return Place(offset, info.file_size, info.CRC or None)  # PyTorch writes 0 when told not to compute it


def open_legacy(path: Path) -> Pickled:
    """Read the object tree of a checkpoint in the stream format that PyTorch wrote before 1.6.

    Raises:
        DamagedError: not that format, truncated, big-endian, storages that do not match the object tree.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic = unpickle(data)
        if magic.value != _MAGIC:
            raise DamagedError("it is a pickle, but not one that torch.save wrote")
        protocol = unpickle(data, magic.end)
        system = unpickle(data, protocol.end)
        if protocol.value != _PROTOCOL or not isinstance(system.value, dict):
            raise DamagedError("the stream is of an unknown protocol")
        if system.value.get("little_endian") is not True:
            raise DamagedError("the checkpoint was written on a big-endian machine")
        found = unpickle(data, system.end)
        keys = unpickle(data, found.end)
        return Pickled(found.value, _walk(data, found, keys), found.inert, "PyTorch stream (before 1.6)")


def _walk(data: mmap.mmap, found: Unpickled, keys: Unpickled) -> dict[str, Place]:
    """Storages follow one another: an 8-byte element count, then the elements."""
    if not isinstance(keys.value, list):
        raise DamagedError("the list of storages is missing")
    places: dict[str, Place] = {}
    at = keys.end
    for key in keys.value:
        ref = found.storages.get(key) if isinstance(key, str) else None
        if ref is None or at + 8 > len(data):
            raise DamagedError("the storages are truncated or do not belong to the object tree")
        nbytes = int.from_bytes(data[at : at + 8], "little") * ref.dtype.itemsize
        if at + 8 + nbytes > len(data):
            raise DamagedError("the storages are cut off")
        places[ref.key] = Place(at + 8, nbytes)
        at += 8 + nbytes
    if missing := found.storages.keys() - places.keys():
        raise DamagedError(f"{len(missing)} storages are missing")
    return places


def read_tensors(path: Path, places: dict[str, Place], refs: dict[str, TensorRef]) -> dict[str, Tensor]:
    """Read the storages that `refs` need, each once, and make the tensors (CPU, sharing storages as saved).

    Raises:
        DamagedError: sizes that disagree, a tensor outside its storage, a wrong checksum, a truncated file.
    """
    for ref in refs.values():
        check_bounds(ref, places[ref.storage.key])
    raw: dict[str, Tensor] = {}
    with path.open("rb") as file:
        for ref in refs.values():
            if ref.storage.key not in raw:
                raw[ref.storage.key] = read_place(file, places[ref.storage.key])
    return {name: _tensor(ref, raw[ref.storage.key]) for name, ref in refs.items()}


def check_bounds(ref: TensorRef, place: Place) -> None:
    """Refuse a tensor that its storage cannot hold.

    Raises:
        DamagedError: see above.
    """
    storage = ref.storage
    if storage.numel * storage.dtype.itemsize != place.nbytes:
        raise DamagedError(f"storage {ascii(storage.key)[:100]} has {place.nbytes} bytes, not {storage.numel} elements")
    if len(ref.size) != len(ref.stride):
        raise DamagedError("a tensor has more sizes than strides")
    count, last = 1, 0
    for size, stride in zip(ref.size, ref.stride, strict=True):
        count *= size
        last += (size - 1) * stride
    if count and ref.offset + last >= storage.length:
        raise DamagedError("a tensor reaches beyond its storage")
    if count > max(storage.length, _MAX_EXPANDED):
        raise DamagedError(f"a tensor of {count} elements repeats a storage of {storage.length}")


def _tensor(ref: TensorRef, raw: Tensor) -> Tensor:
    if 0 in ref.size:
        return torch.empty(ref.size, dtype=ref.storage.dtype)
    return torch.as_strided(raw.view(ref.storage.dtype), ref.size, ref.stride, ref.storage.start + ref.offset)


def read_place(file: BufferedReader, place: Place) -> Tensor:
    """The bytes at `place` as a (nbytes,) uint8 tensor that owns its memory.

    Raises:
        DamagedError: the file ends before, or the checksum is wrong.
    """
    raw = torch.empty(place.nbytes, dtype=torch.uint8)
    view = raw.numpy().data
    file.seek(place.offset)
    if file.readinto(view) != place.nbytes:
        raise DamagedError("the file is cut off")
    if place.crc is not None and zlib.crc32(view) != place.crc:
        raise DamagedError("a tensor's checksum is wrong: the file is damaged")
    return raw


def _read(file: BufferedReader, place: Place) -> bytes:
    return read_place(file, place).numpy().tobytes()
