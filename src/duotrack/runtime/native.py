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


def compiler() -> str | None:
    """The path of $CXX, else of g++, clang++ or c++; None where there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def load_library(name: str, code: dict[str, bytes], flags: tuple[str, ...]) -> ctypes.CDLL:
    """A library of source and header files, by their names; a kept one that was damaged is made anew.

    Raises:
        OSError: no compiler is here, it fails (its first complaint is the message), or what it made cannot be loaded.
    """
    file = _made(name, code, flags)
    try:
        return ctypes.CDLL(str(file))
    except OSError:
        file.unlink(missing_ok=True)
        return ctypes.CDLL(str(_made(name, code, flags)))


def _made(name: str, code: dict[str, bytes], flags: tuple[str, ...]) -> Path:
    program = compiler()
    if program is None:
        raise OSError("no C++ compiler is here")
    names = sorted(code)
    parts = [each.encode() for each in (program, *flags, *names)] + [code[each] for each in names]
    folder = cache_folder() / "kernels"
    folder.mkdir(mode=0o700, exist_ok=True)
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
    file = folder / f"{name}-{key}.so"
    if file.is_file():
        return file
    logger.info("compiling %s", file)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for each in names:
            Path(scratch, each).write_bytes(code[each])
        sources = [each for each in names if each.endswith(".cpp")]
        command = [program, *flags, *sources, "-o", file.name]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise OSError(f"{program} fails: {said[:200]}")
        Path(scratch, file.name).replace(file)
    return file
