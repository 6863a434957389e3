"""Folders and zip files alike, and neither too large."""

import zipfile
from pathlib import Path

import pytest

from duotrack.datasets import tree
from duotrack.datasets.tree import open_tree
from duotrack.errors import InputError


@pytest.fixture(params=["folder", "zip"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    files = {"a.txt": "1", "top/b`c.txt": "22", "__MACOSX/a.txt": "0", "top/.hidden": "0"}
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return tmp_path / "x.zip"
    for name, text in files.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text(text)
    return tmp_path / "x"


def test_files(root: Path) -> None:
    with open_tree(root) as opened:
        assert opened.files() == ["a.txt", "top/b`c.txt"]
        assert "top" in opened.folders()
        assert opened.has("top/b`c.txt")
        assert not opened.has("top")
        assert not opened.has("none.txt")
        assert opened.read_all(["a.txt", "top/b`c.txt"]) == [b"1", b"22"]
        assert opened.at("a.txt") == f"{root}/a.txt"
        with pytest.raises(InputError, match=r"none\.txt: no such file"):
            opened.read("none.txt")


def test_sizes_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_tree(root) as opened:
        monkeypatch.setattr(tree, "MAX_TOTAL", 2)
        with pytest.raises(InputError, match="of text"):
            opened.read_all(["a.txt", "top/b`c.txt"])
        monkeypatch.setattr(tree, "MAX_BYTES", 1)
        assert opened.read("a.txt") == b"1"
        with pytest.raises(InputError, match="no text file"):
            opened.read("top/b`c.txt")
    monkeypatch.setattr(tree, "MAX_FILES", 2)
    with pytest.raises(InputError, match="over 2 files"), open_tree(root) as opened:
        opened.files()


def test_what_is_neither(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK no zip file")
    for path, message in ((tmp_path / "none", "no such folder or zip"), (tmp_path / "x.zip", "neither a folder nor")):
        with pytest.raises(InputError, match=message), open_tree(path):
            pass


def test_a_damaged_member(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "1,2,3,4\n")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1,2,3,4", b"1,2,3,5"))
    with open_tree(path) as opened, pytest.raises(InputError, match="cannot be read from the zip file"):
        opened.read("a.txt")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_compressed_member(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.txt", "".join(f"{row},2,3,4\n" for row in range(500)))
    data = bytearray(path.read_bytes())
    data[60:100] = b"\xff" * 40
    path.write_bytes(data)
    with open_tree(path) as opened, pytest.raises(InputError, match="cannot be read from the zip file"):
        opened.read("a.txt")
