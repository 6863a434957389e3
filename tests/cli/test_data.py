"""`duotrack data check`: table, JSON, exit codes."""

import json

import pytest
from typer.testing import CliRunner

from duotrack.cli import app
from sequences import write_sequence


def run(*arguments: object):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


@pytest.fixture
def copy(tmp_path):
    for name in ("one", "two[x]"):
        write_sequence(tmp_path, name, 4)
    return tmp_path


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_nothing_wrong_is_exit_code_0(copy, quick):
    done = run("--dataset", "folder", "--root", copy, *quick)
    assert done.exit_code == 0, done.stderr
    assert "2 sequences, 8 frames" in done.stdout
    assert "nothing is wrong" in done.stdout


def test_a_table_and_exit_code_1(copy):
    (copy / "two[x]" / "visible" / "000001.jpg").write_bytes(b"no image")
    (copy / "notes").mkdir()
    done = run("--dataset", "folder", "--root", copy)
    assert done.exit_code == 1
    for words in ("two[x]", "wrong", "images", "remark", "notes", "1 faults"):
        assert words in done.stdout
    assert run("--dataset", "folder", "--root", copy, "--sequences", "one").exit_code == 0


def test_json(copy):
    (copy / "one" / "infrared" / "000003.jpg").unlink()
    done = run("--dataset", "folder", "--root", copy, "--json", "--workers", "1")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["clean"], found["sequences"], found["images"], found["quick"]) == (False, 2, 15, False)
    assert [(each["sequence"], each["kind"], each["wrong"]) for each in found["findings"]] == [("one", "counts", True)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "foldr"], "folder"),
        (["--dataset", "folder", "--root", "/nowhere"], "/nowhere"),
        (["--dataset", "lasher"], "none of the 245"),
        (["--dataset", "folder", "--sequences", "three"], "three"),
    ],
)
def test_bad_input_is_exit_code_2(copy, options, words):
    done = run("--root", copy, *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_cache_is_built_and_trained_from(copy, tmp_path):
    command = ["data", "cache", "--root", str(copy), "--out", str(tmp_path / "crops"), "--model", "ckd-tiny"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert "2 sequences written, 0 were there" in done.stdout
    again = CliRunner().invoke(app, command)
    assert "0 sequences written, 2 were there" in again.stdout
    assert run("--dataset", "folder", "--root", tmp_path / "crops").exit_code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--layout", "laser"], "did you mean 'lasher'"),
        (["--model", "ckd-tinny"], "ckd-tiny"),
        (["--reach", "0"], "reach"),
        (["--names", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_cache_that_cannot_be_built_is_one_line(copy, tmp_path, change, words):
    done = CliRunner().invoke(app, ["data", "cache", "--root", str(copy), "--out", str(tmp_path / "out"), *change])
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_cache_does_not_replace_its_data(copy):
    done = CliRunner().invoke(app, ["data", "cache", "--root", str(copy), "--out", str(copy)])
    assert done.exit_code == 2
    assert "the data itself" in done.stderr
