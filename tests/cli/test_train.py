"""The command that trains."""

import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.training.recipe import load_recipe, packaged
from sequences import write_sequence


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["train", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_dry_run_prints_the_resolved_recipe() -> None:
    code, out, _ = run("ckd-tiny", "--dry-run", "--set", "epochs=3")
    assert code == 0
    assert yaml.safe_load(out) == load_recipe("ckd-tiny", ["epochs=3"]).model_dump(mode="json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckd-tyni"], "did you mean 'ckd-tiny'"),
        (["ckd-tiny", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["ckd-tiny-quick"], "--data"),
        (["ckd-tiny", "--data", "."], "--out is missing"),
        (["ckd-tiny", "--data", "nowhere", "--out", "run"], "nowhere: no such folder"),
        (["ckd-tiny", "--data", ".", "--out", "run", "--val", "nowhere"], "nowhere: no such folder"),
        (["ckd-tiny", "--data", ".", "--out", "run", "--val-names", "a.txt"], "give --val FOLDER"),
        (["ckd-tiny", "--stills", ".", "--out", "run", "--names", "a.txt"], "give --data FOLDER"),
        (["ckd-tiny", "--data", ".", "--out", "run", "--device", "tpu"], "--device is cpu, cuda or auto"),
        (["ckd-tiny", "--data", ".", "--out", "run", "--names", "absent.txt"], "absent.txt"),
        (["ckd-tiny", "--data", ".", "--out", "run", "--names", sys.executable], "one sequence a line"),
        (["ckd-base-stage1", "--data", ".", "--out", "run"], "data.split=null"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(*arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith(("duotrack.training", "pytorch_lightning"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    code, _, error = run("ckd-tiny", "--data", str(tmp_path), "--out", str(tmp_path / "run"))
    assert code == 2
    assert "pip install 'duotrack[train]'" in error


def test_every_recipe_is_offered_by_name() -> None:
    assert {"ckd-tiny", "ckd-base-stage1", "ckd-base-stage2", "ckd-base-sot-stage1"} <= set(packaged())


@pytest.mark.slow
def test_the_small_recipe_trains_from_the_command_line(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    for name in ("a", "b"):
        write_sequence(data, name)
    split = tmp_path / "split.txt"
    split.write_text("[train]\na\n[val]\nb\n")
    changes = ["epochs=1", "pairs_per_epoch=4", "batch_size=2", "validation.pairs=2", "workers=1", "log_every=1"]
    code, text, error = run(
        "ckd-tiny",
        *("--data", str(data), "--names", f"{split}:train", "--val", str(data), "--val-names", f"{split}:val"),
        *("--out", str(out), "--device", "cpu"),
        *(part for change in changes for part in ("--set", change)),
    )
    assert code == 0, error
    assert "data: 1 sequences" in text
    assert str(out / "weights.safetensors") in "".join(text.splitlines())
    assert len((out / "metrics.csv").read_text().splitlines()) == 4
