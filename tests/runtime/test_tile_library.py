"""The kernels for matrix units are loaded where they may be; otherwise torch multiplies, and it is said."""

import logging
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.models.attention import Block
from duotrack.runtime import native, tile_library
from duotrack.runtime.packed import pack
from duotrack.runtime.tiles import TileBlock, TileLinear, TileMlp, attends, fits
from units import ready


@pytest.fixture
def unloaded() -> Iterator[None]:
    """What was compiled is looked for anew, before and after."""
    tile_library._library.cache_clear()
    yield
    tile_library._library.cache_clear()


def test_the_switch_leaves_everything_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_library, "_library", object)
    assert fits(nn.Linear(64, 64))
    monkeypatch.setenv("DUOTRACK_MATRIX_UNITS", "0")
    assert not fits(nn.Linear(64, 64))
    assert not attends(64, torch.float32)
    monkeypatch.setenv("DUOTRACK_MATRIX_UNITS", "off")
    with pytest.raises(InputError, match="'off': give 0"):
        fits(nn.Linear(64, 64))


def test_a_system_that_forbids_the_units_is_said(
    monkeypatch: pytest.MonkeyPatch, unloaded: None, caplog: pytest.LogCaptureFixture
) -> None:
    refused = MagicMock()
    refused.tiles_ready.return_value = 0
    monkeypatch.setattr(tile_library, "has_units", lambda: True)
    monkeypatch.setattr(tile_library, "load_library", lambda *_: refused)
    assert not tile_library.ready()
    assert "does not let programs use them" in caplog.text


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("compiler", [None, "false", "true"], ids=["none", "one that fails", "one that makes nothing"])
def test_without_a_compiler_torch_multiplies_and_it_is_said(
    compiler: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tile_library, "has_units", lambda: True)
    monkeypatch.setattr(native, "compiler", lambda: compiler)
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert not fits(nn.Linear(64, 64))
        assert not fits(nn.Linear(64, 64))
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "install g++ 11 or newer" in caplog.text
    assert "DUOTRACK_MATRIX_UNITS=0" in caplog.text
    assert not list((tmp_path / "kernels").glob("*"))
    packed = pack(ready(nn.Sequential(Block(dim=64, heads=2)), "fp32"))
    assert not [part for part in packed.modules() if isinstance(part, TileBlock | TileLinear | TileMlp)]


@pytest.mark.usefixtures("unloaded")
def test_other_processors_are_not_asked_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_library, "has_units", lambda: False)
    monkeypatch.setattr(tile_library, "load_library", lambda *_: pytest.fail("compiled for nothing"))
    assert not fits(nn.Linear(64, 64))
    packed = pack(ready(nn.Sequential(Block(dim=64, heads=2)), "fp32"))
    assert not [part for part in packed.modules() if isinstance(part, TileBlock | TileLinear | TileMlp)]
