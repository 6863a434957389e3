"""Speed from the time files of trackers."""

import zipfile
from pathlib import Path

import pytest

from duotrack.errors import InputError
from duotrack.evaluation.timing import read_speed


def test_all_frames_over_all_seconds_without_the_first_of_each(tmp_path: Path) -> None:
    (tmp_path / "a_time.txt").write_text("5.0\n0.1\n0.1\n")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "b_time.txt").write_text("2e0, 0.2\t0.4\n\n")
    (tmp_path / "a.txt").write_text("1,2,3,4\n")
    speed = read_speed(tmp_path)
    assert speed is not None
    assert (speed.frames, speed.sequences) == (4, 2)
    assert speed.seconds == pytest.approx(0.8)
    assert speed.fps == pytest.approx(5)


def test_from_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        archive.writestr("x/a_time.txt", "0.5\r\n")
    speed = read_speed(tmp_path / "results.zip")
    assert speed is not None
    assert speed.fps == 2


def test_none_where_there_are_no_times(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,2,3,4\n")
    (tmp_path / "b_time.txt").write_text("\n")
    assert read_speed(tmp_path) is None


@pytest.mark.parametrize("word", ["fast", "nan", "inf", "0", "-1"])
def test_rubbish_is_named_with_file_and_line(tmp_path: Path, word: str) -> None:
    (tmp_path / "a_time.txt").write_text(f"0.1\n0.1\n{word}\n")
    with pytest.raises(InputError, match=r"a_time\.txt, line 3"):
        read_speed(tmp_path)


def test_a_damaged_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "results.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a_time.txt", "0.5\n")
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6"))
    with pytest.raises(InputError, match=r"a_time\.txt: cannot be read from the zip file"):
        read_speed(path)
