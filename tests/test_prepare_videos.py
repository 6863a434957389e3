"""The example that turns videos into a dataset."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.layouts import open_lasher

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "prepare_single_modality_videos.py"


def write_video(folder: Path, name: str, *, cut: bool) -> None:
    """Forty frames of a square that moves slowly; with `cut`, the second half is another scene."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(folder / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (160, 120))
    rows = []
    for i in range(40):
        late = cut and i >= 20
        x, y = (100 - i, 70) if late else (20 + i, 30)
        image = np.full((120, 160, 3), 160 if late else 60, np.uint8)
        image[y : y + 16, x : x + 16] = 255
        writer.write(image)
        rows.append(f"{x},{y},16,16" if i not in (0, 5) else "0,0,0,0")
    writer.release()
    (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "infrared", "IR_1", cut=True)
    write_video(root / "visible", "V_1", cut=False)
    return root


def test_cuts_split_a_video(videos: Path, tmp_path: Path) -> None:
    result = run(videos, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    sequences = {s.name: s for s in open_lasher(tmp_path / "out")}
    # the first frame shows no target, so that a sequence starts at the second
    assert {name: len(s) for name, s in sequences.items()} == {"IR_1": 19, "IR_1_part2": 20, "V_1": 39}
    assert sequences["V_1"].aux is None
    assert sequences["IR_1"].rgb is None
    assert sequences["V_1"].boxes[0].tolist() == [21, 30, 16, 16]
    assert sequences["V_1"].visible.sum() == 38


def test_choosing_and_keeping_whole(videos: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("# held out\nIR_1\n\n")
    assert run(videos, tmp_path / "val", "--names", names, "--keep-cuts", "--every", 2).returncode == 0
    assert {s.name: len(s) for s in open_lasher(tmp_path / "val")} == {"IR_1": 20}
    assert run(videos, tmp_path / "train", "--exclude", names).returncode == 0
    assert [s.name for s in open_lasher(tmp_path / "train")] == ["V_1"]
    names.write_text("IR_9\n")
    assert "no such video: IR_9" in run(videos, tmp_path / "none", "--names", names).stderr


def test_a_folder_without_videos(tmp_path: Path) -> None:
    result = run(tmp_path, tmp_path / "out")
    assert result.returncode == 1
    assert "no .mp4 under" in result.stderr
