"""C++ of ours: compiled on the machine that runs it, once, and kept in the user's cache."""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from duotrack.runtime.kept import chosen_folder

logger = logging.getLogger(__name__)
_SECONDS = 300
"""How long a compiler may take."""
_KEPT = 4
"""Libraries of one name that are kept, those of other versions: removed is what was not loaded for longest."""
_REMEDY = "install g++ 11 or newer"


def compiler() -> str | None:
    """The path of $CXX, else of g++, clang++ or c++; None where there is none, or where $CXX names none."""
    named = os.environ.get("CXX")
    names = (named,) if named else ("g++", "clang++", "c++")
    return next((found for name in names if (found := shutil.which(name))), None)


def lacking() -> str:
    """What to say where `compiler` finds none."""
    named = os.environ.get("CXX")
    if named:
        return f"$CXX is {named!r}, which is no program; name one without options, or unset it"
    return f"no C++ compiler is here; {_REMEDY}"


def load_library(name: str, code: dict[str, bytes], flags: tuple[str, ...]) -> ctypes.CDLL:
    """A library of source and header files, by their names; a kept one that was damaged is made anew. Not for Windows.

    Raises:
        OSError: no compiler is here, it fails (its first error is in the message), what it made cannot be loaded, or
            what was kept may be somebody else's.
    """
    names = sorted(code)
    parts = [each.encode() for each in (*flags, *names)] + [code[each] for each in names]
    key = hashlib.sha256(b"|".join(parts)).hexdigest()[:32]
    try:
        file = chosen_folder() / "kernels" / f"{name}-{key}.so"
    except RuntimeError as error:
        return _load_passing(_compiled(code, flags), str(error))
    for each in (file.parent, file):
        _require_ours(each)
    if _is_whole(file):
        with suppress(OSError):  # a folder that is only to be read
            os.utime(file)
        return ctypes.CDLL(str(file))
    logger.info("compiling %s", file)
    library = _compiled(code, flags)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_whole(file, library)
        _remove_old(file.parent, name)
    except OSError as error:
        return _load_passing(library, f"{file.parent}: {error.strerror}")
    return ctypes.CDLL(str(file))


def _load_passing(library: bytes, reason: str) -> ctypes.CDLL:
    logger.warning(
        "compiled code cannot be kept (%s): compiled at each start; set DUOTRACK_CACHE to a folder of yours", reason
    )
    with tempfile.TemporaryDirectory(prefix="duotrack-") as scratch:
        file = Path(scratch, "library.so")
        file.write_bytes(library)
        return ctypes.CDLL(str(file))  # what is loaded does not need its file


def _require_ours(path: Path) -> None:
    """What is here runs in this process: only its user or the administrator may have written it."""
    if not path.exists():
        return
    if path.stat().st_uid not in (0, os.getuid()):
        raise OSError(f"{path} belongs to another user; remove it")
    if path.stat().st_mode & 0o022:
        raise OSError(f"others may write {path}; remove it, or forbid them with chmod go-w")


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


def _remove_old(folder: Path, name: str) -> None:
    """But the newest: who has loaded one does not need its file."""
    with suppress(OSError):  # another process may be removing them as well
        kept = sorted(folder.glob(f"{name}-{'?' * 32}.so"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in kept[_KEPT:]:
            file.unlink()


def _compiled(code: dict[str, bytes], flags: tuple[str, ...]) -> bytes:
    program = compiler()
    if program is None:
        raise OSError(lacking())
    with tempfile.TemporaryDirectory(prefix="duotrack-") as scratch:
        for name, text in code.items():
            Path(scratch, name).write_bytes(text)
        sources = [name for name in sorted(code) if name.endswith(".cpp")]
        objects = [f"{name}.o" for name in sources]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = [
                pool.submit(_run, [program, *flags, "-c", source, "-o", each], scratch)
                for source, each in zip(sources, objects, strict=True)
            ]
        for each in made:
            each.result()
        return _run([program, *flags, *objects, "-o", "library.so"], scratch)


def _run(command: list[str], scratch: str) -> bytes:
    """The file that a compiler was told to make, which comes last."""
    program, file = command[0], Path(scratch, command[-1])
    remedy = "set $CXX to g++ 11 or newer, or unset it" if os.environ.get("CXX") else _REMEDY
    try:
        done = subprocess.run(command, cwd=scratch, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{program} does not end; {remedy}") from error
    if done.returncode or not file.is_file():
        code_said = f"exit code {done.returncode}, and no library"
        lines = done.stderr.decode(errors="replace").splitlines() or [code_said]
        said = next((each for each in lines if "error" in each), lines[0])[:200]
        raise OSError(f"{program} fails ({said}); {remedy}")
    return file.read_bytes()
