"""C++ is compiled once and kept; what cannot be compiled says why."""

from pathlib import Path

import pytest

from duotrack.runtime import native
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
    written = file.stat().st_mtime_ns
    assert load_library("one", CODE, FLAGS).one() == 1
    assert file.stat().st_mtime_ns == written
    assert load_library("one", {**CODE, "one.h": b"#define ONE 2"}, FLAGS).one() == 2
    assert len(list(kernels.iterdir())) == 2


@compiles
def test_a_damaged_one_is_made_anew(kernels: Path) -> None:
    file = native._made("one", CODE, FLAGS)
    good = file.read_bytes()
    file.write_bytes(good[:100])
    assert load_library("one", CODE, FLAGS).one() == 1
    assert len(file.read_bytes()) == len(good)


@compiles
def test_what_does_not_compile_says_why_and_leaves_nothing(kernels: Path) -> None:
    with pytest.raises(OSError, match=r"fails: one\.cpp:1.*error"):
        load_library("one", {"one.cpp": b"this is no C++"}, FLAGS)
    assert not list(kernels.iterdir())


def test_no_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="no C\\+\\+ compiler"):
        load_library("one", CODE, FLAGS)
