"""Sequences in DepthTrack's layout, as the VOT toolkit reads them: `from vot_sequences import write_vot_sequences`."""

from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 72
FRAMES, ABSENT = 14, 6


def box(frame: int) -> tuple[int, int, int, int]:
    """Where the target is in frame 0, 1, ...: it goes to the right."""
    return 20 + 2 * frame, 24, 20, 16


def write_vot_sequences(root: Path, names: tuple[str, ...] = ("ball",)) -> Path:
    """Folders with `color` and `ir` (JPEG), `depth` (16-bit PNG, millimetres), `groundtruth.txt` and `anchor.value`.

    The target is away in frame `ABSENT` of `FRAMES`, whose row is nan,nan,nan,nan. One anchor starts behind it and goes
    forward, one before it and goes backward.
    """
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        for channel in ("color", "depth", "ir"):
            (root / name / channel).mkdir(parents=True)
        rows = []
        for i in range(FRAMES):
            x, y, w, h = box(i)
            colour = rng.integers(0, 90, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            depth = np.full((HEIGHT, WIDTH), 4000, np.uint16)
            if i != ABSENT:
                colour[y : y + h, x : x + w] = (30, 40, 240)
                depth[y : y + h, x : x + w] = 1500
            stem = f"{i + 1:08d}"
            for channel, image in (("color", colour), ("depth", depth), ("ir", colour[:, :, 2])):
                suffix = ".png" if channel == "depth" else ".jpg"
                assert cv2.imwrite(str(root / name / channel / f"{stem}{suffix}"), image)
            rows.append("nan,nan,nan,nan" if i == ABSENT else ",".join(map(str, box(i))))
        anchors = [str({ABSENT - 1: -1, ABSENT + 2: 1}.get(i, 0)) for i in range(FRAMES)]
        (root / name / "groundtruth.txt").write_text("\n".join(rows) + "\n")
        (root / name / "anchor.value").write_text("\n".join(anchors) + "\n")
    return root
