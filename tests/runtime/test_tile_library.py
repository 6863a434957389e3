"""Kernels are loaded for the units that are here and may be used; otherwise torch multiplies, and it is said."""

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
    _forget()
    yield
    _forget()


def _forget() -> None:
    tile_library._library.cache_clear()
    tile_library._warn.cache_clear()


def test_the_switch_leaves_everything_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_library, "_library", lambda used: used)
    assert fits(nn.Linear(64, 64))
    monkeypatch.setenv("DUOTRACK_KERNELS", "0")
    assert not fits(nn.Linear(64, 64))
    assert not attends(64, torch.float32)
    monkeypatch.setenv("DUOTRACK_KERNELS", "off")
    with pytest.raises(InputError, match="'off': give 0"):
        fits(nn.Linear(64, 64))


@pytest.mark.parametrize(
    ("here", "said", "used"),
    [
        (("amx", "avx512"), "1", "amx"),
        (("amx", "avx512"), "", "amx"),
        (("amx", "avx512"), "avx512", "avx512"),
        (("avx512",), "1", "avx512"),
        (("avx512",), "amx", None),
        ((), "1", None),
    ],
    ids=str,
)
def test_the_best_units_are_used_unless_told_otherwise(
    here: tuple[str, ...], said: str, used: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_library, "_library", lambda each: each if each in here else None)
    monkeypatch.setenv("DUOTRACK_KERNELS", said)
    assert tile_library.units() == used
    assert tile_library.ready() == (used is not None)


def test_processors_are_asked_for_what_kernels_need(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["fpu", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_vnni"]
    for more, found in ([], ["avx512"]), (["amx_tile", "amx_bf16", "amx_int8"], ["amx", "avx512"]):
        text = f"model name: one\nflags\t: {' '.join(flags + more)}\n"
        monkeypatch.setattr(Path, "read_text", lambda _, text=text: text)
        assert tile_library.suited() == found


def test_a_system_that_forbids_the_units_is_said(
    monkeypatch: pytest.MonkeyPatch, unloaded: None, caplog: pytest.LogCaptureFixture
) -> None:
    refused, allowed = MagicMock(), MagicMock()
    refused.tiles_ready.return_value = 0
    monkeypatch.setattr(tile_library, "suited", lambda: ["amx", "avx512"])
    monkeypatch.setattr(tile_library, "load_library", lambda *given: refused if "-mamx-tile" in given[-1] else allowed)
    assert tile_library.units() == "avx512"
    assert "the system does not let programs use amx (DUOTRACK_KERNELS=avx512 silences this)" in caplog.text


@pytest.mark.usefixtures("unloaded")
def test_units_that_are_asked_for_and_are_not_here_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tile_library, "suited", list)
    assert not tile_library.ready()
    assert not caplog.text
    monkeypatch.setenv("DUOTRACK_KERNELS", "amx")
    assert not tile_library.ready()
    assert not tile_library.ready()
    assert caplog.text.count("it has no amx, which DUOTRACK_KERNELS asks for") == 1


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("compiler", [None, "false", "true"], ids=["none", "one that fails", "one that makes nothing"])
def test_without_a_compiler_torch_multiplies_and_it_is_said(
    compiler: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tile_library, "suited", lambda: ["amx", "avx512"])
    monkeypatch.setattr(native, "compiler", lambda: compiler)
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert not fits(nn.Linear(64, 64))
        assert not fits(nn.Linear(64, 64))
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "install g++ 11 or newer" in caplog.text
    assert "DUOTRACK_KERNELS=0" in caplog.text
    assert not list((tmp_path / "kernels").glob("*"))
    packed = pack(ready(nn.Sequential(Block(dim=64, heads=2)), "fp32"))
    assert not [part for part in packed.modules() if isinstance(part, TileBlock | TileLinear | TileMlp)]


@pytest.mark.usefixtures("unloaded")
def test_other_processors_are_not_asked_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_library, "suited", list)
    monkeypatch.setattr(tile_library, "load_library", lambda *_: pytest.fail("compiled for nothing"))
    assert not fits(nn.Linear(64, 64))
    packed = pack(ready(nn.Sequential(Block(dim=64, heads=2)), "fp32"))
    assert not [part for part in packed.modules() if isinstance(part, TileBlock | TileLinear | TileMlp)]
    with pytest.raises(InputError, match="no layer can be packed here"):
        TileLinear(nn.Linear(64, 64))
