"""Folders become sequences."""

import logging
from pathlib import Path

import numpy as np
import pytest

from duotrack.datasets.layouts import GTOT, Layout, lasher_names, open_lasher, open_layout, vtuav_train_layout
from duotrack.errors import InputError
from sequences import box, scene, write_sequence


def test_pairs_in_step(tmp_path: Path) -> None:
    write_sequence(tmp_path, "b", 5)
    write_sequence(tmp_path, "a", 4)
    sequences = open_lasher(tmp_path)
    assert [s.name for s in sequences] == ["a", "b"]
    assert [len(s) for s in sequences] == [4, 5]
    pair = sequences[0].read(2)
    assert pair.index == 2
    assert pair.available == ("rgb", "aux")
    assert not pair.notes
    assert pair.rgb is not None
    assert pair.aux is not None
    # JPEG blurs; the colour order must still be right and the modalities not swapped
    x, y, w, h = box(2)
    inside = (slice(y + 3, y + h - 3), slice(x + 3, x + w - 3))
    assert np.abs(pair.rgb[inside].mean(axis=(0, 1)) - scene(2, "visible")[inside].mean(axis=(0, 1))).max() < 25
    assert np.abs(pair.aux[inside].mean(axis=(0, 1)) - 200).max() < 25
    np.testing.assert_array_equal(sequences[0].boxes[2], box(2))
    assert sequences[0].visible.all()


def test_order_and_choice_of_names(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_sequence(tmp_path, name, 2)
    assert [s.name for s in open_lasher(tmp_path, names=["c", "a"])] == ["c", "a"]


@pytest.mark.parametrize(("kept", "missing"), [("visible", "aux"), ("infrared", "rgb")])
def test_single_modality(tmp_path: Path, kept: str, missing: str) -> None:
    write_sequence(tmp_path, "a", 3, (kept,))
    (sequence,) = open_lasher(tmp_path)
    assert getattr(sequence, missing) is None
    pair = sequence.read(1)
    assert getattr(pair, missing) is None
    assert len(pair.available) == 1
    assert not pair.notes


def test_visible_needs_both_sides_positive(tmp_path: Path) -> None:
    write_sequence(tmp_path, "a", 4, boxes="1,1,5,5\n1,1,0,5\n0,0,0,0\n1,1,5,-1\n")
    (sequence,) = open_lasher(tmp_path)
    assert sequence.visible.tolist() == [True, False, False, False]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone"])
def test_a_bad_image_is_a_missing_side(tmp_path: Path, damage: str) -> None:
    folder = write_sequence(tmp_path, "a", 3)
    (sequence,) = open_lasher(tmp_path)
    bad = folder / "infrared" / "000001.jpg"
    if damage == "gone":
        bad.unlink()
    else:
        data = bad.read_bytes()
        bad.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    pair = sequence.read(1)
    assert pair.available == ("rgb",)
    assert len(pair.notes) == 1
    assert pair.notes[0].startswith(f"aux: cannot read {bad}")


def test_lists_of_different_length_are_cut_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        folder = write_sequence(tmp_path, name, 5)
        (folder / "infrared" / "000004.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        sequences = open_lasher(tmp_path)
    assert [len(s) for s in sequences] == [4, 4]
    assert [len(s.rgb or ()) for s in sequences] == [4, 4]
    assert len(caplog.records) == 1
    assert "2 sequences" in caplog.text
    assert "a (boxes 5, visible 5, infrared 4)" in caplog.text


def test_other_folders_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sequence(tmp_path, "a", 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".cache").mkdir()
    with caplog.at_level(logging.WARNING):
        assert [s.name for s in open_lasher(tmp_path)] == ["a"]
    assert "1 folders are no sequences and are left out: notes" in caplog.text


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_lasher(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no sequence"):
        open_lasher(tmp_path)
    write_sequence(tmp_path, "a", 2)
    with pytest.raises(InputError, match=r"979 of 979 sequences are not there: 10crosswhite, 10phone_boy, .*, \.\.\.;"):
        open_lasher(tmp_path, split="train")
    with pytest.raises(InputError, match="1 of 2 sequences are not there: zebra;"):
        open_lasher(tmp_path, names=["a", "zebra"])


def test_folder_without_frames_or_boxes(tmp_path: Path) -> None:
    write_sequence(tmp_path, "a", 2, ())
    with pytest.raises(InputError, match="neither visible/ nor infrared/"):
        open_lasher(tmp_path)
    (tmp_path / "a" / "visible").mkdir()
    with pytest.raises(InputError, match=r"holds no \.jpg"):
        open_lasher(tmp_path)
    (tmp_path / "a" / "init.txt").unlink()
    with pytest.raises(InputError, match="no such box file"):
        open_lasher(tmp_path)


def test_other_layouts(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, "Torabi", 3, boxes="1\t2\t3\t4\n" * 3)
    (folder / "visible").rename(folder / "v")
    (folder / "infrared").rename(folder / "i")
    (sequence,) = open_layout(tmp_path, GTOT)
    assert len(sequence) == 3
    assert sequence.read(0).available == ("rgb", "aux")


def test_boxes_every_few_frames(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "train", "bus", 12, boxes="1 2 3 4\n5 6 7 8\n9 9 9 9\n")
    (folder / "visible").rename(folder / "rgb")
    (folder / "infrared").rename(folder / "ir")
    (folder / "init.txt").rename(folder / "rgb.txt")
    layout = Layout(rgb="rgb", aux="ir", boxes="rgb.txt", prefix="train", step=4, starts={"bus": 3})
    (sequence,) = open_layout(tmp_path, layout)
    assert sequence.rgb is not None
    assert [p.name for p in sequence.rgb] == ["000003.jpg", "000007.jpg", "000011.jpg"]
    with pytest.raises(InputError, match=r"1 annotated frames are not there: 000012\.jpg"):
        open_layout(tmp_path, Layout(rgb="rgb", aux="ir", boxes="rgb.txt", prefix="train", step=4, starts={"bus": 4}))


def test_published_lists() -> None:
    train, test = lasher_names("train"), lasher_names("test")
    assert (len(train), len(test), len(set(train) | set(test))) == (979, 245, 1224)
    assert lasher_names("all") == sorted(train + test)
    assert "blkteacher`shead" in train
    assert "leftgirl'swhitebag" in test
    starts = vtuav_train_layout().starts
    assert len(starts) == 47
    assert (starts["bus_026"], starts["pedestrian_224"]) == (69, 3710)
