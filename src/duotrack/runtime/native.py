"""C++ of ours: compiled on the machine that runs it, once, and kept in the user's cache."""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from duotrack.runtime.graph_cache import cache_folder

logger = logging.getLogger(__name__)
_SECONDS = 300
"""How long a compiler may take."""


def compiler() -> str | None:
    """The path of $CXX, else of g++, clang++ or c++; None where there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def load_library(name: str, code: dict[str, bytes], flags: tuple[str, ...]) -> ctypes.CDLL:
    """A library of source and header files, by their names; a kept one that was damaged is made anew. Not for Windows.

    Raises:
        OSError: no compiler is here, it fails (its first error is the message), what it made cannot be loaded, or what
            was kept belongs to somebody else.
    """
    names = sorted(code)
    parts = [each.encode() for each in (*flags, *names)] + [code[each] for each in names]
    folder = cache_folder() / "kernels"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"{name}-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:32]}.so"
    for each in (folder, file):
        _require_ours(each)
    if not _is_whole(file):
        logger.info("compiling %s", file)
        _write_whole(file, _compiled(code, flags))
    return ctypes.CDLL(str(file))


def _require_ours(path: Path) -> None:
    """What is here runs in this process: nobody else may have written it."""
    if path.exists() and (path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o022):
        raise OSError(f"{path} belongs to another user, or others may write it; remove it")


def _is_whole(file: Path) -> bool:
    """Whether a library ends with the digest of what is before it; loading a cut one would end the process."""
    if not file.is_file():
        return False
    data = file.read_bytes()
    return data[-32:] == hashlib.sha256(data[:-32]).digest()


def _write_whole(file: Path, library: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(library + hashlib.sha256(library).digest())
        Path(name).chmod(0o700)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)


def _compiled(code: dict[str, bytes], flags: tuple[str, ...]) -> bytes:
    program = compiler()
    if program is None:
        raise OSError("no C++ compiler is here")
    with tempfile.TemporaryDirectory(prefix="duotrack-") as scratch:
        for name, text in code.items():
            Path(scratch, name).write_bytes(text)
        sources = [name for name in sorted(code) if name.endswith(".cpp")]
        command = [program, *flags, *sources, "-o", "library.so"]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{program} does not end") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").splitlines() or [f"exit code {done.returncode}"]
            raise OSError(f"{program} fails: {next((each for each in lines if 'error' in each), lines[0])[:200]}")
        return Path(scratch, "library.so").read_bytes()
