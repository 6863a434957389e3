"""`duotrack export` through the command line, and tracking with what it wrote."""

import json
from importlib.resources import as_file, files

import cv2
import pytest
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.errors import InputError
from small_net import frame, put_into_zoo

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


def run(*arguments: object):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.xml"])
def test_the_packaged_model_is_exported_and_tracks(tmp_path, name):
    done = run("export", "ckd-tiny", "--out", tmp_path / name, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["model"], said["precision"], said["batch"]) == ("ckd-tiny", "fp32", 1)
    assert said["largest_difference"] < 1e-4
    assert "openvino" in said["trusted"]
    with as_file(files("duotrack").joinpath("demo", "helicopter_thermal.mp4")) as clip:
        common = [
            "track",
            "--aux",
            clip,
            "--box",
            "147,107,65,32",
            "--max-frames",
            4,
            "--no-overlay",
            "--device",
            "cpu",
        ]
        for folder, weights in (("exported", ["--weights", tmp_path / name]), ("torch", [])):
            done = run(*common, "--out", tmp_path / folder, *weights)
            assert done.exit_code == 0, done.output
    ours, theirs = ((tmp_path / folder / "boxes.txt").read_text().split() for folder in ("exported", "torch"))
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        assert [float(each) for each in a.split(",")] == pytest.approx([float(each) for each in b.split(",")], abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "out"), [("small", "net.onnx"), ("ipl", "net.xml"), ("patrack", "net.xml")])
def test_eight_bits_are_fitted_to_frames(tmp_path, monkeypatch, name, out):
    pytest.importorskip("nncf")
    put_into_zoo(monkeypatch)
    for side in range(2):
        folder = tmp_path / "frames" / ("rgb", "aux")[side]
        folder.mkdir(parents=True)
        for i in range(3):
            assert cv2.imwrite(str(folder / f"{i}.png"), frame(2 * i + side))
    options = ["--precision", "int8", "--frames", tmp_path / "frames"]
    done = run("export", name, "--out", tmp_path / out, *options)
    assert done.exit_code == 0, done.output
    assert "largest difference from torch fp32" in done.stdout
    assert f"{name}, int8" in done.stdout
    again = run("export", name, "--out", tmp_path / out, *options)
    assert again.exit_code == 2
    assert "--force" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ckd-tinny", "--out", "net.onnx"], "did you mean 'ckd-tiny'"),
        (["tpf-tiny", "--out", "net.onnx"], "two templates"),
        (["ckd-tiny", "--out", "net.pt"], ".onnx or .xml"),
        (["ckd-tiny", "--out", "net.onnx", "--format", "tflite"], "no format is called 'tflite'"),
        (["ckd-tiny", "--out", "net.onnx", "--precision", "bf16"], "onnx has no precision bf16"),
        (["ckd-tiny", "--out", "net.xml", "--precision", "int8"], "give --frames DIR"),
        (["ckd-tiny", "--out", "net.xml", "--frames", "nowhere"], "only int8"),
        (["ckd-tiny", "--out", "net.xml", "--precision", "int8", "--frames", "nowhere"], "no frames at nowhere"),
        (["ckd-tiny", "--out", "net.xml", "--batch", "many"], "--batch many"),
        (["ckd-tiny", "--out", "net.xml", "--modalities", "bth"], "did you mean 'both'"),
        (["ckd-tiny", "--out", "net.xml", "--elimination", "best"], "knows no elimination 'best'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_nothing_is_loaded(tmp_path, monkeypatch, arguments, words):
    from duotrack.runtime import export

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "build_net", None)
    done = run("export", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("there", "out", "refused"),
    [
        (["net.bin"], "net.xml", True),
        (["net.xml"], "net.xml", True),
        (["net.onnx"], "net.onnx", True),
        (["net.bin"], "net.onnx", False),
    ],
)
def test_neither_file_of_an_export_is_replaced_unasked(tmp_path, monkeypatch, there, out, refused):
    from duotrack.runtime import export

    def reached(*args, **options):
        raise InputError("reached")

    monkeypatch.setattr(export, "export_model", reached)
    for name in there:
        (tmp_path / name).write_text("mine")
    done = run("export", "ckd-tiny", "--out", tmp_path / out)
    assert done.exit_code == 2
    assert ("reached" not in done.stderr) == refused
    assert (f"{tmp_path / there[0]} is there already; give --force" in done.stderr) == refused
    assert "reached" in run("export", "ckd-tiny", "--out", tmp_path / out, "--force").stderr
