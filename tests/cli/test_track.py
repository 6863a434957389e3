"""`duotrack track`: files, summaries, bad input, Ctrl-C; with a scripted network but for one true run."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import duotrack.tracking.load
from duotrack.cli import app
from duotrack.errors import InputError
from duotrack.tracking.batch import MultiTracker
from duotrack.tracking.state import StateRule, state_rule
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY, ScriptedNet

SIZE = (96, 80)
FRAMES = 8
BOX = "30,20,20,20"


def write_folder(
    folder: Path, *, count: int = FRAMES, size: tuple[int, int] = SIZE, missing: tuple[int, ...] = ()
) -> Path:
    """Numbered PNG frames of noise; the `missing` ones are files that are no image."""
    folder.mkdir(parents=True)
    for i in range(count):
        path = folder / f"{i:03d}.png"
        if i in missing:
            path.write_bytes(b"\x89PNG not an image")
        else:
            noise = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
            cv2.imwrite(str(path), noise)
    return folder


def write_video(path: Path, *, count: int = 40) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE)
    for i in range(count):
        writer.write(np.random.default_rng(i).integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8))
    writer.release()
    return path


@pytest.fixture
def pair(tmp_path) -> list[str]:
    """The options that name both sources."""
    rgb, aux = write_folder(tmp_path / "rgb"), write_folder(tmp_path / "aux")
    return ["--rgb", str(rgb), "--aux", str(aux)]


@pytest.fixture
def net(monkeypatch) -> ScriptedNet:
    """The network that `duotrack track` runs instead of a true one."""
    scripted = ScriptedNet()

    def load(name, *, modality=None, depth_colours="bgr", missing="model", **options):
        rule = state_rule(**{key: value for key, value in options.items() if hasattr(StateRule, key)})
        return Tracker(
            scripted, geometry=GEOMETRY, rule=rule, missing=missing, kind=modality, depth_colours=depth_colours
        )

    monkeypatch.setattr(duotrack.tracking.load, "load_tracker", load)
    return scripted


def run(*arguments: object):
    return CliRunner().invoke(app, ["track", *map(str, arguments)])


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_files_of_one_object(pair, net, tmp_path):
    net.scores = [0.9, 0.1, 0.9]
    out = tmp_path / "deep" / "out"
    result = run(*pair, "--box", BOX, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert sorted(path.name for path in out.iterdir()) == ["boxes.txt", "overlay.mp4", "track.jsonl"]
    boxes = [list(map(float, line.split(","))) for line in lines(out / "boxes.txt")]
    assert boxes == [[30, 20, 20, 20]] * FRAMES  # the first line is the box that was given
    records = [json.loads(line) for line in lines(out / "track.jsonl")]
    assert [record["frame"] for record in records] == list(range(FRAMES))
    assert records[0]["score"] == 1
    assert [record["state"] for record in records[:3]] == ["tracking", "tracking", "uncertain"]
    assert records[3]["available"] == ["rgb", "aux"]
    assert cv2.VideoCapture(str(out / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert f"{FRAMES} frames, 1 object" in result.stdout
    assert "boxes.txt" in result.stdout
    assert len(net.calls) == FRAMES - 1


def test_one_source_is_enough(pair, net, tmp_path):
    result = run(*pair[2:], "--box", BOX, "--out", tmp_path / "out", "--no-overlay", "--json")
    assert result.exit_code == 0, result.stderr
    assert {call["available"] for call in net.calls} == {("aux",)}
    assert json.loads(result.stdout)["lacking"] == {"aux": 0}
    assert not (tmp_path / "out" / "overlay.mp4").exists()


def test_several_objects(pair, net, tmp_path):
    result = run(*pair, "--box", BOX, "--box", "60,40,16,16", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"boxes_1.txt", "boxes_2.txt", "track.jsonl", "overlay.mp4"}
    assert lines(tmp_path / "out" / "boxes_2.txt")[0].startswith("60.0000,40.0000,16.0000,16.0000")
    assert json.loads(result.stdout)["objects"] == 2
    assert len(lines(tmp_path / "out" / "track.jsonl")) == 2 * FRAMES


def test_start_and_max_frames(pair, net, tmp_path):
    result = run(*pair, "--box", BOX, "--out", tmp_path / "out", "--start", 2, "--max-frames", 3, "--no-overlay")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in lines(tmp_path / "out" / "track.jsonl")]
    assert [record["frame"] for record in records] == [2, 3, 4]
    assert records[0]["score"] == 1


def test_a_corrupt_image_counts_as_missing(net, tmp_path):
    rgb, aux = write_folder(tmp_path / "rgb", missing=(3, 4)), write_folder(tmp_path / "aux", missing=(4,))
    result = run("--rgb", rgb, "--aux", aux, "--box", BOX, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in lines(tmp_path / "out" / "track.jsonl")]
    assert [record["available"] for record in records[2:6]] == [["rgb", "aux"], ["aux"], [], ["rgb", "aux"]]
    assert (records[4]["score"], records[4]["box"]) == (0, records[3]["box"])
    assert any("003.png" in note for note in records[3]["notes"])
    assert json.loads(result.stdout)["lacking"] == {"rgb": 2, "aux": 1}


def test_thresholds_arrive(pair, net, tmp_path):
    net.scores = [0.5] * FRAMES
    options = ["--uncertain-below", 0.6, "--lost-below", 0.55, "--tracking-above", 0.8, "--lost-after", 2]
    result = run(*pair, "--box", BOX, "--out", tmp_path / "out", "--json", "--no-overlay", *options)
    assert json.loads(result.stdout)["states"] == [{"tracking": 1, "uncertain": 1, "lost": FRAMES - 2}]


def test_first_frame_is_drawn_with_a_grid(pair, tmp_path):
    result = run(*pair, "--first-frame", tmp_path / "first")
    assert result.exit_code == 0, result.stderr
    written = [Path(line) for line in result.stdout.splitlines()]
    assert [path.name for path in written] == ["first_frame_rgb.png", "first_frame_aux.png"]
    for path in written:
        height, width = cv2.imread(str(path)).shape[:2]
        assert height > SIZE[1]
        assert width > SIZE[0]


def test_results_are_replaced_only_when_told(pair, net, tmp_path):
    common = [*pair, "--out", tmp_path / "out", "--no-overlay", "--max-frames", 3]
    assert run(*common, "--box", BOX).exit_code == 0
    before = (tmp_path / "out" / "boxes.txt").read_bytes()
    refused = run(*common, "--box", "10,10,12,12")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "out" / "boxes.txt").read_bytes() == before
    assert run(*common, "--box", "10,10,12,12", "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "boxes.txt").read_bytes() != before


BAD_BOXES = [
    ([], r"no --box.*--first-frame DIR"),
    (["--box", "1,2,3"], "3 numbers"),
    (["--box", "a,b,c,d"], "four numbers"),
    (["--box", ""], "four numbers"),
    (["--box", "nan,10,20,20"], r"finite.*96x80"),
    (["--box", "10,10,inf,20"], r"finite.*96x80"),
    (["--box", "10,10,0,20"], r"no size.*96x80"),
    (["--box", "10,10,20,-5"], r"no size.*96x80"),
    (["--box", "96,10,20,20"], r"outside.*96x80"),
    (["--box", "-50,10,20,20"], r"outside.*96x80"),
    (["--box", BOX, "--box", "500,500,5,5"], r"outside.*96x80"),
]
BAD_OPTIONS = [
    (["--start", "100"], "ends before frame 100"),
    (["--sync", "tim"], "did you mean 'time'"),
    (["--length-mismatch", "short"], "shortest"),
    (["--uncertain-below", "0.1"], "lost_below"),
    (["--fps", "-3"], "--fps"),
    (["--fps", "nan"], "--fps"),
]


@pytest.mark.parametrize(("options", "words"), BAD_BOXES + [(["--box", BOX, *o], w) for o, w in BAD_OPTIONS])
def test_bad_boxes_and_options(pair, net, tmp_path, options, words):
    check_refused(run(*pair, "--out", tmp_path / "out", *options), words)
    assert not (tmp_path / "out").exists()


TRUE_OPTIONS = [
    (["--model", "ckd-tinny"], "did you mean 'ckd-tiny'"),
    (["--device", "tpu"], "auto, cpu, cuda"),
    (["--device", "cuda:99"], "CUDA"),
    (["--precision", "fp64"], "precision"),
    (["--device", "cpu", "--precision", "fp16"], "fp32, bf16 or int8"),
    (["--elimination", "max"], "elimination"),
    (["--weights", "/nowhere/weights.safetensors"], "/nowhere/weights.safetensors"),
    (["--weights", __file__], "test_track.py"),
]


@pytest.mark.parametrize(("options", "words"), TRUE_OPTIONS)
def test_options_of_the_true_model(pair, tmp_path, options, words):
    check_refused(run(*pair, "--box", BOX, "--out", tmp_path / "out", *options), words)
    assert not (tmp_path / "out").exists()


def bad_sources(tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    good = write_folder(tmp_path / "good")
    short = write_folder(tmp_path / "short", count=5)
    small = write_folder(tmp_path / "small", size=(48, 40))
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "notes.mp4"
    text.write_text("this is no video")
    whole = write_video(tmp_path / "whole.avi")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return {
        "missing": (["--rgb", tmp_path / "nothing.mp4"], r"nothing\.mp4"),
        "none": ([], "rgb"),
        "empty folder": (["--rgb", empty], "empty"),
        "no video": (["--aux", text], r"notes\.mp4"),
        "truncated": (["--aux", cut], r"cut\.avi.*declares 40"),
        "one image": (["--rgb", good / "000.png"], "folder"),
        "lengths": (["--rgb", good, "--aux", short], "8 frames.*5"),
        "sizes": (["--rgb", good, "--aux", small], "96x80.*48x40"),
        "scheme": (["--rgb", "gopher://example.org/x"], "gopher"),
    }


KINDS = ["missing", "none", "empty folder", "no video", "truncated", "one image", "lengths", "sizes", "scheme"]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_sources(net, tmp_path, kind):
    arguments, words = bad_sources(tmp_path)[kind]
    check_refused(run(*arguments, "--box", BOX, "--out", tmp_path / "out"), words)
    assert not (tmp_path / "out").exists()


def test_a_failure_in_the_middle_leaves_the_folder_as_it_was(pair, net, tmp_path, monkeypatch):
    """Whatever ends the run after some frames: the earlier results stay, nothing is added."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "boxes.txt").write_text("mine\n")
    (out / "notes.txt").write_text("keep\n")
    answer = ScriptedNet.__call__

    def failing(self, **inputs):
        if len(self.calls) == 4:
            raise OSError(28, "No space left on device")
        return answer(self, **inputs)

    monkeypatch.setattr(ScriptedNet, "__call__", failing)
    check_refused(run(*pair, "--box", BOX, "--out", out, "--overwrite"), "No space left.*free some")
    assert (out / "boxes.txt").read_text() == "mine\n"
    assert sorted(path.name for path in out.iterdir()) == ["boxes.txt", "notes.txt"]


