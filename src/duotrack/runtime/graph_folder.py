"""The folder of kept graphs: what is being made in it, what is in use, and how large it may grow.

A folder in it holds one graph, or, while its name begins with a dot, one that is being made or removed. A process locks
the file `used` of what it makes or uses until it ends, however it ends: what nobody holds may be removed. Where the
system has no such locks (Windows, some network drives), nothing is ever removed.
"""

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from duotrack.errors import InputError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

LIMIT = 5.0
"""Gigabytes that kept graphs may take where `DUOTRACK_CACHE_LIMIT` says nothing else."""

_USED = "used"
_MAKING = ".building-"
_NAME = re.compile("[0-9a-f]{32}")
_FORGOTTEN = 3600.0
"""Seconds after which a folder that is being made without being held (by an older version) is left over."""

_held: dict[Path, IO[bytes]] = {}


def size_limit() -> float:
    """Bytes that kept graphs may take: `$DUOTRACK_CACHE_LIMIT` in gigabytes, else `LIMIT`; inf for any number.

    Raises:
        InputError: it is not a number of at least 0.
    """
    said = os.environ.get("DUOTRACK_CACHE_LIMIT") or str(LIMIT)
    try:
        gigabytes = float(said)
    except ValueError:
        gigabytes = -1.0
    if not gigabytes >= 0:
        raise InputError(f"DUOTRACK_CACHE_LIMIT is {said!r}: give gigabytes, for example {LIMIT:g}, or inf")
    return gigabytes * 1e9


def hold(graph: Path) -> bool:
    """Say that a graph is in use, until this process ends; False where it is not there, or not any more."""
    if graph not in _held or not _is_file_of(_held[graph], graph):
        mark = _marked(graph)
        if mark is None:
            return False
        _held[graph] = mark
    os.utime(graph / _USED)
    return True


@contextmanager
def making(folder: Path, name: str) -> Iterator[Path]:
    """A folder to make the graph `name` in; it is there, and held, when the block ends well, else nothing is left.

    Before it, what ended processes left half made is removed; after it, graphs that were not used for longest, as long
    as all together are larger than they may be.
    """
    limit = size_limit()
    remove_left_over(folder)
    while True:
        made = Path(tempfile.mkdtemp(prefix=_MAKING, dir=folder))
        mark = _marked(made)
        if mark is not None:  # else another process took it for left over before it was held
            break
    try:
        yield made
        try:
            made.rename(folder / name)
            _held[folder / name] = mark
        except OSError:  # another process was first
            if not hold(folder / name):
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if _held.get(folder / name) is not mark:
            mark.close()
    shrink(folder, limit)


def remove_left_over(folder: Path) -> None:
    """Remove what processes that have ended were making or removing."""
    for left in folder.glob(f"{_MAKING}*"):
        if (left / _USED).exists():
            _remove(left)
        elif _age(left) > _FORGOTTEN:
            shutil.rmtree(left, ignore_errors=True)


def shrink(folder: Path, limit: float) -> None:
    """Remove the graphs that were not used for longest until all together take `limit` bytes; none that is in use."""
    graphs = [graph for graph in folder.iterdir() if _NAME.fullmatch(graph.name)]
    sizes = {graph: _size(graph) for graph in graphs}
    total = sum(sizes.values())
    for graph in sorted(graphs, key=_age, reverse=True):
        if total <= limit:
            return
        if _remove(graph):
            total -= sizes[graph]
            logger.info("%s: %.0f MB of a graph removed, all may take %.3g GB", folder, sizes[graph] / 1e6, limit / 1e9)


def _remove(graph: Path) -> bool:
    """Whether a graph could be removed: nobody has it in use. Nobody ever meets half of it."""
    try:
        mark = (graph / _USED).open("ab")
    except FileNotFoundError:  # another process removed it
        return False
    with mark:
        if not _locked(mark, alone=True) or not _is_file_of(mark, graph):
            return False
        gone = Path(tempfile.mkdtemp(prefix=_MAKING, dir=graph.parent))
        graph.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return True


def _marked(graph: Path) -> IO[bytes] | None:
    """The open mark of a graph that is in use from now on; None where the graph has gone."""
    try:
        mark = (graph / _USED).open("ab")
    except FileNotFoundError:
        return None
    _locked(mark, alone=False)
    if _is_file_of(mark, graph):
        return mark
    mark.close()
    return None


def _is_file_of(mark: IO[bytes], graph: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(mark.fileno()), (graph / _USED).stat())
    except FileNotFoundError:
        return False


def _locked(mark: IO[bytes], *, alone: bool) -> bool:
    """Whether a mark could be locked; alone: at once and for nobody else, otherwise together with other users."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError:  # somebody holds it, or the drive knows no locks
        return False
    return True


def _age(graph: Path) -> float:
    """Seconds since a graph was last used."""
    for path in (graph / _USED, graph):
        try:
            return time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
    return 0.0


def _size(graph: Path) -> int:
    total = 0
    for file in graph.glob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # another process is removing it
            continue
    return total
