"""`duotrack demo`: the clips, the pictures, and what is said where matplotlib is absent."""

import signal
import subprocess
import sys
from importlib.resources import files

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.cli.demo import JOINED, draw_plot, draw_success, join_strips, overlap
from duotrack.cli.demo_clips import FRAMES, RECORDED, TITLES, open_clip, read_boxes
from duotrack.evaluation.success import success_curve
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY, ScriptedNet


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
    for name, size in (("a", (480, 1800)), ("b", (480, 600)), ("c", (960, 1800))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((*size, 3), 200, np.uint8))
    strips = {tmp_path / f"{name}.png": rows for name, rows in (("a", 1), ("b", 1), ("c", 2))}
    assert join_strips(strips, tmp_path / "all.png") == f"strip of all: {tmp_path / 'all.png'}"
    joined = cv2.imread(str(tmp_path / "all.png"))
    assert joined.shape == (JOINED * 4, 1350, 3)
    assert joined[JOINED + 100, 1000].max() == 0
    assert joined[JOINED + 100, 200].min() == joined[3 * JOINED + 100, 1340].min() == 200
    # a clip of two cameras by itself is as large as beside others
    join_strips({tmp_path / "c.png": 2}, tmp_path / "one.png")
    assert cv2.imread(str(tmp_path / "one.png")).shape == (JOINED * 2, 1350, 3)


@pytest.mark.parametrize("damage", [b"", None])
def test_a_strip_that_cannot_be_read_is_named(tmp_path, damage):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((480, 600, 3), np.uint8))
    if damage is not None:
        (tmp_path / "b.png").write_bytes(damage)
    said = join_strips({tmp_path / "a.png": 1, tmp_path / "b.png": 1}, tmp_path / "all.png")
    assert said == f"strip of all: left out, {tmp_path / 'b.png'} cannot be read"
    assert not (tmp_path / "all.png").exists()


class Still:
    """A network that finds nothing new; it sends this process a signal when it is asked for the `when`-th time."""

    def __init__(self, number, when):
        self.number, self.left = number, when

    def __call__(self, **inputs):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)
        return ScriptedNet()(**inputs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", [1, 6])
def test_an_interrupted_demo_says_so(tmp_path, monkeypatch, number, when):
    """In the first clip, then in the second one, whose own files are whole."""
    tracker = Tracker(Still(number, when), geometry=GEOMETRY)
    monkeypatch.setattr("duotrack.tracking.load.load_tracker", lambda *args, **options: tracker)
    before = signal.getsignal(number)
    options = ["--out", str(tmp_path), "--max-frames", "5", "--clip", "thermal", "--clip", "visible"]
    done = CliRunner().invoke(app, ["demo", *options])
    assert done.exit_code == 130, done.output
    assert "ended early (Ctrl-C, SIGTERM)" in done.stdout
    assert "strip of all" not in done.stdout
    assert "success" not in done.stdout.split("ended early")[1]
    assert "interrupted: no strip and no success plot of all clips" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == ({"thermal"} if when == 1 else {"thermal", "visible"})
    last = tmp_path / ("thermal" if when == 1 else "visible")
    assert 1 <= len((last / "boxes.txt").read_text().splitlines()) < 5
    assert (last / "strip.png").exists()
    assert signal.getsignal(number) is before


def test_a_signal_between_two_clips_ends_the_demo(tmp_path, monkeypatch):
    from duotrack.cli import demo

    def drawing(*args):
        signal.raise_signal(signal.SIGTERM)
        return "plot"

    monkeypatch.setattr(demo, "draw_plot", drawing)
    tracker = Tracker(ScriptedNet(), geometry=GEOMETRY)
    monkeypatch.setattr("duotrack.tracking.load.load_tracker", lambda *args, **options: tracker)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--max-frames", "3"])
    assert done.exit_code == 130, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"thermal"}
