"""Result files in every form, and what is said of broken ones."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from duotrack.datasets.ground_truth import GroundTruth
from duotrack.errors import InputError
from duotrack.evaluation.results import read_results, to_ltwh

TRUE = np.array([[100.0, 50, 40, 30], [104, 52, 40, 30], [108, 54, 42, 31]])
NAMES = ("car", "blkboy`shead", "OccCar-1")


def truths(names: tuple[str, ...] = NAMES, boxes: np.ndarray = TRUE) -> list[GroundTruth]:
    return [GroundTruth(name, (boxes,), np.arange(len(boxes))) for name in names]


def corners(box: np.ndarray) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def text(rows: object, gap: str = ",", end: str = "\n", form: str = "{:g}") -> str:
    return end.join(gap.join(form.format(value) for value in row) for row in np.asarray(rows)) + end


def put(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())
    return root


@pytest.mark.parametrize(
    ("gap", "end", "form"), [(",", "\n", "{:g}"), (" ", "\r\n", "{:.18e}"), ("\t", "\n", "{:.3f}")]
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pattern", ["{}.txt", "our_{}.txt", "GTOT/mine/{}.txt", "{0}/{0}_001.txt"])
def test_forms(tmp_path: Path, gap: str, end: str, form: str, packed: bool, pattern: str) -> None:
    files = {pattern.format(name): text(TRUE + 1, gap, end, form) for name in NAMES}
    root = put(tmp_path / "mine", files)
    if packed:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        root = tmp_path / "mine.zip"
    results = read_results(root, truths())
    assert list(results.boxes) == list(NAMES)
    assert results.tracker == "mine"
    assert results.format == "ltwh"
    for rows in results.boxes.values():
        np.testing.assert_allclose(rows, TRUE + 1)
    assert any("box format: ltwh" in note for note in results.notes)
    assert any("our_<sequence>" in note for note in results.notes) == ("our_" in pattern)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (TRUE, "ltwh"),
        (np.concatenate([TRUE[:, :2], TRUE[:, :2] + TRUE[:, 2:]], axis=1), "ltrb"),
        (np.concatenate([TRUE[:, :2] + TRUE[:, 2:] / 2, TRUE[:, 2:]], axis=1), "xywh"),
        (np.array([corners(box) for box in TRUE]), "corner"),
    ],
)
def test_format_is_found_and_converted(tmp_path: Path, rows: np.ndarray, expected: str) -> None:
    results = read_results(put(tmp_path, {f"{name}.txt": text(rows) for name in NAMES}), truths())
    assert results.format == expected
    for read in results.boxes.values():
        np.testing.assert_allclose(to_ltwh(read, results.format), TRUE)
        larger = to_ltwh(read, results.format, plus_one=True) - TRUE
        assert np.all(larger == ([0, 0, 1, 1] if expected in ("ltrb", "corner") else 0))


def test_first_rows_that_tell_nothing(tmp_path: Path) -> None:
    rows = np.concatenate([[[0, 0, 0, 0]], TRUE[1:]])
    results = read_results(put(tmp_path, {f"{name}.txt": text(rows) for name in NAMES}), truths())
    assert results.format == "ltwh"
    assert any("first rows do not tell" in note for note in results.notes)


@pytest.mark.parametrize(
    ("rows", "boxes"),
    [
        ([[300, 300, 310, 310]] * 3, TRUE),  # never near the target
        ([[0, 0, 40, 30]] * 3, np.array([[0.0, 0, 40, 30]] * 3)),  # both readings are the same box
    ],
)
def test_nothing_is_guessed(tmp_path: Path, rows: list[list[float]], boxes: np.ndarray) -> None:
    root = put(tmp_path, {f"{name}.txt": text(rows) for name in NAMES})
    with pytest.raises(InputError, match=r"the box format is not clear .* give --box-format ltwh or ltrb or xywh"):
        read_results(root, truths(boxes=boxes))
    results = read_results(root, truths(boxes=boxes), box_format="ltwh")
    assert results.format == "ltwh"
    assert any("as given" in note for note in results.notes)


def test_given_format_must_fit(tmp_path: Path) -> None:
    root = put(tmp_path, {f"{name}.txt": text(TRUE) for name in NAMES})
    with pytest.raises(InputError, match=r"box format corner is eight numbers.*have 4 values"):
        read_results(root, truths(), box_format="corner")
    with pytest.raises(InputError, match="box format 'ltwx' is not known; did you mean 'ltwh'"):
        read_results(root, truths(), box_format="ltwx")


def test_missing_and_extra(tmp_path: Path) -> None:
    root = put(tmp_path, {"car.txt": text(TRUE), "other.txt": "rubbish", "car_time.txt": "0.1\n", "notes.md": "x"})
    with pytest.raises(InputError, match="2 of 3 sequences have no result file: blkboy`shead, OccCar-1; complete"):
        read_results(root, truths())
    results = read_results(root, truths(), allow_missing=True, tracker="mine")
    assert results.missing == ("blkboy`shead", "OccCar-1")
    assert results.tracker == "mine"
    assert "2 of 3 sequences have no result and are left out: blkboy`shead, OccCar-1" in results.notes
    assert "1 files belong to no sequence and are not read: other.txt" in results.notes


def test_no_results_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no result file is there, such as car\.txt \(it has no text file\)"):
        read_results(tmp_path, truths(), allow_missing=True)
    put(tmp_path, {"a.txt": "1"})
    with pytest.raises(InputError, match=r"\(it has a\.txt\)"):
        read_results(tmp_path, truths())
    with pytest.raises(InputError, match="no such folder or zip"):
        read_results(tmp_path / "none", truths())


def test_quotation_marks_may_be_lost(tmp_path: Path) -> None:
    root = put(tmp_path, {f"{name}.txt": text(TRUE) for name in ("car", "blkboyshead", "OccCar-1")})
    results = read_results(root, truths())
    assert len(results.boxes) == 3
    assert "blkboyshead.txt is taken for blkboy`shead: they differ in quotation marks only" in results.notes


def test_two_sets_of_results(tmp_path: Path) -> None:
    put(tmp_path, {f"{kind}/{name}.txt": text(TRUE) for kind in ("a", "b") for name in NAMES})
    with pytest.raises(InputError, match="more than one set of results"):
        read_results(tmp_path, truths())
    put(tmp_path, {f"{name}.txt": text(TRUE) for name in NAMES})  # those given directly win, and it is said
    results = read_results(tmp_path, truths())
    assert any("6 files belong to no sequence" in note for note in results.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"car\.txt: empty"),
        ("100,50,40,30\n104;52;40;30\n", r"car\.txt, line 2: got '104;52;40;30'.*not by ';'"),
        ("100,50,40,30\nrubbish\n", r"car\.txt, line 2: got 'rubbish'"),
        ("100,50,40\n", r"car\.txt, line 1: got 3 values"),
        (text([corners(TRUE[0])]), r"car\.txt, line 1: got 8 values; the other files have 4 a row"),
    ],
)
@pytest.mark.parametrize("allow_missing", [False, True])
def test_broken_files_are_named(tmp_path: Path, content: str, message: str, allow_missing: bool) -> None:
    put(tmp_path, {f"{name}.txt": text(TRUE) for name in NAMES} | {"car.txt": content})
    with pytest.raises(InputError, match=message):
        read_results(tmp_path, truths(), allow_missing=allow_missing)


def test_blank_lines_are_said(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}.txt": text(TRUE, end="\n\n") for name in NAMES})
    results = read_results(tmp_path, truths())
    assert results.blank == 6
    assert "6 blank lines between rows were skipped" in results.notes


def test_confidences_and_codes_of_the_vot_toolkit(tmp_path: Path) -> None:
    for name in NAMES:
        put(
            tmp_path,
            {
                f"{name}/{name}_001.txt": "1\n" + text(TRUE[1:]),
                f"{name}/{name}_001_confidence.value": "\n0.5\n0.25\n",
            },
        )
    results = read_results(tmp_path, truths())
    assert np.isnan(results.boxes["car"][0]).all()
    np.testing.assert_array_equal(results.boxes["car"][1:], TRUE[1:])
    assert set(results.confidences) == set(NAMES)
    for confidences in results.confidences.values():  # the first line is blank: no confidence in the first frame
        np.testing.assert_array_equal(confidences, [np.nan, 0.5, 0.25])


RECORD = '{"model": "m", "dataset": "d", "sequences": {}, "mask": "0123456789abcdef", "redetect": true}'


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", ["", "d/", "a/d/"])
def test_runs_of_our_own_are_called_by_the_folder_above(tmp_path: Path, packed: bool, inside: str) -> None:
    """`<tracker>/<benchmark>/`: below the given folder, or around it."""
    files = {f"{inside}{name}.txt": text(TRUE) for name in NAMES} | {f"{inside}run.json": RECORD}
    root = put(tmp_path / "b" / "e", files)
    around = {"": "b", "d/": "e", "a/d/": "a"}
    if packed:
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            for name in files:
                archive.write(root / name, name)
        root, around = tmp_path / "z.zip", {"": "z", "d/": "z", "a/d/": "a"}
    found = read_results(root, truths())
    assert (found.tracker, found.mask) == (around[inside], "0123456789abcdef")
    assert "made under masks of missing modalities (0123456789ab)" in found.notes
    assert "made with re-detection: not standard one-pass results" in found.notes
    assert read_results(root, truths(), tracker="mine").tracker == "mine"


@pytest.mark.parametrize("record", ["", "[1]", "{}", "[" * 90_000, '{"model": "m"}'])
def test_records_of_other_programs_say_nothing(tmp_path: Path, record: str) -> None:
    files = {f"{name}.txt": text(TRUE) for name in NAMES} | {"run.json": record}
    found = read_results(put(tmp_path / "mine", files), truths())
    assert (found.tracker, found.mask) == ("mine", None)
