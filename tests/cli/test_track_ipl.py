"""IPL through the real command line: a sensor that drops out, and a run with one camera."""

import json
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from duotrack.cli import app

FRAMES = 5
LOST = {"rgb": {1}, "aux": {2, 3}, "both": set()}
WEIGHTS = files("duotrack") / "weights" / "files" / "ckd-tiny.safetensors"


def write_frames(folder: Path, *, lost: set[int], seed: int) -> Path:
    """A bright square on noise that moves to the right; the `lost` ones are files that are no image."""
    folder.mkdir()
    for i in range(FRAMES):
        path = folder / f"{i:03d}.png"
        if i in lost:
            path.write_bytes(b"\x89PNG cut short")
            continue
        image = np.random.default_rng([seed, i]).integers(0, 90, (120, 160, 3)).astype(np.uint8)
        image[40:64, 50 + 3 * i : 74 + 3 * i] = 230
        assert cv2.imwrite(str(path), image)
    return folder


@pytest.mark.parametrize("sides", [("rgb", "aux"), ("rgb",), ("aux",)])
def test_tracking_goes_on_when_a_side_is_missing(tmp_path: Path, sides: tuple[str, ...]) -> None:
    options: list[str] = []
    for seed, side in enumerate(sides):
        lost = LOST[side] if len(sides) == 2 else set()
        options += [f"--{side}", str(write_frames(tmp_path / side, lost=lost, seed=seed))]
    out = tmp_path / "out"
    start = ["track", *options, "--box", "50,40,24,24", "--model", "ipl-tiny", "--weights", str(WEIGHTS)]
    result = CliRunner().invoke(app, [*start, "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (out / "track.jsonl").read_text().splitlines()]
    wanted = [[side for side in sides if len(sides) == 1 or i not in LOST[side]] for i in range(FRAMES)]
    assert [row["available"] for row in rows] == wanted
    boxes = np.array([row["box"] for row in rows])
    assert np.isfinite(boxes).all()
    assert (np.abs(np.diff(boxes, axis=0)).sum(axis=1) > 0).all()  # it looked in every frame
