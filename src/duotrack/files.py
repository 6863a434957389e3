"""Writing files so that nobody ever meets a half-written one."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from duotrack.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix; rename it to `path` when the block ends well.

    On any error the temporary file is removed and `path` keeps what it held before. A link stays: what it leads to is
    replaced.

    Raises:
        InputError: the folder cannot be made or written, or `path` is a folder itself, a device or a pipe.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {path}: it is a device or a pipe, which a file would replace; name a file")
    suffix = path.suffix  # of the link, where it is one: writers go by it
    try:
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=suffix, dir=path.parent)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"cannot write {path}: {_file_among(path)} is a file; choose another folder") from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    except RuntimeError as error:  # Python's before 3.13 of links that lead to themselves
        raise InputError(f"cannot write {path}: its links lead in a circle; name another file") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; ours are ordinary ones
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_pair(first: str | Path, second: str | Path) -> Iterator[tuple[Path, Path]]:
    """As `atomic_path` for two files of which neither is any good without the other.

    Both are renamed when the block ends well, `second` and at once `first`; where the latter fails, `second` is put
    back as it was. Only a process that is killed between the two leaves a new one beside an old one.

    Raises:
        InputError: as `atomic_path`, for either.
    """
    with ExitStack() as undo:
        with atomic_path(first) as one, atomic_path(second) as two:
            yield one, two
            place = Path(second).resolve()  # as `atomic_path` does
            kept = two.with_name(f"{two.name}.old")
            if place.exists():
                place.replace(kept)
                undo.callback(kept.replace, place)
            else:
                undo.callback(place.unlink, missing_ok=True)
        undo.pop_all()
    kept.unlink(missing_ok=True)


def writable(path: str | Path) -> bool:
    """Whether `atomic_path` can be expected to put a file there; its folders may be yet to make."""
    try:
        path = Path(path).resolve()
        if path.exists():
            return path.is_file() and writable(path.with_name(f".{path.name[:200]}-new"))
        folder = next(parent for parent in path.parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError, RuntimeError, StopIteration):  # too long, not a folder, forbidden, no name at all
        return False


def _file_among(path: Path) -> Path:
    return next((parent for parent in path.parents if parent.is_file()), path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
