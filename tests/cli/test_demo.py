"""`duotrack demo`: the bundled clip, the pictures, and what is said where matplotlib is absent."""

import subprocess
import sys
from importlib.resources import files

import cv2
import numpy as np
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.cli.demo import CLIP, draw_plot, overlap


def test_demo_in_a_process_of_its_own(tmp_path):
    command = [
        sys.executable,
        "-m",
        "duotrack",
        "demo",
        "--out",
        str(tmp_path / "demo"),
        "--max-frames",
        "12",
        "--device",
        "cpu",
    ]
    for _ in range(2):  # again over its own results
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"boxes.txt", "track.jsonl", "overlay.mp4", "strip.png", "plot.png"}
    assert len((tmp_path / "demo" / "boxes.txt").read_text().splitlines()) == 12
    assert all(name in done.stdout for name in names)
    assert "mean IoU" in done.stdout
    assert "frames/s" in done.stdout


def test_the_clip_and_its_boxes_belong_together():
    folder = files("duotrack").joinpath("demo")
    boxes = [line.split(",") for line in folder.joinpath(f"{CLIP}.txt").read_text().split()]
    video = cv2.VideoCapture(str(folder.joinpath(f"{CLIP}.mp4")))
    assert len(boxes) == video.get(cv2.CAP_PROP_FRAME_COUNT) == 301
    assert "CC0" in folder.joinpath("LICENSE.md").read_text()


def test_bad_weights_leave_no_folder(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "--weights", str(tmp_path / "none.pt")])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "demo").exists()


def test_overlap_compares_frame_by_frame():
    truth = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    boxes = [np.array([0.0, 0, 10, 10]), np.array([0.0, 0, 5, 10])]
    np.testing.assert_allclose(overlap(boxes, truth), [1, 0.5])


def test_plot_is_left_out_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = draw_plot(tmp_path / "plot.png", [1.0, 0.5], [1.0, 0.5], ["tracking", "lost"])
    assert "duotrack[eval]" in said
    assert not (tmp_path / "plot.png").exists()


def test_plot_shows_states(tmp_path):
    states = ["tracking", "uncertain", "lost", "lost"]
    assert str(tmp_path / "plot.png") in draw_plot(tmp_path / "plot.png", [1, 0.5, 0, 0], [1, 0.3, 0.1, 0.1], states)
    assert cv2.imread(str(tmp_path / "plot.png")).shape[0] > 200
