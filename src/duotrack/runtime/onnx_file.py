"""Looking into an ONNX file without a library: its metadata, and whether it reaches outside itself.

A file from outside may name other files ("external data") that a runtime would read. What exports write never does, so
such a file is refused before any library opens it. Field numbers are those of onnx.proto.
"""

from mmap import ACCESS_READ, mmap
from pathlib import Path

from duotrack.errors import InputError
from duotrack.runtime.graph_facts import GraphFacts, read_facts

KEY = "duotrack"
"""Name of the metadata entry."""

_MAX_DEPTH = 12
_MAX_FIELDS = 5_000_000
# message -> field -> message inside it; what is not named here holds no tensor
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 14: "entry", 25: "function", 20: "training"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


class _DamagedError(Exception):
    pass


def read_onnx_facts(path: Path) -> GraphFacts:
    """What an exported ONNX file says of itself, read before any library sees the file.

    Raises:
        InputError: no such file, or as `check_onnx` and `read_facts`.
    """
    if not path.is_file():
        raise InputError(f"no exported network at {path}; check the path")
    return read_facts(check_onnx(path), str(path))


def check_onnx(path: Path) -> str | None:
    """The text that an export left in the metadata of an ONNX file, None where there is none.

    Raises:
        InputError: no ONNX file, damaged, or one that refers to other files.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise InputError(f"{path} is empty; export it again")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            scan = _Scan(data)
            try:
                scan.message("model", 0, len(data), 0)
            except _DamagedError as error:
                raise InputError(f"{path} is no ONNX file or a damaged one ({error}); export it again") from error
            except _OutsideError as error:
                raise InputError(
                    f"{path} refers to other files (external data), which exports of duotrack never do; export it again"
                ) from error
            return scan.found


class _OutsideError(Exception):
    pass


class _Scan:
    def __init__(self, data: mmap) -> None:
        self.data = data
        self.found: str | None = None
        self.fields = 0

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        """Walk one message; tensors are only checked for where their data lies."""
        if depth > _MAX_DEPTH:
            raise _DamagedError("graphs nested too deep")
        pair: dict[int, bytes] = {}
        at = start
        while at < end:
            self.fields += 1
            if self.fields > _MAX_FIELDS:
                raise _DamagedError("too many entries")
            tag, at = self.number(at, end)
            field, wire = tag >> 3, tag & 7
            if wire == 2:
                length, at = self.number(at, end)
                if length > end - at:
                    raise _DamagedError("cut off")
                inner = _MESSAGES.get(kind, {}).get(field)
                if kind == "tensor" and field == _EXTERNAL_DATA:
                    raise _OutsideError
                if kind == "entry" and length <= 200_000:
                    pair[field] = self.data[at : at + length]
                elif inner is not None:
                    self.message(inner, at, at + length, depth + 1)
                at += length
            elif wire == 0:
                value, at = self.number(at, end)
                if kind == "tensor" and field == _DATA_LOCATION and value != 0:
                    raise _OutsideError
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            else:
                raise _DamagedError(f"wire type {wire}")
            if field == 0 or at > end:
                raise _DamagedError("entries that do not fit")
        if kind == "entry" and pair.get(1) == KEY.encode():
            self.found = pair.get(2, b"").decode("utf-8", "replace")

    def number(self, at: int, end: int) -> tuple[int, int]:
        """A variable-length integer at `at`, and where the next thing begins."""
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise _DamagedError("cut off")