@pytest.mark.parametrize("option", ["--box", "--first-frame"])
def test_a_first_frame_without_an_image(net, tmp_path, option):
    rgb = write_folder(tmp_path / "rgb", missing=(0,))
    result = run("--rgb", rgb, "--out", tmp_path / "out", option, BOX if option == "--box" else tmp_path / "out")
    check_refused(result, r"frame 0 has no image.*--start")
    assert not (tmp_path / "out").exists()


def test_the_hint_can_be_pasted(tmp_path):
    result = run("--rgb", tmp_path / "my clip.mp4")
    assert f"--rgb '{tmp_path / 'my clip.mp4'}' --first-frame" in result.stderr


def test_a_truncated_video_is_tracked_when_allowed(net, tmp_path):
    source = bad_sources(tmp_path)["truncated"][0]
    options = [*source, "--box", BOX, "--out", tmp_path / "out", "--no-overlay"]
    assert run(*options, "--allow-truncated").exit_code == 0
    assert 10 < len(lines(tmp_path / "out" / "boxes.txt")) < 30


def test_out_is_a_file(pair, net, tmp_path):
    (tmp_path / "out").write_text("mine")
    check_refused(run(*pair, "--box", BOX, "--out", tmp_path / "out"), "is a file")
    assert (tmp_path / "out").read_text() == "mine"
    check_refused(run(*pair, "--first-frame", tmp_path / "out"), r"rgb\.png: .*out is a file")
    check_refused(run(*pair, "--box", BOX), "--out")


