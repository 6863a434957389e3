"""`duotrack demo`: the clips, the pictures, and what is said where matplotlib is absent."""

import subprocess
import sys
from importlib.resources import files

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.cli.demo import draw_plot, draw_success, join_strips, overlap
from duotrack.cli.demo_clips import FRAMES, RECORDED, TITLES, open_clip, read_boxes
from duotrack.evaluation.success import success_curve


def test_demo_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "duotrack", "demo", "--out", str(tmp_path / "demo"), "--device", "cpu"]
    for _ in range(2):  # again over its own results
        done = subprocess.run([*command, "--max-frames", "7"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {*TITLES, "strip.png", "success.png"}
    for name in TITLES:
        names = {path.name for path in (tmp_path / "demo" / name).iterdir()}
        assert names == {"boxes.txt", "track.jsonl", "overlay.mp4", "strip.png", "plot.png"}
        assert len((tmp_path / "demo" / name / "boxes.txt").read_text().splitlines()) == 7
        assert all(str(tmp_path / "demo" / name / file) in done.stdout for file in names)
    assert done.stdout.count("mean IoU") == done.stdout.count("frames/s") == 3
    assert str(tmp_path / "demo" / "success.png") in done.stdout


@pytest.mark.parametrize(("name", "frames"), [("thermal", 301), ("visible", 325)])
def test_a_recorded_clip_and_its_boxes_belong_together(name, frames):
    folder = files("duotrack").joinpath("demo")
    video = cv2.VideoCapture(str(folder.joinpath(f"{RECORDED[name]}.mp4")))
    with open_clip(name) as clip:
        assert len(clip.truth) == video.get(cv2.CAP_PROP_FRAME_COUNT) == frames
        assert (clip.truth[:, 2:] > 0).all()
        pair = next(iter(clip.sift(iter(clip.source))))
        assert pair.available == {"thermal": ("aux",), "visible": ("rgb",)}[name]
    licence = folder.joinpath("LICENSE.md").read_text(encoding="utf-8")
    assert "CC0" in licence
    assert f"{RECORDED[name]}.mp4" in licence
    assert f"{frames} frames" in licence


def test_the_rendered_pair_loses_its_thermal_camera_half_way():
    with open_clip("dropout") as clip:
        pairs = list(clip.sift(iter(clip.source)))
    assert [pair.available for pair in pairs] == [("rgb", "aux")] * (FRAMES // 2) + [("rgb",)] * (FRAMES - FRAMES // 2)
    assert clip.truth.shape == (FRAMES, 4)
    centres = clip.truth[:, :2] + clip.truth[:, 2:] / 2
    assert np.ptp(centres, axis=0).max() > 20  # it does move
    # in both pictures the object differs from what is round it
    x, y, w, h = clip.truth[0].round().astype(int)
    for image in (pairs[0].rgb, pairs[0].aux):
        inside, around = image[y : y + h, x : x + w], image[max(0, y - h) : y + 2 * h, max(0, x - w) : x + 2 * w]
        assert np.abs(inside.mean(axis=(0, 1)) - around.mean(axis=(0, 1))).max() > 3
    with open_clip("dropout") as again:
        assert np.array_equal(next(iter(again.source)).rgb, pairs[0].rgb)


def test_bad_weights_leave_no_folder(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "--weights", str(tmp_path / "none.pt")])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "demo").exists()


def test_a_clip_that_there_is_not(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "--clip", "dropouts"])
    assert result.exit_code == 2
    assert "did you mean 'dropout'" in result.stderr
    assert not (tmp_path / "demo").exists()


def test_overlap_compares_frame_by_frame():
    truth = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    boxes = [np.array([0.0, 0, 10, 10]), np.array([0.0, 0, 5, 10])]
    np.testing.assert_allclose(overlap(boxes, truth), [1, 0.5])


def test_boxes_are_read_line_by_line():
    assert read_boxes("1,2,3,4\n5.5,6,7,8\n").tolist() == [[1, 2, 3, 4], [5.5, 6, 7, 8]]


def test_plots_are_left_out_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said = [
        draw_plot(tmp_path / "plot.png", [1.0, 0.5], [1.0, 0.5], ["tracking", "lost"]),
        draw_success(tmp_path / "success.png", {"thermal": success_curve([1.0, 0.5])}),
    ]
    assert all("duotrack[eval]" in line for line in said)
    assert not list(tmp_path.iterdir())


def test_plot_shows_states(tmp_path):
    states = ["tracking", "uncertain", "lost", "lost"]
    assert str(tmp_path / "plot.png") in draw_plot(tmp_path / "plot.png", [1, 0.5, 0, 0], [1, 0.3, 0.1, 0.1], states)
    assert cv2.imread(str(tmp_path / "plot.png")).shape[0] > 200


def test_success_plot_has_a_curve_for_each_clip(tmp_path):
    good, bad = success_curve([0.9] * 4), success_curve([0.1] * 4)
    draw_success(tmp_path / "one.png", {"thermal": good})
    assert str(tmp_path / "two.png") in draw_success(tmp_path / "two.png", {"thermal": good, "visible": bad})
    assert not np.array_equal(cv2.imread(str(tmp_path / "one.png")), cv2.imread(str(tmp_path / "two.png")))


def test_strips_of_all_clips_are_joined(tmp_path):
    # three frames of one camera, one frame of one, three of two
    for name, size in (("a", (400, 1500)), ("b", (400, 500)), ("c", (800, 1500))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((*size, 3), 200, np.uint8))
    joined = cv2.imread(str(join_strips([tmp_path / f"{name}.png" for name in "abc"], tmp_path / "all.png")))
    assert joined.shape == (200 + 200 + 400, 750, 3)
    assert joined[300, 600].max() == 0
    assert joined[300, 200].min() == joined[700, 740].min() == 200
