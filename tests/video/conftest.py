"""Small clips and folders that the tests of sources and sinks make for themselves."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.frames import TrackResult

MakeVideo = Callable[..., Path]


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """RGB picture whose red channel tells its index, coarsely enough to survive a lossy codec."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 8 * (index % 32)
    image[:, width // 2 :, 2] = 200
    return image


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """make_video(name, count, size=(64, 48), fps=25): an MPEG-4 clip of `picture`s."""

    def make(name: str = "clip.mp4", count: int = 10, size: tuple[int, int] = (64, 48), fps: float = 25) -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        assert writer.isOpened()
        for index in range(count):
            writer.write(cv2.cvtColor(picture(index, *size), cv2.COLOR_RGB2BGR))
        writer.release()
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """make_folder(name, images): numbered PNGs of the arrays given (BGR or grey, as OpenCV writes them)."""

    def make(name: str, images: list[np.ndarray], suffix: str = ".png") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for index, image in enumerate(images):
            assert cv2.imwrite(str(folder / f"img{index}{suffix}"), image)
        return folder

    return make


@pytest.fixture
def result() -> Callable[..., TrackResult]:
    """result(box, ...): a track result."""

    def make(box=(10, 8, 20, 16), score=0.9, state="tracking", available=("rgb", "aux")) -> TrackResult:
        return TrackResult(np.asarray(box, np.float64), score, state, available)

    return make
