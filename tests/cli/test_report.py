"""`duotrack report`."""

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from duotrack.cli import app

pytest.importorskip("matplotlib")

SEQUENCES = ("alpha", "beta", "gamma")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def boxes(shift: float, count: int = 12) -> str:
    return "".join(f"{10 + i + shift * i},{20 + i},30,40\n" for i in range(count))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder benchmark of three sequences, and the results of two trackers; one of them was timed."""
    for name in SEQUENCES:
        truth = tmp_path / "truth" / name
        truth.mkdir(parents=True)
        (truth / "groundtruth.txt").write_text(boxes(0))
        for tracker, shift in (("good", 0.1), ("poor", 2.5)):
            (tmp_path / tracker).mkdir(exist_ok=True)
            (tmp_path / tracker / f"{name}.txt").write_text(boxes(shift))
        (tmp_path / "good" / f"{name}_time.txt").write_text("1.0\n" + "0.05\n" * 11)
    return tmp_path


def arguments(files: Path, *more: object) -> list[object]:
    fixed = ["--benchmark", "folder", "--ground-truth", files / "truth", "--out", files / "out"]
    return [*fixed, "--results", files / "good", files / "poor", *more]


def test_two_trackers(files: Path) -> None:
    result = run(*arguments(files, "--baseline", "poor"))
    assert result.exit_code == 0, result.output
    assert "good: PR 100.0" in result.output
    page = (files / "out" / "report.html").read_text(encoding="utf-8")
    assert "Best other less poor" in page
    assert "Among published" not in page  # nothing is published of a folder
    rows = list(csv.DictReader((files / "out" / "tables" / "overall.csv").open(newline="")))
    assert [row["Tracker"] for row in rows] == ["good", "poor"]
    assert float(rows[0]["FPS"]) == pytest.approx(20)
    assert rows[1]["FPS"] == ""
    assert rows[0]["Protocol"]


def test_names_may_be_given(files: Path) -> None:
    result = run(*arguments(files, f"<b>&$_={files / 'poor'}"))
    assert result.exit_code == 0, result.output
    assert "&lt;b&gt;&amp;$_" in (files / "out" / "report.html").read_text(encoding="utf-8")
    assert r"<b>" not in (files / "out" / "tables" / "overall.tex").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--benchmark", "foldr"], "did you mean 'folder'"),
        (["--protocol", "tolkit"], "did you mean 'toolkit'"),
        (["--baseline", "god"], "did you mean 'good'"),
        (["--results", "nowhere"], "nowhere is not there"),
        (["--results", "=x"], "got '=x'"),
    ],
)
def test_mistakes_are_one_line(files: Path, change: list[str], message: str) -> None:
    result = run(*arguments(files), *change)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (files / "out").exists()


def test_two_results_of_one_name(files: Path) -> None:
    result = run(*arguments(files, files / "good"))
    assert result.exit_code == 2
    assert "NAME=" in result.stderr


def test_missing_sequences(files: Path) -> None:
    (files / "poor" / "beta.txt").unlink()
    result = run(*arguments(files))
    assert result.exit_code == 2
    assert "beta" in result.stderr
    assert run(*arguments(files, "--allow-missing")).exit_code == 0
    page = (files / "out" / "report.html").read_text(encoding="utf-8")
    assert "left out" in page
    said = (
        "Not scored on the same sequences, so the rates do not compare directly. good: 3 of 3 sequences; poor: 2 of 3"
    )
    assert f"<dd>{said}" in page
    assert f"<p>{said}" in page
    assert re.search(f"<figcaption>Success[^<]*{said}", page)


def test_long_term(tmp_path: Path) -> None:
    truth = tmp_path / "truth" / "bag01_indoor"
    truth.mkdir(parents=True)
    (tmp_path / "truth" / "list.txt").write_text("bag01_indoor\n")
    (truth / "groundtruth.txt").write_text("10,10,20,20\nnan,nan,nan,nan\n")
    for tracker, confidences in (("sure", "0.9\n0.9\n"), ("wise", "0.9\n0.1\n")):
        (tmp_path / tracker).mkdir()
        (tmp_path / tracker / "bag01_indoor.txt").write_text("10,10,20,20\n10,10,20,20\n")
        (tmp_path / tracker / "bag01_indoor_confidence.value").write_text(confidences)
    where = ["--benchmark", "depthtrack", "--ground-truth", tmp_path / "truth", "--out", tmp_path / "out"]
    result = run(*where, "--results", tmp_path / "sure", tmp_path / "wise")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "out" / "tables" / "overall.csv").open(newline="")))
    assert [(row["Tracker"], float(row["Pr"]), float(row["Re"])) for row in rows] == [("wise", 1, 1), ("sure", 0.5, 1)]
    assert [float(row["F"]) for row in rows] == pytest.approx([1, 2 / 3])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '<button type="button">F</button>' in page
    assert "where F is largest" in page
    assert (tmp_path / "out" / "figures" / "longterm.pdf").is_file()


def test_a_folder_in_use(files: Path) -> None:
    (files / "out").mkdir()
    (files / "out" / "mine.txt").write_text("mine")
    result = run(*arguments(files))
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert run(*arguments(files, "--overwrite")).exit_code == 0
    assert (files / "out" / "mine.txt").read_text() == "mine"


def test_without_matplotlib(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    result = run(*arguments(files))
    assert result.exit_code == 2
    assert "pip install 'duotrack[eval]'" in result.stderr


def test_real_results_among_published_numbers(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "evaluation"
    raw = [data / "raw_GTOT_JMMAC.zip", data / "raw_GTOT_MIRNet.zip"]
    out = tmp_path / "out"
    result = run("--benchmark", "gtot", "--ground-truth", data / "gt_GTOT.zip", "--results", *raw, "--out", out)
    assert result.exit_code == 0, result.output
    assert re.search(r"^JMMAC: MPR \d\d\.\d, MSR \d\d\.\d \(toolkit: MPR at", result.output, re.MULTILINE)
    reference = json.loads((data / "reference.json").read_text())
    rows = {row["Tracker"]: row for row in csv.DictReader((out / "tables" / "overall.csv").open(newline=""))}
    for name in ("JMMAC", "MIRNet"):
        for metric, value in reference[f"GTOT/{name}"]["toolkit_exact"].items():
            assert float(rows[name][metric]) == pytest.approx(value, abs=1e-5)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Measured here" in page
    assert "CKD paper, Table I" in page
    attributes = list(csv.DictReader((out / "tables" / "attributes_PR.csv").open(newline="")))
    assert [(row["Attribute"], row["Sequences"]) for row in attributes][:2] == [("OCC", "26"), ("LSV", "28")]
    again = run(
        "--benchmark",
        "gtot",
        "--ground-truth",
        data / "gt_GTOT.zip",
        "--results",
        raw[0],
        "--out",
        out,
        "--no-published",
    )
    assert again.exit_code == 0, again.output
    assert "CKD paper" not in (out / "report.html").read_text(encoding="utf-8")
