"""The absences that `benchmarks/track_quality.py` makes: the target is gone where they say so, and only there."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.layouts import open_lasher

SIZE = (160, 200)
FRAMES = 130


def load():
    path = Path(__file__).parents[1] / "benchmarks" / "absences.py"
    spec = importlib.util.spec_from_file_location("absences", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["absences"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """A white square on grey that moves right, another video of one in a darker scene; thermal only."""
    root = tmp_path_factory.mktemp("videos")
    for name, level in (("a", 90), ("b", 30)):
        folder = root / name / "infrared"
        folder.mkdir(parents=True)
        rows = []
        for index in range(FRAMES):
            image = np.full((*SIZE, 3), level, np.uint8)
            image[60:76, 20 + index // 2 : 36 + index // 2] = 255
            cv2.imwrite(str(folder / f"{index:06d}.png"), image)
            rows.append(f"{20 + index // 2},60,16,16")
        (root / name / "init.txt").write_text("\n".join(rows) + "\n")
    return open_lasher(root)


@pytest.mark.parametrize("kind", ["cut", "gone", "hidden"])
def test_the_target_is_gone_for_a_while_and_comes_back(sequences, kind):
    module = load()
    shots = list(module.with_absence(sequences[0], sequences[1], kind))
    visible = np.array([shot.box is not None for shot in shots])
    edges = np.flatnonzero(np.diff(visible.astype(int)))
    assert len(edges) == 2  # one absence
    gone = int((~visible).sum())
    assert (24 if kind == "hidden" else 30) <= gone <= 60
    assert edges[0] >= 9
    for shot in shots:
        rgb, aux = shot.images
        assert rgb is None
        assert aux.shape == (*SIZE, 3)
        white = int((aux[:, :, 0] > 250).sum())
        assert white > 80 if shot.box is not None else white < 90
    again = [shot.images[1].tobytes() for shot in module.with_absence(sequences[0], sequences[1], kind)]
    assert again == [shot.images[1].tobytes() for shot in shots]
