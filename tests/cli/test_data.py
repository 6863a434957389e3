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
