"""Folders of still images."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.stills import open_stills
from duotrack.errors import InputError


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 9, 3), 90, np.uint8))


def test_pairs_and_singles(tmp_path: Path) -> None:
    for name in ("set/visible/a.jpg", "set/infrared/a.png", "set/visible/b.jpg", "set/infrared/c.jpg", "d.jpeg"):
        put(tmp_path / name)
    found = {s.name: (s.rgb is not None, s.aux is not None) for s in open_stills(tmp_path)}
    assert found == {"set/a": (True, True), "set/b": (True, False), "set/c": (False, True), "d.jpeg": (True, False)}
    assert all(s.read(0).available and len(s) == 1 for s in open_stills(tmp_path))


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        open_stills(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_stills(tmp_path / "x")
