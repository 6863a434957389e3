"""The fingerprint changes with the data and with nothing else."""

import shutil
from pathlib import Path

from duotrack.datasets.fingerprint import fingerprint
from duotrack.datasets.layouts import open_lasher
from sequences import write_sequence


def test_same_data_elsewhere(tmp_path: Path) -> None:
    write_sequence(tmp_path / "one", "a", 3)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert fingerprint(open_lasher(tmp_path / "one")) == fingerprint(open_lasher(tmp_path / "two"))
    assert len(fingerprint([])) == 64


def test_any_change_shows(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, "a", 3)
    seen = {fingerprint(open_lasher(tmp_path))}
    (folder / "init.txt").write_text("1,1,2,2\n" * 3)
    seen.add(fingerprint(open_lasher(tmp_path)))
    with (folder / "visible" / "000002.jpg").open("ab") as file:
        file.write(b"\0")
    seen.add(fingerprint(open_lasher(tmp_path)))
    shutil.rmtree(folder / "infrared")
    seen.add(fingerprint(open_lasher(tmp_path)))
    folder.rename(tmp_path / "b")
    seen.add(fingerprint(open_lasher(tmp_path)))
    assert len(seen) == 5
