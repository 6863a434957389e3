"""`duotrack benchmark`: figures on the screen and in the file, and one line for what cannot be measured."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.cli.benchmark import parse_changes, parse_size
from duotrack.errors import InputError
from sequences import write_sequence


def run(*arguments: object):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


@pytest.mark.slow
def test_what_is_to_be_said_of_weights_is_said_once(capfd):
    """Three processes load the network, one of them to count operations only."""
    few = ["--frames", 3, "--rounds", 1, "--no-peak", "--size", "160x128", "--device", "cpu", "--modalities", "one"]
    assert run("--model", "ipl-tiny", "--compare", "precision=bf16", *few).exit_code == 0
    assert capfd.readouterr().err.count("starts from random weights") == 1


@pytest.mark.slow
def test_two_configurations_are_measured_and_compared(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    few = ["--frames", 3, "--rounds", 1, "--no-peak", "--size", "160x128", "--device", "cpu"]
    done = run(*few, "--modalities", "one", "--compare", "precision=bf16", "--json", tmp_path / "speed.json")
    assert done.exit_code == 0, done.stderr
    for words in ("decode", "crop", "network", "post", "end to end", "frames/s", "GFLOP a frame", "times as fast"):
        assert words in done.stdout
    found = json.loads((tmp_path / "speed.json").read_text())
    assert (found["model"], found["backend"], found["precision"], found["device"]) == (
        "ckd-tiny",
        "torch",
        "fp32",
        "cpu",
    )
    assert found["fps"] == pytest.approx(1000 / found["frame_ms"]["median"])
    assert found["peak_share"] is None
    assert (found["frames"], found["rounds"], found["sources"]) == (3, 1, [])
    assert found["threads"] >= 1
    assert found["processor"]
    assert found["kernels"] in ("amx", "avx512", None)
    assert found["load"] >= 0
    assert found["environment"]["OMP_NUM_THREADS"] == "1"
    assert found["torch"].startswith("2.")
    assert found["duotrack"]
    assert 100 < found["peak_memory_mb"] < 4000
    assert set(found["stages"]) == {"decode", "crop", "network", "post"}
    assert all(stage["median_ms"] > 0 and stage["spread_ms"] >= 0 for stage in found["stages"].values())
    assert found["compared"]["precision"] == "bf16"
    assert found["compared"]["times_faster"]["network"]["median"] > 0


def test_training_is_timed(tmp_path):
    write_sequence(tmp_path / "data", "one")
    small = ["--set", "batch_size=1", "--set", "workers=0", "--batches", 2, "--device", "cpu"]
    done = run("--train", "ckd-tiny-quick", "--data", tmp_path / "data", *small, "--json", tmp_path / "speed.json")
    assert done.exit_code == 0, done.stderr
    assert "pairs/s" in done.stdout
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["pairs_per_second"] > 0
    assert 0 < found["waiting_share"] < 1
    assert (found["recipe"], found["batch_size"]) == ("ckd-tiny-quick", 1)


TRACKING = [
    ["--model", "ckd-base"],
    ["--weights", "a.safetensors"],
    ["--backend", "torch"],
    ["--precision", "fp32"],
    ["--elimination", "none"],
    ["--compare", "precision=bf16"],
    ["--modalities", "two"],
    ["--source", "a.mp4"],
    ["--frames", "20"],
    ["--rounds", "7"],
    ["--no-peak"],
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "640"], "WIDTHxHEIGHT"),
        (["--size", "641x512"], "even"),
        (["--modalities", "three"], "one, two"),
        (["--compare", "backing=openvino"], "did you mean 'backend'"),
        (["--compare", "precision"], "key=value"),
        (["--compare", "precision=bf16,precision=fp32"], "precision twice"),
        (["--json", f"{__file__}/speed.json"], "cannot be written"),
        (["--data", "somewhere"], "--train"),
        (["--photos", "somewhere"], "--photos: only with --train"),
        (["--cutouts", "a", "--batches", "20"], "--cutouts, --batches: only with --train"),
        (["--train", "ckd-tinny"], "did you mean"),
        (["--train", "ckd-tiny-quick", "--photos", "somewhere"], "simulation, which is off"),
        (["--train", "ckd-tiny", "--photos", "nowhere"], "nowhere"),
        *((["--train", "ckd-tiny", *each], f"{each[0]}: only where tracking is timed") for each in TRACKING),
        (["--train", "ckd-tiny", "--model", "a", "--rounds", "2"], "--model, --rounds: only where"),
        (["--train", "ckd-tiny", "--device", "tpu"], "cpu, cuda or auto"),
        (["--source", "nowhere.mp4"], "does not exist"),
        (["--source", "a.mp4", "--size", "320x240"], "leave one out"),
        (["--source", "a.mp4", "--source", "b.mp4", "--modalities", "one"], "modalities"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_simulation_is_timed_from_the_pictures_that_are_given(tmp_path, monkeypatch, caplog):
    """From the same sources as `duotrack train` would draw from, without a word of drawn pictures."""
    used = []

    def pairs_of(sources, *rest):
        used.extend((source.kind, source.simulated and source.simulated.pool.counts) for source in sources)
        raise InputError("enough")

    monkeypatch.setattr("duotrack.training.speed.training_pairs", pairs_of)
    write_sequence(tmp_path / "data", "one")
    for name in ("photos", "objects"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8))
    both = ("--photos", tmp_path / "photos", "--cutouts", tmp_path / "objects")
    kinds = {}
    for case, folders in {"all": ("--data", tmp_path / "data", *both), "pictures": both, "none": ()}.items():
        caplog.clear()
        done = run("--train", "ckd-tiny", *folders, "--device", "cpu", "--size", "64x64")
        assert "enough" in done.stderr
        kinds[case] = [kind for kind, _ in used]
        counts = used[-1][1]
        assert (counts["photos"], counts["cutouts"]) == ((1, 1) if folders else (0, 0))
        assert ("no --photos" in caplog.text) == (not folders)
        used.clear()
    assert kinds == {"all": ["video", "simulation"], "pictures": ["simulation"], "none": ["video", "simulation"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--model", "ckd-tinny"], "ckd-tinny"), (["--backend", "onnxruntime", "--precision", "bf16"], "bf16")],
)
def test_a_tracker_that_cannot_be_loaded_is_one_line(arguments, words):
    done = run("--size", "64x64", "--frames", 3, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("text", "size"), [("640x512", (640, 512)), ("64x8192", (64, 8192))])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "640x", "-640x512", "640x512x3", "32x64", "640x9000", "8192x8192", "６x４"])
def test_sizes_that_are_none(text):
    with pytest.raises(InputError, match="--size"):
        parse_size(text)


def test_changes():
    assert parse_changes("backend=openvino, precision=bf16") == {"backend": "openvino", "precision": "bf16"}


def test_a_folder_as_json_file_is_refused_before_anything_is_measured(tmp_path):
    done = run("--json", tmp_path)
    assert done.exit_code == 2
    assert "cannot be written; name a file" in done.stderr
