"""Whether an exported network is still what was exported: a digest at the end of the file that holds its numbers.

For ONNX it is one more entry of the metadata, for IR it follows the numbers in `.bin` and covers the `.xml` as well.
Files without one, of earlier versions or other programs, pass.
"""

import hashlib
from pathlib import Path

from duotrack.errors import InputError

_NAME = b"duotrack-sha256"
_HEX = 64
# fields of onnx.proto: ModelProto.metadata_props (14), then key (1) and value (2)
_ENTRY = b"\x0a" + bytes([len(_NAME)]) + _NAME + b"\x12" + bytes([_HEX])
_MARKS = {".onnx": b"\x72" + bytes([len(_ENTRY) + _HEX]) + _ENTRY, ".xml": _NAME + b":"}


def seal(path: Path) -> None:
    """Write the digest behind an export, `.onnx` or `.xml` with its `.bin`, which has none yet."""
    digest = _digest(path, _numbers(path).stat().st_size)
    with _numbers(path).open("ab") as file:
        file.write(_MARKS[path.suffix] + digest)


def check_seal(path: Path) -> None:
    """Nothing where the digest fits or there is none.

    Raises:
        InputError: the file was changed or damaged since.
    """
    mark = _MARKS[path.suffix]
    with _numbers(path).open("rb") as file:
        end = file.seek(0, 2) - len(mark) - _HEX
        if end < 0:
            return
        file.seek(end)
        last = file.read()
    if last.startswith(mark) and last[len(mark) :] != _digest(path, end):
        raise InputError(f"{path} is damaged, or was changed since it was exported; copy it again, or export it again")


def _numbers(path: Path) -> Path:
    return path.with_suffix(".bin") if path.suffix == ".xml" else path


def _digest(path: Path, end: int) -> bytes:
    """Of what comes before `end` in the file with the numbers, and of all of the `.xml`."""
    found = hashlib.sha256(path.read_bytes() if path.suffix == ".xml" else b"")
    with _numbers(path).open("rb") as file:
        while chunk := file.read(min(1 << 20, end - file.tell())):
            found.update(chunk)
    return found.hexdigest().encode()
