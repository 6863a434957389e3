"""Small datasets on disk: `from sequences import write_sequence`."""

from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 72


def scene(frame: int, modality: str) -> np.ndarray:
    """(H, W, 3) uint8: noise of its own kind, and a bright square that moves to the right."""
    rng = np.random.default_rng([frame, modality == "infrared"])
    image = rng.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    x, y, w, h = box(frame)
    image[y : y + h, x : x + w] = (250, 30, 30) if modality == "visible" else 200
    return image


def box(frame: int) -> tuple[int, int, int, int]:
    """Where the square is."""
    return 20 + frame % 40, 24, 16, 12


def write_sequence(
    root: Path,
    name: str,
    frames: int = 24,
    modalities: tuple[str, ...] = ("visible", "infrared"),
    boxes: str | None = None,
) -> Path:
    """One sequence in the LasHeR layout; `boxes` replaces the text of init.txt."""
    folder = root / name
    for modality in modalities:
        (folder / modality).mkdir(parents=True)
        for i in range(frames):
            path = folder / modality / f"{i:06d}.jpg"
            assert cv2.imwrite(str(path), np.ascontiguousarray(scene(i, modality)[:, :, ::-1]))
    folder.mkdir(exist_ok=True)
    rows = "".join(",".join(map(str, box(i))) + "\n" for i in range(frames))
    (folder / "init.txt").write_text(rows if boxes is None else boxes)
    return folder
