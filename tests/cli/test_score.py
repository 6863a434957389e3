"""`duotrack score`."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from duotrack.cli import app

NAMES = ("10runone", "blkboy`shead", "leftgirl'swhitebag")
TRUE = "100,50,40,30\r\n104,52,40,30\r\n0,0,0,0\r\n108,54,42,31\r\n\r\n"
OURS = "100 50 40 30\n104 52 40 30\n90 90 9 9\n300 300 42 31\n"


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["score", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def lasher(tmp_path: Path) -> list[object]:
    for name in NAMES:
        for folder, text in (("truth/lasher_gt", TRUE), ("mine", OURS)):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / f"{name}.txt").write_bytes(text.encode())
    (tmp_path / "truth" / "testingsetList.txt").write_text("\r\n".join(NAMES))
    return ["--benchmark", "lasher", "--ground-truth", tmp_path / "truth", "--results", tmp_path / "mine"]


def test_json_is_one_object(lasher: list[object]) -> None:
    code, out, _ = run(*lasher, "--json", "--attributes", "--per-sequence")
    assert code == 0
    found = json.loads(out)
    assert found["benchmark"] == "lasher"
    assert found["tracker"] == "mine"
    assert found["protocol"].startswith("toolkit: PR at <= 20 px")
    assert (found["sequences"], found["frames"]) == (3, 12)
    assert (found["PR"], found["NPR"]) == (0.75, 0.75)  # the absent frame is a hit
    assert found["SR"] == pytest.approx(0.5 * 20 / 21)
    assert set(found["per_sequence"]) == set(NAMES)
    assert all(set(each) == {"sequences", "PR", "SR", "NPR"} for each in found["attributes"].values())
    assert found["counts"]["absent"] == 3


def test_table_states_the_protocol(lasher: list[object]) -> None:
    code, out, _ = run(
        *lasher, "--attributes", "--per-sequence", "--protocol", "matlab", "--npr", "area", "--tracker", "x"
    )
    assert code == 0
    flat = " ".join(out.split())
    for words in (
        "x on lasher",
        "0.7500",
        "matlab:",
        "area over",
        "box format: ltwh",
        "3 absent",
        "blkboy`shead",
        "attribute",
    ):
        assert words in flat, words
    assert "3 of the benchmark's 245 sequences are scored" in flat


def test_undefined_rates_are_null(tmp_path: Path) -> None:
    for side in ("visible", "infrared"):
        (tmp_path / "truth" / "kite2").mkdir(parents=True, exist_ok=True)
        (tmp_path / "truth" / "kite2" / f"{side}.txt").write_text("10,10,5,5\n")
    (tmp_path / "truth" / "SequencesName.txt").write_text("kite2\n")
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
        archive.writestr("kite2.txt", "10,10,5,5\n")
    code, out, _ = run(
        "--benchmark", "rgbt234", "--ground-truth", tmp_path / "truth", "--results", tmp_path / "theirs.zip", "--json"
    )
    assert code == 0
    assert json.loads(out)["NPR"] is None
    assert json.loads(out)["tracker"] == "theirs"
    assert "MPR" in json.loads(out)["protocol"]


def test_nothing_to_compare_is_null_and_valid_json(tmp_path: Path) -> None:
    for folder, text in (("truth/a", "nan,nan,nan,nan\n"), ("mine", "1,2,3,4\n")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / ("init.txt" if "/" in folder else "a.txt")).write_text(text)
    code, out, _ = run(
        *("--benchmark", "folder", "--ground-truth", tmp_path / "truth", "--results", tmp_path / "mine"),
        *("--json", "--box-format", "ltwh"),
    )
    assert code == 0
    assert "NaN" not in out
    assert json.loads(out)["PR"] is None
    code, out, _ = run(
        *("--benchmark", "folder", "--ground-truth", tmp_path / "truth", "--results", tmp_path / "mine"),
        *("--box-format", "ltwh"),
    )
    assert code == 0
    assert not re.search(r"\bnan\b", out)


def test_long_term(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "list.txt").write_text("bag01_indoor\n")
    (tmp_path / "truth" / "bag01_indoor").mkdir()
    (tmp_path / "truth" / "bag01_indoor" / "groundtruth.txt").write_text("10,10,20,20\nnan,nan,nan,nan\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bag01_indoor.txt").write_text("10,10,20,20\n10,10,20,20\n")
    args = ("--benchmark", "depthtrack", "--ground-truth", tmp_path / "truth", "--results", tmp_path / "mine")
    assert "no confidence files" in run(*args)[1]
    (tmp_path / "mine" / "bag01_indoor_confidence.value").write_text("0.9\n0.1\n")
    assert "precision 1.0000, recall 1.0000, F 1.0000" in run(*args)[1]
    assert json.loads(run(*args, "--json")[1])["longterm"]["F"] == 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"10runone.txt": None}, "1 of 3 sequences have no result file: 10runone"),
        ({"10runone.txt": ""}, "10runone.txt: empty"),
        ({"10runone.txt": "1,2,3,4\n1;2;3;4\n"}, "10runone.txt, line 2: got '1;2;3;4'"),
        ({"10runone.txt": "rubbish"}, "10runone.txt, line 1: got 'rubbish'"),
        ({"10runone.txt": "1,2,3,4\n"}, "mine/10runone.txt: 1 rows for 4 frames"),
    ],
)
def test_bad_input_is_one_line_and_two(
    lasher: list[object], tmp_path: Path, damage: dict[str, str | None], words: str
) -> None:
    for name, text in damage.items():
        (tmp_path / "mine" / name).unlink()
        if text is not None:
            (tmp_path / "mine" / name).write_text(text)
    code, out, err = run(*lasher, "--json")
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--protocol", "tolkit"), "protocol 'tolkit' is not known; did you mean 'toolkit'"),
        (("--npr", "mean"), "npr 'mean' is not known"),
        (("--box-format", "corners"), "box format 'corners' is not known; did you mean 'corner'"),
        (("--benchmark", "lashr"), "did you mean 'lasher'"),
    ],
)
def test_bad_options(lasher: list[object], option: tuple[str, str], words: str) -> None:
    code, _, err = run(*lasher, *option)
    assert code == 2
    assert words in err


def test_allow_missing_says_how_many(lasher: list[object], tmp_path: Path) -> None:
    (tmp_path / "mine" / "10runone.txt").unlink()
    (tmp_path / "mine" / "10runonee.txt").write_text("x")
    code, out, _ = run(*lasher, "--allow-missing")
    assert code == 0
    assert "1 of 3 sequences have no result and are left out: 10runone" in out
    assert "1 files belong to no sequence and are not read: 10runonee.txt" in out
    assert json.loads(run(*lasher, "--allow-missing", "--json")[1])["counts"]["missing"] == 1


@pytest.mark.parametrize(
    ("rows", "frames", "counted"),
    [(21, 3, {}), (3, 3, {"sparse": 1}), (20, 2, {"shorter": 1}), (30, 3, {}), (31, 3, {"longer": 1})],
)
def test_boxes_every_ten_frames(tmp_path: Path, rows: int, frames: int, counted: dict[str, int]) -> None:
    for side in ("rgb", "ir"):
        (tmp_path / "truth" / "bike_003").mkdir(parents=True, exist_ok=True)
        (tmp_path / "truth" / "bike_003" / f"{side}.txt").write_text("10 20 30 40\n" * 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bike_003.txt").write_text("10,20,30,40\n" * rows)
    where = ("--ground-truth", tmp_path / "truth", "--results", tmp_path / "mine")
    code, out, _ = run("--benchmark", "vtuav-st", *where, "--allow-missing", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["PR"], found["frames"]) == (1, frames)
    assert "MPR" in found["protocol"]
    assert {key: count for key, count in found["counts"].items() if count} == counted
