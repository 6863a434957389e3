"""Ground truths from copies of data sets and from archives of text files."""

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest

from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.ground_truth import read_ground_truth
from duotrack.errors import InputError


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def test_corners_in_any_order_become_boxes(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "SequencesName.txt": "one\r\n",
            "groundtruth/one/groundTruth_v.txt": "10 20 40 60\r\n40 60 10 20\r\n",
            "groundtruth/one/groundTruth_i.txt": "11 20 41 60\n10 60 40 20\n\n",
        },
    )
    (truth,) = read_ground_truth(benchmark("gtot"), tmp_path)
    np.testing.assert_array_equal(truth.boxes[0], [[10, 20, 30, 40]] * 2)
    np.testing.assert_array_equal(truth.boxes[1], [[11, 20, 30, 40], [10, 20, 30, 40]])
    assert truth.frames.tolist() == [0, 1]


@pytest.mark.parametrize(
    "layout",
    ["{name}/visible.txt {name}/infrared.txt", "rgbt234_gt/{name}/{side}.txt", "RGBT234/rgbt234_gt/{name}/{side}.txt"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_layouts_of_one_benchmark(tmp_path: Path, layout: str, packed: bool) -> None:
    names = ["kite2", "afterrain"]
    files = {}
    for number, side in enumerate(("visible", "infrared")):
        pattern = layout.split()[number] if " " in layout else layout
        for name in names:
            # a lone CR between two rows, as in one published file
            files[pattern.format(name=name, side=side)] = f"{number},2,3,4\r5,6,7,8\r\n9,9,9,9\r\n"
    root = put(tmp_path / "x", files)
    if packed:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        root = tmp_path / "x.zip"
    truths = read_ground_truth(benchmark("rgbt234"), root, names=names)
    assert [truth.name for truth in truths] == names
    assert all(len(truth) == 3 and len(truth.boxes) == 2 for truth in truths)
    assert truths[0].boxes[1][0, 0] == 1
    assert "SC" in benchmark("rgbt234").attribute_table
    assert truths[1].attributes == tuple(k for k, v in benchmark("rgbt234").attribute_table.items() if "afterrain" in v)


def test_missing_sequences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, {"lasher_gt/10runone.txt": "1,2,3,4\n"})
    with pytest.raises(InputError, match="244 of 245 sequences have no ground truth: 11leftboy, "):
        read_ground_truth(benchmark("lasher"), tmp_path)
    with caplog.at_level(logging.WARNING):
        assert len(read_ground_truth(benchmark("lasher"), tmp_path, allow_missing=True)) == 1
    assert "244 of 245" in caplog.text
    assert len(read_ground_truth(benchmark("lasher"), tmp_path, names=["10runone"])) == 1
    with pytest.raises(InputError, match="no sequence '10runon'; did you mean '10runone'"):
        read_ground_truth(benchmark("lasher"), tmp_path, names=["10runon"])
    with pytest.raises(InputError, match=r"no ground truth of GTOT is there \(looked for"):
        read_ground_truth(benchmark("gtot"), tmp_path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    put(tmp_path, {"lasher_gt/10runone.txt": "1,2,3,4\n1,2,3\n"})
    with pytest.raises(InputError, match=r"lasher_gt/10runone\.txt, line 2: got 3 values"):
        read_ground_truth(benchmark("lasher"), tmp_path, names=["10runone"])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"gt_rect/{n}.txt": "1,2,3,4\n" * 3, "absent/{n}.txt": "0\n1\n0\n"}, [False, True, False]),
        ({"{n}/groundtruth.txt": "1,2,3,4\n" * 3, "{n}/absent_label.txt": "1\n0\n1\n"}, [False, True, False]),
    ],
    ids=["of the tool", "of the data set"],
)
def test_absence_labels_have_two_polarities(tmp_path: Path, files: dict[str, str], expected: list[bool]) -> None:
    name = "00141_tank_outdoor2"
    put(tmp_path, {key.format(n=name): text for key, text in files.items()})
    (truth,) = read_ground_truth(benchmark("visevent"), tmp_path, names=[name])
    assert truth.absent is not None
    assert truth.absent.tolist() == expected


