"""What is found in a damaged copy of a benchmark, and that a faultless copy is called so."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.check import Check, check_benchmark
from duotrack.datasets.headers import Header, read_header
from duotrack.errors import InputError
from sequences import HEIGHT, WIDTH, scene, write_sequence

FOLDER = benchmark("folder")


def check(root: Path, **options: object) -> Check:
    return check_benchmark(FOLDER, root, workers=2, **options)


def kinds(found: Check, *, wrong: bool = True) -> set[tuple[str, str]]:
    return {(finding.sequence, finding.kind) for finding in found.findings if finding.wrong == wrong}


@pytest.fixture
def copy(tmp_path) -> Path:
    for name in ("one", "two"):
        write_sequence(tmp_path, name, 12)
    return tmp_path


@pytest.mark.parametrize("quick", [False, True])
def test_a_faultless_copy_is_clean(copy, quick):
    found = check(copy, quick=quick)
    assert found.clean
    assert found.findings == ()
    assert (found.sequences, found.frames, found.images, found.quick) == (2, 24, 48, quick)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def rows(folder: Path, count: int, text: str = "20,24,16,12\n") -> None:
    (folder / "init.txt").write_text(text * count)


def another_size(path: Path) -> None:
    cv2.imwrite(str(path), scene(0, "visible")[: HEIGHT // 2])


def shrink_a_side(folder: Path) -> None:
    for path in (folder / "infrared").iterdir():
        another_size(path)


def count_up(folder: Path) -> None:
    for side in ("visible", "infrared"):
        for i in range(12):
            (folder / side / f"{i:06d}.jpg").rename(folder / side / f"{i}.jpg")


# what is done to sequence "one"; the kind of finding; words of it; whether decoding is needed to see it
FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut off": (lambda f: cut_off(f / "visible/000003.jpg"), "images", "1 of 12 in visible/.*: 000003.jpg"),
    "empty": (lambda f: (f / "infrared/000003.jpg").write_bytes(b""), "images", "1 of 12 in infrared/"),
    "no image": (lambda f: (f / "infrared/000003.jpg").write_text("hello"), "images", "000003.jpg"),
    "frame gone": (lambda f: (f / "infrared/000011.jpg").unlink(), "counts", "/ 12 images, infrared/ 11.*12 rows"),
    "row gone": (lambda f: rows(f, 11), "counts", "visible/ 12 .* init.txt 11 rows"),
    "rows too many": (lambda f: rows(f, 14), "counts", "14 rows"),
    "boxes gone": (lambda f: (f / "init.txt").unlink(), "boxes", "init.txt: no such box file"),
    "boxes empty": (lambda f: rows(f, 0), "boxes", "empty"),
    "boxes rubbish": (lambda f: rows(f, 12, "a,b,c,d\n"), "boxes", "line 1"),
    "first box": (lambda f: rows(f, 12, "0,0,0,0\n"), "boxes", "cannot start a tracker: 0,0,0,0"),
    "one size changes": (lambda f: another_size(f / "visible/000005.jpg"), "size", f"visible/ differ: {WIDTH}x"),
    "sides differ": (shrink_a_side, "size", f"the modalities differ: visible {WIDTH}x{HEIGHT}, infrared {WIDTH}x"),
    "no frames": (lambda f: [p.unlink() for p in (f / "visible").iterdir()], "modality", "visible/ holds no"),
    "neither side": (lambda f: [shutil.rmtree(f / s) for s in ("visible", "infrared")], "modality", "no frames at all"),
    "text order": (count_up, "order", "1.jpg, 10.jpg|10.jpg, 11.jpg|11.jpg, 2.jpg"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
def test_faults_are_found_where_they_are(fault, quick, copy):
    damage, kind, words = FAULTS[fault]
    damage(copy / "one")
    found = check(copy, quick=quick)
    assert not found.clean
    assert ("one", kind) in kinds(found)
    assert {sequence for sequence, _ in kinds(found)} == {"one"}
    details = [finding.detail for finding in found.findings if finding.kind == kind]
    assert any(re.search(words, detail) for detail in details), details


def test_only_decoding_finds_damage_in_the_middle(copy):
    path = copy / "one" / "visible" / "000002.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    (copy / "one" / "visible" / "000002.jpg").unlink()
    data = bytearray(path.read_bytes())
    data[60:4000] = bytes(3940)
    path.write_bytes(data)
    assert kinds(check(copy)) == {("one", "images")}
    assert check(copy, quick=True).clean


REMARKS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "one modality": (lambda f: shutil.rmtree(f / "infrared"), "modality", "no infrared/"),
    "other files": (lambda f: (f / "visible/Thumbs.db").write_text("x"), "other files", "Thumbs.db"),
    "gap": (lambda f: [(f / s / "000011.jpg").rename(f / s / "000020.jpg") for s in ("visible", "infrared")],
            "names", "jump 1 times in visible/, first from 000010.jpg to 000020.jpg"),
    "two names": (lambda f: (f / "visible/000011.jpg").rename(f / "visible/v000011.jpg"), "names", "have two names"),
    "absent": (lambda f: (f / "init.txt").write_text("20,24,16,12\n" * 8 + "0,0,0,0\n" * 4), "absent", "4 of 12"),
    "odd": (lambda f: (f / "init.txt").write_text("20,24,16,12\n" * 8 + "500,2,9,9\n" * 4), "odd boxes", "4 lie.* 9$"),
    "first box alone": (lambda f: rows(f, 1), "boxes", "first frame only"),
}  # fmt: skip


@pytest.mark.parametrize("remark", REMARKS)
def test_remarks_are_no_faults(remark, copy):
    change, kind, words = REMARKS[remark]
    change(copy / "one")
    found = check(copy)
    assert found.clean
    assert ("one", kind) in kinds(found, wrong=False)
    details = [finding.detail for finding in found.findings if finding.kind == kind]
    assert any(re.search(words, detail) for detail in details), details


def test_folders_that_are_no_sequences_are_named(copy):
    (copy / "results").mkdir()
    found = check(copy)
    assert found.clean
    assert [(f.kind, f.sequence) for f in found.findings] == [("extra folders", "")]
    assert "results" in found.findings[0].detail


def test_a_published_list_tells_what_is_missing(tmp_path):
    """A copy of GTOT with 48 of its 50 sequences, one of them without a ground truth to score with."""
    which = benchmark("gtot")
    names = list(which.paths)
    for name in names[:48]:
        folder = write_sequence(tmp_path, name, 2)
        (folder / "visible").rename(folder / "v")
        (folder / "infrared").rename(folder / "i")
        for side in "vi":
            (folder / f"groundTruth_{side}.txt").write_text("20 24 36 36\n21 24 37 36\n")
    (tmp_path / names[0] / "groundTruth_i.txt").unlink()
    (tmp_path / names[1] / "groundTruth_v.txt").write_text("20 24 36 36\n\n")
    shutil.rmtree(tmp_path / names[2] / "i")
    found = check_benchmark(which, tmp_path, quick=True)
    assert kinds(found) == {
        (names[48], "missing"),
        (names[49], "missing"),
        (names[0], "ground truth"),
        (names[1], "counts"),
        (names[2], "modality"),
    }
    assert kinds(found, wrong=False) == set()
    assert check_benchmark(which, tmp_path, names=names[3:48]).clean


def test_sparse_labels_are_counted_as_such(tmp_path):
    which = benchmark("vtuav-st")
    name = next(iter(which.paths))
    folder = write_sequence(tmp_path, name, 21)
    (folder / "visible").rename(folder / "rgb")
    (folder / "infrared").rename(folder / "ir")
    for side in ("rgb", "ir"):
        (folder / f"{side}.txt").write_text("20 24 16 12\n" * 3)
    assert check_benchmark(which, tmp_path, names=[name]).clean
    (folder / "ir.txt").write_text("20 24 16 12\n" * 2)
    found = check_benchmark(which, tmp_path, names=[name])
    assert kinds(found) == {(name, "counts")}
    assert "every 10 frames" in found.findings[0].detail


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("folder", {"names": ["onne"]}, "'one'"),
        ("gtot", {}, "none of the 50 sequences of GTOT"),
        ("lasher", {"names": ["nowhere"]}, "no sequence 'nowhere'"),
    ],
)
def test_what_cannot_be_checked_is_refused(name, options, words, copy):
    with pytest.raises(InputError, match=words):
        check_benchmark(benchmark(name), copy, **options)
    with pytest.raises(InputError, match="no such folder"):
        check_benchmark(benchmark(name), copy / "nowhere")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("size", [(1, 1), (17, 5), (640, 333)])
def test_headers_tell_size_and_end(suffix, size, tmp_path):
    path = tmp_path / f"image{suffix}"
    width, height = size
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
    data = path.read_bytes()
    assert read_header(path) == Header(size, True)
    path.write_bytes(data + b"something after the end")
    assert read_header(path) == Header(size, True)
    for length in range(0, len(data) - 1, max(1, len(data) // 97)):  # whatever is left of it
        path.write_bytes(data[:length])
        header = read_header(path)
        assert header.size in (None, size)
        assert header.size is None or not header.whole
    assert read_header(tmp_path / "nowhere") == Header(None, False)
    assert read_header(tmp_path) == Header(None, False)
