"""User code by name, `MODULE:FUNCTION` or `FILE.py:FUNCTION`: imported, so it runs with all that the user may do."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from duotrack.errors import InputError


def imported(name: str) -> Callable[..., Any]:
    """What `name` stands for; modules of the working folder are found too.

    Raises:
        InputError: no such file, module or function, it raises when imported, or it cannot be called.
    """
    where, _, attribute = name.rpartition(":")
    named = where.endswith(".py") or all(part.isidentifier() for part in where.split("."))
    if not named or not attribute.isidentifier():
        raise InputError(f"{name} is not MODULE:FUNCTION; write for example my_fusion:fuse or code/my_fusion.py:fuse")
    with refusals_named(where):
        module = _from_file(Path(where).expanduser()) if where.endswith(".py") else _from_path(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise InputError(f"{where} has no function {attribute}; check the name after the colon")
    return found


@contextmanager
def refusals_named(what: str) -> Iterator[None]:
    """Whatever user code raises inside becomes one line that names `what` and the line of code.

    Raises:
        InputError: in place of any exception.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # user code may raise anything
        lines = str(error).splitlines()
        said = f": {lines[0]}" if lines else ""
        raise InputError(f"{what} raised {type(error).__name__}{_place(error)}{said}; mend it") from error


def _place(error: Exception) -> str:
    """Where user code was when it raised, as far as that is neither in this package nor in an installed one."""
    own = str(Path(__file__).parents[1])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith((own, "<"))]
    outside = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts]
    if not outside or outside[-1].filename.startswith(sys.base_prefix):
        return ""
    return f" at {Path(outside[-1].filename).name}:{outside[-1].lineno}"


def _from_path(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))  # a console script does not look where it is called
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"cannot import {name}: {error}; check the name, or give the path of its .py file") from error
    finally:
        sys.path.pop(0)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no code at {path}; check the path")
    spec = importlib.util.spec_from_file_location(f"_duotrack_user_{path.stem}", path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
