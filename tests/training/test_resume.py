"""A run that is killed and resumed is the run that was not."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import toy_training
from duotrack.errors import InputError
from duotrack.training.data import Folders
from duotrack.training.fit import fit
from sequences import write_sequence
from toy_training import small_net, small_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_sequence(root, "pair")
    write_sequence(root, "single", modalities=("visible",))
    return root


def train(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, toy_training.__file__, str(data), str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(out / "weights.safetensors") for out in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = train(data, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch", "kept"), [("SIGKILL", 6, 3), ("SIGINT", 5, 5)])
def test_interrupted_and_resumed_equals_uninterrupted(
    data: Path, uninterrupted: Path, tmp_path: Path, name: str, batch: int, kept: int
) -> None:
    out = tmp_path / "run"
    stopped = train(data, out, "--signal", name, str(batch))
    assert stopped.returncode == (-signal.SIGKILL if name == "SIGKILL" else 1), stopped.stderr
    assert not (out / "weights.safetensors").exists()

    resumed = train(data, out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumes after batch {kept} of 8" in resumed.stdout
    whole = rows(uninterrupted)
    assert [row["split"] for row in whole] == ["train"] * 4 + ["val"] + ["train"] * 4 + ["val"]
    assert rows(out) == whole
    assert same_weights(out, uninterrupted)


def test_a_finished_run_only_writes_its_weights_again(data: Path, uninterrupted: Path) -> None:
    before = load_file(uninterrupted / "weights.safetensors")
    (uninterrupted / "weights.safetensors").unlink()
    folders = Folders((data,))
    fit(small_recipe(), folders, uninterrupted, validation=folders, resume=True, net=small_net())
    after = load_file(uninterrupted / "weights.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 7}, "seed was 42"),
        ({"epochs": 3}, "epochs was 2"),
        ({"method": {**toy_training.RECIPE["method"], "mask_ratio": 0.5}}, "method.mask_ratio was 0.25"),
    ],
)
def test_resume_refuses_another_recipe(
    data: Path, uninterrupted: Path, changes: dict[str, object], message: str
) -> None:
    folders = Folders((data,))
    with pytest.raises(InputError, match=message):
        fit(small_recipe(**changes), folders, uninterrupted, validation=folders, resume=True, net=small_net())


def test_resume_refuses_other_data(uninterrupted: Path, tmp_path: Path) -> None:
    write_sequence(tmp_path, "other")
    folders = Folders((tmp_path,))
    with pytest.raises(InputError, match="the training data differs"):
        fit(small_recipe(), folders, uninterrupted, validation=folders, resume=True, net=small_net())


def test_a_used_folder_is_not_overwritten(data: Path, uninterrupted: Path) -> None:
    with pytest.raises(InputError, match="--resume"):
        fit(small_recipe(), Folders((data,)), uninterrupted, net=small_net())
