"""`duotrack vot` as the toolkit starts it: a process of its own, TraX on its standard input and output."""

import configparser
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from duotrack.cli import app
from vot_sequences import box, write_vot_sequences

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
trax = pytest.importorskip("trax", reason="vot-trax is not installed: pip install 'duotrack[vot]'")
from trax.client import Client  # noqa: E402


def vot(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["vot", *arguments])
    return done.exit_code, done.output


def started(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)  # type: ignore[call-overload]


def test_the_written_command_tracks_from_another_folder(tmp_path):
    sequences = write_vot_sequences(tmp_path / "data")
    workspace = tmp_path / "work space"
    code, said = vot("--channels", "color,ir", "--device", "cpu", "--write-workspace", str(workspace), "--stack", "s")
    assert code == 0, said
    assert f"vot evaluate --workspace '{workspace}' ckd-tiny" in said
    registry = configparser.ConfigParser()
    registry.read(workspace / "trackers.ini")
    command = shlex.split(registry["ckd-tiny"]["command"])
    assert command[0] == sys.executable
    process = started(command, tmp_path)
    heard: list[str] = []
    client = Client(stream=(process.stdin.fileno(), process.stdout.fileno()), log=heard.append)
    assert (client.tracker_name, client.channels) == ("ckd-tiny", ["color", "ir"])

    def images(index: int) -> dict[str, object]:
        name = f"{index + 1:08d}.jpg"
        return {c: trax.FileImage.create(str(sequences / "ball" / c / name)) for c in client.channels}

    for _ in range(2):  # and once more: one process does many sequences
        client.initialize(images(0), [(trax.Rectangle.create(*box(0)), {})], {})
        for index in range(1, 4):
            ((region, properties),), _ = client.frame(images(index), {}, [])
            x, y, w, h = region.bounds()
            centre = (x + w / 2, y + h / 2)
            assert centre == pytest.approx((box(index)[0] + 10, box(index)[1] + 8), abs=8)
            assert 0 < float(properties["confidence"]) <= 1
    client.quit()
    assert process.wait(30) == 0
    rest, errors = process.communicate()
    assert (rest, errors) == (b"", b"")
    lines = "".join(heard).replace("\x00", "").split("\n")
    assert all(line.startswith("@@TRAX:") for line in lines if line.strip())


def test_a_session_that_fails_ends_with_code_2_and_one_line(tmp_path):
    sequences = write_vot_sequences(tmp_path / "data")
    process = started([sys.executable, "-m", "duotrack", "vot", "--channels", "depth", "--device", "cpu"], tmp_path)
    client = Client(stream=(process.stdin.fileno(), process.stdout.fileno()), log=lambda text: None)
    image = {"depth": trax.FileImage.create(str(sequences / "ball" / "ir" / "00000001.jpg"))}
    with pytest.raises(trax.TraxException, match="pixels have 8 bits"):
        client.initialize(image, [(trax.Rectangle.create(*box(0)), {})], {})
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    client.quit()
    assert errors.decode().count("duotrack: ") == 1
    assert "Traceback" not in errors.decode()


def test_nobody_there(tmp_path):
    process = started([sys.executable, "-m", "duotrack", "vot", "--device", "cpu"], tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the client went away" in errors.decode()


def test_a_person_at_a_terminal_is_told_what_this_is(monkeypatch):
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("TRAX_SOCKET", raising=False)
    monkeypatch.setattr("sys.stdin", Terminal())
    from duotrack.cli.vot import vot as command
    from duotrack.errors import InputError

    with pytest.raises(InputError, match="make it a workspace with --write-workspace"):
        command()


def test_every_option_reaches_the_command(tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"looked at when the tracker starts")
    options = [
        "--channels",
        "depth,color",
        "--model",
        "ckd-base",
        "--weights",
        os.path.relpath(weights),
        "--name",
        "mine",
    ]
    options += ["--precision", "bf16", "--elimination", "ce", "--depth-colours", "rgb", "--device", "cpu"]
    code, said = vot(*options, "--write-workspace", str(tmp_path / "ws"), "--stack", "vot2022/rgbd")
    assert code == 0, said
    registry = configparser.ConfigParser()
    registry.read(tmp_path / "ws" / "trackers.ini")
    command = shlex.split(registry["mine"]["command"])
    given = dict(zip(command[4::2], command[5::2], strict=True))
    assert Path(given.pop("--weights")).samefile(weights)
    assert given == {
        "--channels": "color,depth",
        "--model": "ckd-base",
        "--name": "mine",
        "--device": "cpu",
        "--precision": "bf16",
        "--elimination": "ce",
        "--depth-colours": "rgb",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "color,event"], "channels 'color,event' are none of"),
        (["--depth-colours", "grb"], "neither bgr nor rgb"),
        (["--model", "ckd-tyni"], "did you mean 'ckd-tiny'"),
        (["--model", "ckd-base"], "give a file with --weights"),
        (["--weights", "gone.safetensors"], "no such weights file"),
        (["--write-workspace", "ws"], "--write-workspace needs --stack"),
        (["--stack", "vot2022/rgbd"], "add --write-workspace DIR"),
        (["--write-workspace", "ws", "--stack", "s", "--sequences", "gone"], "no such folder"),
        (["--write-workspace", "ws", "--stack", "s", "--name", "a b"], "letters, digits, hyphens and underscores"),
        (["--device", "tpu", "--write-workspace", "ws", "--stack", "s"], "no device is called 'tpu'"),
        (["--elimination", "cee", "--write-workspace", "ws", "--stack", "s"], "knows no elimination 'cee'"),
        (["--channels", "color", "--depth-colours", "rgb"], "but there are no auxiliary frames; leave it out"),
        (["--precision", "fp8", "--write-workspace", "ws", "--stack", "s"], "no precision is called 'fp8'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, said = vot(*options)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_weights_for_other_frames_are_refused_when_the_workspace_is_written(tmp_path):
    weights = tmp_path / "depth.safetensors"
    save_file({"w": np.zeros(1, np.float32)}, weights, metadata={"task": "depth"})
    options = ["--weights", str(weights), "--write-workspace", str(tmp_path / "ws"), "--stack", "s"]
    code, said = vot("--channels", "color,ir", *options)
    assert (code, (tmp_path / "ws").exists()) == (2, False)
    assert "was trained on RGB and depth, the auxiliary frames are thermal" in said
    assert vot("--channels", "color,depth", *options)[0] == 0


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "trax", None)
    code, said = vot()
    assert code == 2
    assert said == "duotrack: this needs vot-trax, which is not installed; pip install 'duotrack[vot]'\n"
