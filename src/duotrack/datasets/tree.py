"""A folder or a zip file of text files, read alike."""

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from duotrack.errors import InputError

MAX_BYTES = 64 * 2**20
"""Size of the largest text file that is read; real ones are under one megabyte."""
MAX_TOTAL = 512 * 2**20
MAX_FILES = 200_000
_MAX_DEPTH = 6
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,  # bzip2's
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)
"""What reading a member of a damaged, encrypted or exotic zip file may raise."""


@dataclass(frozen=True)
class Tree:
    """Text files below a folder or in a zip file, under relative names with `/`."""

    root: Path
    archive: zipfile.ZipFile | None

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        if self.archive is None:
            return os.path.isfile(f"{self.root}/{name}")
        return name in self.archive.NameToInfo

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            InputError: it is not there, cannot be read or is too large for a text file.
        """
        if not self.has(name):
            raise InputError(f"{self.at(name)}: no such file")
        # the size in a zip's index may lie, so the reading itself is bounded
        if self.archive is None:
            with open(f"{self.root}/{name}", "rb") as file:
                data = file.read(MAX_BYTES + 1)
        else:
            try:
                with self.archive.open(name) as member:
                    data = member.read(MAX_BYTES + 1)
            except _DAMAGED as error:
                raise InputError(
                    f"{self.at(name)}: cannot be read from the zip file ({error}); unpack it first"
                ) from error
        if len(data) > MAX_BYTES:
            raise InputError(f"{self.at(name)}: over {MAX_BYTES >> 20} MiB; this is no text file of boxes")
        return data

    def read_all(self, names: Iterable[str]) -> list[bytes]:
        """The content of many files.

        Raises:
            InputError: as `read`, or all together are too large.
        """
        texts, total = [], 0
        for name in names:
            texts.append(self.read(name))
            total += len(texts[-1])
            if total > MAX_TOTAL:
                raise InputError(f"{self.root}: over {MAX_TOTAL >> 20} MiB of text; these are no files of boxes")
        return texts

    def files(self) -> list[str]:
        """Every file below, sorted.

        Raises:
            InputError: there are too many: this is not a folder of text files.
        """
        if self.archive is not None:
            names = [name for name in self.archive.namelist() if not name.endswith("/")]
        else:
            names = list(_walk(self.root))
        return sorted(name for name in names if not any(part.startswith((".", "__MACOSX")) for part in _parts(name)))

    def folders(self) -> list[str]:
        """The folders at the top, sorted."""
        if self.archive is not None:
            return sorted({_parts(name)[0] for name in self.archive.namelist() if "/" in name.rstrip("/")})
        return sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir() and entry.name[0] != ".")

    def at(self, name: str) -> str:
        """How to call a file in a message."""
        return f"{self.root}/{name}"


@contextmanager
def open_tree(path: str | Path) -> Iterator[Tree]:
    """The folder or zip file at `path`.

    Raises:
        InputError: it is neither, or the zip file is broken or holds too many files.
    """
    path = Path(path)
    if path.is_dir():
        yield Tree(path, None)
        return
    if not path.is_file():
        raise InputError(f"{path}: no such folder or zip file")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path}: neither a folder nor a zip file ({error})") from error
    with archive:
        if len(archive.namelist()) > MAX_FILES:
            raise InputError(f"{path}: holds over {MAX_FILES} files; this is no archive of boxes")
        yield Tree(path, archive)


def _walk(root: Path) -> Iterator[str]:
    count = 0
    for folder, inner, names in os.walk(root):
        below = Path(folder).relative_to(root).as_posix()
        if below.count("/") >= _MAX_DEPTH:
            inner.clear()
        for name in names:
            count += 1
            if count > MAX_FILES:
                raise InputError(f"{root}: holds over {MAX_FILES} files; give the folder of the text files itself")
            yield name if below == "." else f"{below}/{name}"


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts
