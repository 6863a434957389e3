"""Networks that tests of the runtime export, and the units of this processor that kernels are for."""

import ctypes
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

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
    if tile_library._library("avx512") is None:
        pytest.skip("this processor multiplies no bf16, or no compiler is here to reach what does")
    if tile_library._library("amx") is None:
        real = tile_library._library
        monkeypatch.setattr(tile_library, "_library", lambda used: _emulated() if used == "amx" else real(used))
    monkeypatch.setenv("DUOTRACK_KERNELS", request.param)


@cache
def _emulated() -> ctypes.CDLL:
    marks = ("-D__AMX_BF16__", "-include", str(Path(__file__).with_name("emulated_amx.h")))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUOTRACK_CACHE", folder)
        return tile_library.described(load_library("tiles", tile_library.code(), (*tile_library._FLAGS, *marks)))


@pytest.fixture(params=TYPES)
def precision(request: pytest.FixtureRequest) -> str:
    """Those that the units compute in."""
    return str(request.param)