def test_absence_labels_must_fit(tmp_path: Path) -> None:
    name = "00141_tank_outdoor2"
    put(tmp_path, {f"gt_rect/{name}.txt": "1,2,3,4\n" * 3})
    with pytest.raises(InputError, match="have no absence labels"):
        read_ground_truth(benchmark("visevent"), tmp_path, names=[name])
    for text, message in (
        ("0\n1\n", "2 absence labels for 3 boxes"),
        ("0\n2\n0\n", "3 absence labels"),
        ("x\n", "line 1"),
    ):
        put(tmp_path, {f"absent/{name}.txt": text})
        with pytest.raises(InputError, match=message):
            read_ground_truth(benchmark("visevent"), tmp_path, names=[name])


def test_sparse_rows(tmp_path: Path) -> None:
    put(tmp_path, {f"test_ST_001/bike_003/{side}.txt": "1 2 3 4\n" * 3 for side in ("rgb", "ir")})
    (truth,) = read_ground_truth(benchmark("vtuav-st"), tmp_path, names=["bike_003"])
    assert truth.frames.tolist() == [0, 10, 20]


@pytest.mark.parametrize("file", ["{n}/init.txt", "{n}/groundtruth.txt", "{n}.txt"])
def test_any_folder(tmp_path: Path, file: str) -> None:
    put(tmp_path, {file.format(n=name): "1,2,3,4\n" for name in ("b", "a`s")})
    assert [truth.name for truth in read_ground_truth(benchmark("folder"), tmp_path)] == ["a`s", "b"]


def test_remarks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(
        tmp_path,
        {
            "groundtruth/Torabi/groundTruth_v.txt": "1 2 3 4\n\n1 2 3 4\n1 2 3 4\n",
            "groundtruth/Torabi/groundTruth_i.txt": "1 2 3 4\n1 2 3 4\n",
        },
    )
    with caplog.at_level(logging.WARNING):
        (truth,) = read_ground_truth(benchmark("gtot"), tmp_path, names=["Torabi"])
    assert len(truth) == 2
    assert "blank lines between rows" in caplog.text
    assert "3 and 2 rows, cut" in caplog.text


def test_published_attributes_are_those_of_the_archives(shared_data: Path) -> None:
    data = shared_data / "evaluation"
    if not data.is_dir():
        pytest.skip("the ground-truth archives are not beside this checkout")
    with zipfile.ZipFile(data / "gt_LasHeR.zip") as archive:
        order = archive.read("LasHeR/Attributes_order.txt").decode().replace(" ", "").strip().split(",")
        table = benchmark("lasher").attribute_table
        assert list(table) == order
        for name in benchmark("lasher").paths:
            flags = archive.read(f"LasHeR/AttriSeqsTxt/{name}.txt").decode().strip().split(",")
            assert [name in table[key] for key in order] == [flag == "1" for flag in flags]


@pytest.mark.parametrize("title", ["GTOT", "RGBT210", "RGBT234", "LasHeR", "VisEvent"])
def test_counts_of_the_real_archives(shared_data: Path, title: str) -> None:
    path = shared_data / "evaluation" / f"gt_{title}.zip"
    if not path.is_file():
        pytest.skip("the ground-truth archives are not beside this checkout")
    which = benchmark(title)
    truths = read_ground_truth(which, path)
    assert (len(truths), sum(map(len, truths))) == (which.sequences, which.frames)


@pytest.mark.parametrize(("name", "said"), [("rgbt210", True), ("rgbd1k", False)])
def test_nan_is_said_where_it_is_no_label(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, said: bool
) -> None:
    which = benchmark(name)
    sequence = next(iter(which.paths), "one")
    put(tmp_path, {place.format(name=sequence): "1,2,3,4\nnan,nan,nan,nan\n" for place in which.labels[0].places[:1]})
    with caplog.at_level(logging.WARNING):
        read_ground_truth(which, tmp_path, names=[sequence])
    assert ("1 rows of the ground truth hold nan or inf, first row 2" in caplog.text) == said
