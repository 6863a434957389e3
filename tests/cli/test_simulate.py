"""`duotrack data simulate`: options, files, exit codes."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.datasets.layouts import open_lasher


def run(*arguments: object):
    return CliRunner().invoke(app, ["data", "simulate", *map(str, arguments)])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, size in (("photos", (150, 200, 3)), ("cutouts", (60, 40, 4)), ("void", None)):
        (root / name).mkdir()
        if size:
            cv2.imwrite(str(root / name / "a.png"), cv2.blur(rng.integers(60, 256, size).astype(np.uint8), (3, 3)))
    (root / "file").write_text("no folder")
    return root


def test_sequences_from_folders(folders, tmp_path):
    options = ("--frames", 6, "--size", "96x80", "--photos", folders / "photos", "--cutouts", folders / "cutouts")
    more = ("--attributes", "CM,SA", "--set", "sky=0", "--set", "procedural=0", "--format", "png", "--dropouts", 0.4)
    done = run(tmp_path / "made", "--sequences", 2, "--seed", 4, *options, *more)
    assert done.exit_code == 0, done.stderr
    assert "2 sequences written, 0 were there" in done.stdout
    assert "CM 2" in done.stdout
    assert "SA 2" in done.stdout
    sequences = open_lasher(tmp_path / "made")
    assert [(sequence.name, len(sequence)) for sequence in sequences] == [("sim4_00000", 6), ("sim4_00001", 6)]
    assert sequences[0].read(0).rgb.shape == (80, 96, 3)
    record = json.loads((tmp_path / "made" / "sim4_00000" / "simulation.json").read_text())
    assert record["made"]["scenes"]["sky"] == 0
    assert sum(row != [1, 1] for row in record["available"]) == 2
    again = run(tmp_path / "made", "--sequences", 3, "--seed", 4, *options, *more)
    assert "1 sequences written, 2 were there" in again.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--photos", "{}/nowhere"], "no such folder"),
        (["--photos", "{}/void"], "holds no picture"),
        (["--cutouts", "{}/file"], "no such folder"),
        (["--attributes", "XX"], "'XX' is not known"),
        (["--attributes", "NO,TO"], "attributes NO and TO"),
        (["--attributes", "LI,TC"], "attributes LI and TC"),
        (["--attributes", "LI", "--set", "night=0"], "LI where night is 0"),
        (["--attributes", "LR", "--set", "smallest=60", "--set", "largest=1"], "none of 3 scenes"),
        (["--size", "17"], "WIDTHxHEIGHT"),
        (["--size", "4096x4096"], "less than or equal to 2048"),
        (["--format", "gif"], "--format gif is not one of"),
        (["--set", "nite=1"], "nite"),
        (["--set", "night"], "key=value"),
        (["--set", "smallest=.inf"], "smallest: Input should be a finite number"),
        (["--set", "smallest=65"], "smallest: Input should be at most the frame's shorter side, 64 pixels, got 65"),
        (["--set", "misalignment=.inf"], "misalignment: Input should be a finite number"),
        (["--set", "misalignment=1e9"], "misalignment: Input should be less than or equal to 50"),
        (["--set", "misalignment=.nan"], "misalignment"),
        (["--set", "night=2"], "night"),
        (["--set", "night=[1"], "not a YAML value"),
        (["--set", "width=64"], "--size"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folders, tmp_path, monkeypatch, options, words):
    monkeypatch.setattr("duotrack.datasets.simulation.writer.TRIES", 3)
    options = [option.format(folders) for option in options]
    done = run(tmp_path / "made", "--sequences", 1, "--frames", 2, "--size", "64x64", *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_output_that_is_a_file_is_refused(folders):
    done = run(folders / "file", "--sequences", 1, "--frames", 2)
    assert done.exit_code == 2
    assert "is a file" in done.stderr
