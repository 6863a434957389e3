"""What tests of simulated scenes share."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.simulation.assets import Pool, load_pool


@pytest.fixture(scope="session")
def drawn() -> Pool:
    """A pool of small drawn pictures only."""
    return load_pool(canvas=256)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Folders `photos` and `cutouts` with real pairs in `paired/`, and ordinary pictures."""
    rng = np.random.default_rng(3)
    for folder in (
        "photos/paired/visible",
        "photos/paired/infrared",
        "cutouts/paired/visible",
        "cutouts/paired/infrared",
    ):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("car_1.png", "woman_2.png"):
            size = (90, 120, 3) if "photos" in folder else (40, 24, 3)
            cv2.imwrite(str(tmp_path / folder / name), cv2.blur(rng.integers(0, 256, size).astype(np.uint8), (3, 3)))
    cv2.imwrite(
        str(tmp_path / "photos" / "wall.jpg"), cv2.blur(rng.integers(0, 256, (200, 300, 3)).astype(np.uint8), (5, 5))
    )
    shape = np.zeros((60, 30, 4), np.uint8)
    cv2.ellipse(shape, (15, 30), (10, 25), 0, 0, 360, (40, 90, 200, 255), -1)
    cv2.imwrite(str(tmp_path / "cutouts" / "dog.png"), shape)
    return tmp_path
