"""Networks that tests of the runtime export, and the units of this processor that kernels are for."""

import ctypes
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from duotrack.runtime import tile_library
from duotrack.runtime.native import load_library
from small_net import put_into_zoo
from units import TYPES


@pytest.fixture
def zoo(monkeypatch):
    """Small models under the names "small", "plain", "ipl" and "patrack", their weights always the same."""
    return put_into_zoo(monkeypatch)


@pytest.fixture(autouse=True, scope="package")
def _no_switch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DUOTRACK_KERNELS", raising=False)
        yield


@pytest.fixture(params=["amx", "avx512"])
def every_unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all units that kernels are for, one after the other; skips a test where none are.

    Matrix units are emulated where there are only vectors.
    """
    monkeypatch.setenv("DUOTRACK_KERNELS", "avx512")
    if tile_library.ready() and tile_library._library("amx") is None:
        real = tile_library._library
        monkeypatch.setattr(tile_library, "_library", lambda used: _emulated() if used == "amx" else real(used))
    monkeypatch.setenv("DUOTRACK_KERNELS", request.param)
    if not tile_library.ready():
        pytest.skip(f"this processor has no {request.param}, or no compiler is here to reach it")


@cache
def _emulated() -> ctypes.CDLL:
    header = Path(__file__).with_name("emulated_amx.h")
    marks = ("-D__AMX_BF16__", f"-DEMULATED={hashlib.sha256(header.read_bytes()).hexdigest()}", "-include", str(header))
    library = load_library("emulated", tile_library.code(), (*tile_library._FLAGS, *marks))
    return tile_library.described(library)


@pytest.fixture(params=TYPES)
def precision(request: pytest.FixtureRequest) -> str:
    """Those that the units compute in."""
    return str(request.param)
