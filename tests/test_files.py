"""Two files that belong together are replaced together, or neither is."""

import os
from pathlib import Path

import pytest

from duotrack.errors import InputError
from duotrack.files import atomic_pair, writable, write_text


def filled(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture(params=[{}, {"net.xml": "old", "net.bin": "old"}, {"net.bin": "old"}], ids=["none", "both", "second"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    for name, text in request.param.items():
        (tmp_path / name).write_text(text)
    return tmp_path, request.param


def write(folder: Path) -> None:
    with atomic_pair(folder / "net.xml", folder / "net.bin") as (first, second):
        first.write_text("new")
        second.write_text("new")


def test_both_are_replaced(folder: tuple[Path, dict[str, str]]) -> None:
    write(folder[0])
    assert filled(folder[0]) == {"net.xml": "new", "net.bin": "new"}
    assert len({path.stat().st_mode for path in folder[0].iterdir()}) == 1


@pytest.mark.parametrize("refused", [".xml", ".bin"])
def test_a_name_that_cannot_be_taken_leaves_both(
    folder: tuple[Path, dict[str, str]], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def replace(path: Path, to: Path) -> Path:
        if to.name == f"net{refused}" and path.suffix != ".old":
            raise PermissionError("in use")
        return rename(path, to)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError, match="in use"):
        write(folder[0])
    assert filled(folder[0]) == folder[1]


def test_a_block_that_fails_leaves_both(folder: tuple[Path, dict[str, str]]) -> None:
    def fail() -> None:
        with atomic_pair(folder[0] / "net.xml", folder[0] / "net.bin") as (first, second):
            second.write_text("new")
            raise KeyError(first)

    with pytest.raises(KeyError):
        fail()
    assert filled(folder[0]) == folder[1]


def test_a_folder_of_the_second_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.bin").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["net.bin"]


def test_what_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert writable(tmp_path / "new.json")
    assert writable(tmp_path / "folders" / "to" / "make" / "new.json")
    assert writable(tmp_path / "file")
    assert not writable(tmp_path)
    assert not writable(tmp_path / "file" / "new.json")
    for wrong in ("/", "", "/proc/new.json", "a\0b", "b" * 300, tmp_path / ("c" * 300) / "new.json", "/dev/null"):
        assert not writable(wrong), wrong
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_links_stay_and_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    (tmp_path / "blob").write_text("old")
    (tmp_path / "net.bin").symlink_to("blob")
    with atomic_pair(tmp_path / "net.xml", tmp_path / "net.bin") as (first, second):
        assert (first.suffix, second.suffix) == (".xml", ".bin")
        first.write_text("new")
        second.write_text("new")
    assert (tmp_path / "net.bin").is_symlink()
    assert (tmp_path / "blob").read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["blob", "link", "net.bin", "net.xml", "target"]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    for wrong in ("pipe", "circle"):
        assert not writable(tmp_path / wrong)
        with pytest.raises(InputError, match="cannot write"):
            write_text(tmp_path / wrong, "new")
    assert (tmp_path / "pipe").is_fifo()
