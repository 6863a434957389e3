"""A mask laid over sequences and ground truths."""

import gzip

import numpy as np
import pytest

from duotrack.datasets.benchmarks import BENCHMARKS, benchmark, with_mask
from duotrack.datasets.dropouts import draw_masks
from duotrack.datasets.fingerprint import fingerprint
from duotrack.datasets.ground_truth import GroundTruth, read_ground_truth
from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.masked import Masked, availability, open_masked
from duotrack.datasets.missing import write_masks
from duotrack.datasets.patterns import Loss, write_groups, write_subgroups
from duotrack.errors import InputError
from duotrack.evaluation.protocols import preset
from sequences import write_sequence

ROWS = np.array([[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]], bool)
LOSSES = {"car": Loss(20, "swap", 0.3), "man": Loss(30, "random", 0.9)}


@pytest.fixture
def files(tmp_path):
    """missing_results and subgroups_data of two sequences, side by side."""
    write_masks(tmp_path / "missing_results_x.json", draw_masks(LOSSES, dataset="x"))
    write_subgroups(tmp_path / "subgroups_data_x.json", LOSSES)
    return tmp_path


def test_a_masked_sequence_reads_what_is_there(tmp_path):
    write_sequence(tmp_path, "car", 5)
    (whole,) = open_lasher(tmp_path)
    (sequence,) = Masked(tmp_path, {"car": ROWS}, None).sequences([whole], known=["car"])
    got = [(pair.rgb is not None, pair.aux is not None) for pair in map(sequence.read, range(5))]
    assert got == [(True, True), (True, True), (False, True), (True, False), (False, False)]  # row 0 is never used
    for side in ("rgb", "aux"):
        np.testing.assert_array_equal(getattr(sequence.read(1), side), getattr(whole.read(1), side))
    assert not ROWS[0].any()  # the mask itself is left alone
    assert fingerprint([sequence]) != fingerprint([whole])
    (other,) = Masked(tmp_path, {"car": ROWS[:, ::-1]}, None).sequences([whole])
    assert fingerprint([other]) != fingerprint([sequence])


def test_a_missing_image_is_not_looked_at_and_not_noted(tmp_path):
    write_sequence(tmp_path, "car", 5)
    for name in ("visible/000002.jpg", "visible/000003.jpg"):
        (tmp_path / "car" / name).write_bytes(b"no image")
    (sequence,) = Masked(tmp_path, {"car": ROWS}, None).sequences(open_lasher(tmp_path))
    assert sequence.read(2).notes == ()
    assert "cannot read" in sequence.read(3).notes[0]


def test_masks_that_do_not_fit_name_the_sequence(tmp_path):
    write_sequence(tmp_path, "car", 4)
    opened = open_lasher(tmp_path)
    with pytest.raises(InputError, match="'car' has 5 rows there and 4 frames here"):
        Masked(tmp_path, {"car": ROWS}, None).sequences(opened)
    with pytest.raises(InputError, match="not in it: car"):
        Masked(tmp_path, {"man": ROWS}, None).sequences(opened)
    with pytest.raises(InputError, match="no sequence of this data set: man"):
        Masked(tmp_path, {"car": ROWS[:4], "man": ROWS}, None).sequences(opened, known=["car"])


def truth(frames, name="car"):
    return GroundTruth(name, (np.ones((len(frames), 4)),), np.array(frames, np.int64))


def test_ground_truth_of_every_frame_or_of_every_tenth():
    def check(rows, *frames):
        Masked("m", {"car": np.ones((rows, 2), bool)}, None).check([truth(frames)], known=["car"])

    check(3, 0, 1, 2)
    for rows in range(21, 31):
        check(rows, 0, 10, 20)
    for rows, frames in ((2, (0, 1, 2)), (4, (0, 1, 2)), (20, (0, 10, 20)), (31, (0, 10, 20))):
        with pytest.raises(InputError, match=f"'car' has {rows} rows"):
            check(rows, *frames)


@pytest.mark.parametrize("packed", [False, True])
def test_subgroups_beside_the_mask_are_found(files, packed):
    if packed:
        for path in list(files.glob("*.json")):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    found = open_masked(next(files.glob("missing_results_*")))
    assert found.losses == LOSSES
    assert found.groups() == {
        "pattern": {"random": {"man"}, "swap": {"car"}},
        "ratio": {"0.3": {"car"}, "0.9": {"man"}},
    }


def test_without_subgroups_and_with_given_ones(files):
    mask = files / "missing_results_x.json"
    mask.rename(files / "mine.json")
    alone = open_masked(files / "mine.json")
    assert (alone.losses, alone.groups()) == (None, {})
    assert open_masked(files / "mine.json", files / "subgroups_data_x.json").losses == LOSSES
    assert alone.digest == open_masked(files / "mine.json", files / "subgroups_data_x.json").digest


def test_subgroups_of_something_else_are_refused(files):
    mask, subgroups = files / "missing_results_x.json", files / "subgroups_data_x.json"
    write_subgroups(subgroups, {"car": LOSSES["car"]})
    with pytest.raises(InputError, match="1 of 2 sequences are not in it: man"):
        open_masked(mask)
    write_subgroups(subgroups, {**LOSSES, "man": Loss(30, "random", 0.6)})
    with pytest.raises(InputError, match=r"27 frames of sequence 'man' lack a modality, its ratio 0\.6 says 18"):
        open_masked(mask)
    write_groups(subgroups, LOSSES)
    with pytest.raises(InputError, match="patterns without ratios"):
        open_masked(mask)


def test_availability_counts_frames():
    assert availability([ROWS, ROWS[1:2]]) == {"complete": 2, "rgb_only": 1, "aux_only": 1, "neither": 2}
    assert availability([]) == {"complete": 0, "rgb_only": 0, "aux_only": 0, "neither": 0}


@pytest.mark.parametrize(
    ("base", "name"), [("rgbt234", "rgbt234-miss"), ("lasher", "lasher245-miss"), ("vtuav-st", "vtuav176-miss")]
)
def test_the_three_benchmarks_have_the_data_and_rules_of_their_bases(base, name):
    which = benchmark(name)
    assert with_mask(benchmark(base)) is which is with_mask(which)
    assert which.complete is benchmark(base)
    assert (which.paths, which.attribute_table) == (which.complete.paths, which.complete.attribute_table)
    for protocol in which.protocols:
        ours, theirs = preset(protocol, which), preset(protocol, which.complete)
        assert ours.benchmark == name
        assert ours.describe() == theirs.describe()


def test_others_have_no_published_variant():
    for which in BENCHMARKS.values():
        if not which.base and which.name not in ("rgbt234", "lasher", "vtuav-st"):
            assert with_mask(which) is which


def test_archives_of_ground_truths_are_those_of_the_base(shared_data):
    archive = shared_data / "evaluation" / "gt_LasHeR.zip"
    truths = [read_ground_truth(benchmark(name), archive) for name in ("lasher245-miss", "lasher")]
    assert [each.name for each in truths[0]] == [each.name for each in truths[1]]
