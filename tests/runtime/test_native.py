"""C++ is compiled once and kept; what cannot be compiled says why."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.runtime import graph_cache, native, tile_library
from duotrack.runtime.compiled import CompiledNet
from duotrack.runtime.native import compiler, load_library

FLAGS = ("-shared", "-fPIC")
CODE = {"one.cpp": b'#include "one.h"\nextern "C" int one() { return ONE; }', "one.h": b"#define ONE 1"}

compiles = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path))
    return tmp_path / "kernels"


@compiles
def test_a_library_is_kept_by_its_code(kernels: Path) -> None:
    assert load_library("one", CODE, FLAGS).one() == 1
    [file] = kernels.iterdir()
    written = file.stat().st_ino
    assert load_library("one", CODE, FLAGS).one() == 1
    assert file.stat().st_ino == written
    assert load_library("one", {**CODE, "one.h": b"#define ONE 2"}, FLAGS).one() == 2
    assert len(list(kernels.iterdir())) == 2


@compiles
def test_those_loaded_last_stay(kernels: Path) -> None:
    load_library("another", CODE, FLAGS)
    files = []
    for number in range(4):
        assert load_library("one", {**CODE, "one.h": f"#define ONE {number}".encode()}, FLAGS).one() == number
        [new] = [file for file in kernels.glob("one-*.so") if file not in files]
        files.append(new)
        os.utime(new, (number, number))
    assert load_library("one", {**CODE, "one.h": b"#define ONE 0"}, FLAGS).one() == 0
    assert load_library("one", {**CODE, "one.h": b"#define ONE 4"}, FLAGS).one() == 4
    assert [file.exists() for file in files] == [True, False, True, True]
    assert len(list(kernels.iterdir())) == 5


@compiles
def test_a_damaged_one_is_made_anew(kernels: Path) -> None:
    # in a process of its own: this one would keep the library that it has loaded
    load = f"from duotrack.runtime.native import load_library as load; print(load('one', {CODE}, {FLAGS}).one())"
    sizes = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"
        [file] = kernels.iterdir()
        sizes.append(file.stat().st_size)
        os.truncate(file, sizes[-1] // 2)
    assert sizes[0] == sizes[1]


@compiles
def test_a_kept_one_needs_no_compiler(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_library("one", CODE, FLAGS)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    assert load_library("one", CODE, FLAGS).one() == 1


@compiles
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_others_may_write_is_not_loaded(kernels: Path, what: str) -> None:
    load_library("one", CODE, FLAGS)
    [file] = kernels.iterdir()
    (file if what == "file" else kernels).chmod(0o777)
    with pytest.raises(OSError, match=r"others may write .*chmod go-w"):
        load_library("one", CODE, FLAGS)


@compiles
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="the code is for x86")
@pytest.mark.parametrize("flags", tile_library._OWN_FLAGS.values(), ids=tile_library._OWN_FLAGS)
def test_our_kernels_compile_on_processors_that_cannot_run_them(flags: tuple[str, ...]) -> None:
    library = load_library("tiles", tile_library.code(), (*tile_library._FLAGS, *flags))
    for name in tile_library._ARGUMENTS:
        assert getattr(library, name)


@compiles
@pytest.mark.parametrize("why", ["no home", "a file", "only to be read"])
def test_what_cannot_be_kept_is_said_and_loaded(
    why: str, kernels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    if why == "no home":
        monkeypatch.delenv("DUOTRACK_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
    elif why == "a file":
        kernels.write_text("")
    else:  # as root nothing is
        monkeypatch.setattr(native, "_write_whole", lambda *_: (_ for _ in ()).throw(PermissionError(13, "denied")))
    assert load_library("one", CODE, FLAGS).one() == 1
    assert "set DUOTRACK_CACHE to a folder" in caplog.text


@pytest.mark.parametrize("none", ["DUOTRACK_CACHE", "HOME"])
def test_without_a_home_folder_graphs_are_kept_for_the_process(none: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if none == "DUOTRACK_CACHE":
        monkeypatch.delenv("DUOTRACK_CACHE")
    assert graph_cache.cache_folder().is_dir()


@pytest.mark.parametrize("named", ["/nonexistent/g++", "g++ -O3"], ids=["absent", "with options"])
def test_a_compiler_that_is_named_and_is_none_is_said(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", named)
    assert compiler() is None
    with pytest.raises(OSError, match=re.escape(f"$CXX is {named!r}, which is no program")):
        load_library("one", CODE, FLAGS)
    with pytest.raises(InputError, match=re.escape(f"$CXX is {named!r}")):
        CompiledNet(nn.Identity(), device=torch.device("cpu"))


@pytest.mark.skipif(not Path("/bin/true").exists(), reason="needs /bin/true")
def test_a_compiler_that_makes_nothing_is_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/bin/true")
    with pytest.raises(OSError, match=r"no library.*unset it"):
        load_library("one", CODE, FLAGS)
