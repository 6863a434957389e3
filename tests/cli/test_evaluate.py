"""`duotrack evaluate`: true runs on small data, killed and started again, shared by ranks, scored; bad input."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.models.zoo import MODELS
from duotrack.weights.safetensor import save_weights
from sequences import write_sequence

FRAMES = {"alpha": 6, "beta": 4, "delta": 5, "gamma": 7}
PATIENCE = 240
"""Seconds after which a test gives up; nothing is timed."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, MODELS["ckd-tiny"].build(), model="ckd-tiny", elimination="none", dtype="fp16")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, frames in FRAMES.items():
        write_sequence(root, name, frames)
    (root / "alpha" / "infrared" / "000002.jpg").write_bytes(b"")
    return root


def command(data: Path, weights: Path, out: Path, *more: object) -> list[str]:
    options = ["--dataset", "folder", "--root", data, "--out", out, "--weights", weights, "--device", "cpu", *more]
    return ["evaluate", *map(str, options)]


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "duotrack", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # a shell's background jobs begin with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition) -> None:
    """Look again and again until the condition holds, or time is up."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.01)


def results(out: Path) -> dict[str, bytes]:
    """Everything that two equal runs have in common."""
    files = (path for path in out.rglob("*") if path.is_file() and not path.name.endswith("_time.txt"))
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def reference(data, weights, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("reference")
    done = invoke(*command(data, weights, out, "--no-score", "--workers", "1"))
    assert done.exit_code == 0, done.stderr
    found = results(out)
    folder = "ckd-tiny/folder"
    assert {f"{folder}/{name}.txt" for name in FRAMES} <= found.keys()
    assert "frame 2: aux: cannot read" in found[f"{folder}/notes/alpha.log"].decode()
    assert "1 images in 1 sequences could not be read" in done.stdout
    return found


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return list(map(int, listed.read_text().split())) if listed.exists() else []


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("options", [["--workers", "2"], ["--workers", "1", "--batch", "3"]], ids=["workers", "batch"])
def test_killed_again_and_again_it_ends_with_the_same_bytes(options, reference, data, weights, tmp_path):
    """SIGKILL when the record is there, when the first result is, when the third is; then to the end."""
    out = tmp_path / "out"
    folder = out / "ckd-tiny" / "folder"
    arguments = command(data, weights, out, "--no-score", *options)

    def finished() -> int:
        return len([name for name in FRAMES if (folder / f"{name}.txt").exists()])

    for reached in (lambda: (folder / "run.json").exists(), lambda: finished() >= 1, lambda: finished() >= 3):
        process = start(arguments)
        wait_until(lambda: reached() or process.poll() is not None)  # noqa: B023
        workers = children(process)
        process.kill()
        process.communicate(timeout=PATIENCE)
        wait_until(lambda: not any(map(alive, workers)))  # noqa: B023 - workers do not outlive their parent
        for name, frames in FRAMES.items():  # what is there is whole
            if (folder / f"{name}.txt").exists():
                assert len((folder / f"{name}.txt").read_text().splitlines()) == frames
    before = {path: path.stat().st_ino for path in folder.glob("*.txt")}
    final = start(arguments)
    stdout, stderr = final.communicate(timeout=PATIENCE)
    assert final.returncode == 0, stderr
    assert results(out) == reference
    kept = [path for path in before if path.stem in FRAMES]
    assert [path.stat().st_ino for path in kept] == [before[path] for path in kept]
    assert f"{len(kept)} were finished before" in stdout


def test_two_ranks_share_the_work(reference, data, weights, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = command(data, weights, tmp_path, "--workers", "1", "--json")
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [start(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(2)]
    ended = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert results(tmp_path) == reference
    assert json.loads(ended[0][0])["sequences"] == len(FRAMES)  # rank 0 alone scores, all sequences
    assert ended[1][0] == ""
    assert "4 sequences tracked, 22 frames" in ended[0][1]


def test_the_ranks_agree_that_a_folder_is_refused(data, weights, tmp_path):
    folder = tmp_path / "ckd-tiny" / "folder"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    arguments = command(data, weights, tmp_path, "--no-score")
    processes = [start(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(2)]
    ended = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [2, 2], ended
    assert all("not a run's record" in stderr for _, stderr in ended)


def test_it_scores_at_the_end(data, weights, tmp_path):
    arguments = command(data, weights, tmp_path, "--workers", "1", "--name", "mine", "--sequences", "beta,delta")
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    score = json.loads(done.stdout)
    assert (score["tracker"], score["benchmark"], score["sequences"], score["frames"]) == ("mine", "folder", 2, 9)
    assert 0 < score["SR"] < 1
    assert score["protocol"].startswith("plain")
    table = invoke(*arguments, "--protocol", "toolkit")
    assert table.exit_code == 0, table.stderr
    assert "2 were finished before" in table.stdout
    assert "toolkit" in table.stdout
    assert re.search(r"\bSR\b", table.stdout)


def test_first_boxes_alone_are_tracked_and_not_scored(weights, tmp_path):
    write_sequence(tmp_path / "data", "lone", 3, boxes="20,24,16,12\n")
    done = invoke(*command(tmp_path / "data", weights, tmp_path / "out", "--workers", "1"))
    assert done.exit_code == 0, done.stderr
    assert "nothing to score" in done.stdout
    assert len((tmp_path / "out/ckd-tiny/folder/lone.txt").read_text().splitlines()) == 3


def test_a_sequence_that_fails_is_named_and_the_others_are_done(weights, tmp_path):
    write_sequence(tmp_path / "data", "fine", 2)
    write_sequence(tmp_path / "data", "lost", 2, boxes="900,24,16,12\n900,24,16,12\n")
    done = invoke(*command(tmp_path / "data", weights, tmp_path / "out", "--workers", "1"))
    assert done.exit_code == 2
    assert "1 of 2 sequences could not be tracked (lost: frame 0: box 900" in done.stderr
    assert (tmp_path / "out/ckd-tiny/folder/fine.txt").exists()


REFUSED = {
    "dataset": (["--dataset", "lashr"], "lasher"),
    "root": (["--root", "/nowhere"], "/nowhere"),
    "sequence": (["--sequences", "alpha,omega"], "omega"),
    "weights": (["--weights", "/nowhere.safetensors"], "/nowhere.safetensors"),
    "model": (["--model", "ckd-tinny"], "ckd-tiny"),
    "protocol": (["--protocol", "toolkitt"], "toolkit"),
    "name": (["--name", "../up"], "no slash"),
    "device": (["--device", "tpu"], "tpu"),
    "precision": (["--precision", "fp16"], "bf16"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_input_is_one_line_and_writes_nothing(kind, data, weights, tmp_path):
    options, words = REFUSED[kind]
    done = invoke(*command(data, weights, tmp_path / "out", "--workers", "1"), *options)
    assert done.exit_code == 2, (done.stdout, done.stderr, done.exception)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_to_go_on(data, weights, tmp_path):
    process = start(command(data, weights, tmp_path, "--no-score", "--workers", "2"))
    wait_until(lambda: any(tmp_path.rglob("run.json")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert "the same command goes on" in stderr