def check_refused(result, words: str) -> None:
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("duotrack: ")
    assert re.search(words, result.stderr), result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_files(pair, net, tmp_path, monkeypatch, number):
    before = signal.getsignal(number)
    answer = ScriptedNet.__call__

    def pressing(self, **inputs):
        if len(self.calls) == 3:
            signal.raise_signal(number)
        return answer(self, **inputs)

    monkeypatch.setattr(ScriptedNet, "__call__", pressing)
    result = run(*pair, "--box", BOX, "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert "Ctrl-C" in result.stdout
    assert len(lines(tmp_path / "out" / "boxes.txt")) == 5  # the frame in hand is finished
    assert cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert signal.getsignal(number) is before


def test_ctrl_c_during_the_first_frame_leaves_that_one(pair, net, tmp_path, monkeypatch):
    init = MultiTracker.init

    def pressing(self, *given):
        signal.raise_signal(signal.SIGINT)
        return init(self, *given)

    monkeypatch.setattr(MultiTracker, "init", pressing)
    result = run(*pair, "--box", BOX, "--out", tmp_path / "out")
    assert result.exit_code == 130, result.output
    assert len(lines(tmp_path / "out" / "boxes.txt")) == 1


def test_ctrl_c_while_waiting_for_a_frame():
    from duotrack.cli.running import interruptible

    def frames():
        yield "first"
        signal.raise_signal(signal.SIGINT)
        yield "never"

    with interruptible() as interrupt:
        assert list(interrupt.guard(frames())) == ["first"]
    assert interrupt.pressed


def test_a_true_run_in_a_process_of_its_own(pair, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "duotrack", "track", *pair, "--box", BOX, "--out", str(out), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(lines(out / "boxes.txt")) == FRAMES
    assert lines(out / "boxes.txt")[0] == "30.0000,20.0000,20.0000,20.0000"
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 2
    assert again.stdout == ""
    assert len(again.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("options", "wanted"), [([], None), (["--redetect"], True), (["--no-redetect"], False)])
def test_redetection_is_the_models_own_or_as_asked(pair, tmp_path, monkeypatch, options, wanted):
    """What the option hands over; what that does is tested with the tracker."""
    asked = []

    def load(name, **given):
        asked.append(given["redetect"])
        raise InputError("enough")

    monkeypatch.setattr("duotrack.tracking.load.load_tracker", load)
    assert run(*pair, "--box", BOX, "--out", tmp_path / "out", *options).exit_code == 2
    assert asked == [wanted]
