"""The declarations hold together."""

from pathlib import Path

import numpy as np
import pytest

from duotrack.datasets.benchmarks import BENCHMARKS, benchmark, open_benchmark
from duotrack.errors import InputError
from sequences import write_sequence

COUNTS = {
    "gtot_attributes": "OCC 26 LSV 28 FM 14 LI 27 TC 31 SO 28 DEF 22",
    "rgbt234_attributes": "NO 41 PO 96 HO 96 LI 63 LR 50 TC 28 DEF 76 FM 32 SC 120 MB 55 CM 89 BC 54",
    "lasher_test_attributes": "NO 33 PO 215 TO 87 HO 17 MB 88 LI 51 HI 34 AIV 7 LR 68 DEF 46 BC 78 SA 107 CM 133 "
    "TC 148 FL 20 OV 7 FM 193 SV 222 ARC 109",
}


@pytest.mark.parametrize("which", BENCHMARKS.values(), ids=BENCHMARKS)
def test_declaration(which) -> None:  # type: ignore[no-untyped-def]
    assert benchmark(which.name.upper()) is which
    assert which.labels
    assert which.protocols
    if which.split:
        assert len(which.paths) == which.sequences
    having = set().union(*which.attribute_table.values())
    if which.name != "rgbt210":  # its attributes are those of the 234
        assert having <= set(which.paths)
    if which.attributes in COUNTS:
        counted = " ".join(f"{key} {len(names)}" for key, names in which.attribute_table.items())
        assert counted == COUNTS[which.attributes]


def test_lists_contain_one_another() -> None:
    assert set(benchmark("rgbt210").paths) < set(benchmark("rgbt234").paths)
    assert not set(benchmark("lasher").paths) & set(benchmark("lasher-train").paths)
    assert not set(benchmark("vtuav-st").paths) & set(benchmark("vtuav-lt").paths)


def test_unknown() -> None:
    with pytest.raises(InputError, match="'lashr' is not known; did you mean 'lasher'"):
        benchmark("lashr")


def test_open_with_frames(tmp_path: Path) -> None:
    write_sequence(tmp_path / "testingset", "10runone", 3)
    (sequence,) = open_benchmark(benchmark("lasher"), tmp_path, names=["10runone"])
    assert len(sequence) == 3
    with pytest.raises(InputError, match="lasher has no sequence '10runtwo_'; did you mean"):
        open_benchmark(benchmark("lasher"), tmp_path, names=["10runtwo_"])
    with pytest.raises(InputError, match="244 of 245 sequences are not there"):
        open_benchmark(benchmark("lasher"), tmp_path)


def test_sparse_labels_keep_every_frame(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "test_ST_001", "bike_003", 23, boxes="1 2 3 4\n5 6 7 8\n9 9 9 9\n")
    (folder / "visible").rename(folder / "rgb")
    (folder / "infrared").rename(folder / "ir")
    (folder / "init.txt").rename(folder / "rgb.txt")
    (sequence,) = open_benchmark(benchmark("vtuav-st"), tmp_path, names=["bike_003"])
    assert sequence.name == "bike_003"
    assert len(sequence) == 23
    assert np.flatnonzero(sequence.visible).tolist() == [0, 10, 20]
    np.testing.assert_array_equal(sequence.boxes[10], [5, 6, 7, 8])


def test_absent_targets_of_depth_sequences(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, "bag01_indoor", 3, boxes="1,2,13,14\nnan,nan,nan,nan\n5,6,17,18\n")
    (folder / "visible").rename(folder / "color")
    (folder / "infrared").rename(folder / "depth")
    (folder / "init.txt").rename(folder / "groundtruth.txt")
    (sequence,) = open_benchmark(benchmark("depthtrack"), tmp_path, names=["bag01_indoor"])
    assert sequence.visible.tolist() == [True, False, True]
