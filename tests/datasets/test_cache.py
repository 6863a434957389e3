"""The crop cache: a dataset of the same targets, read by the same code."""

import json

import cv2
import numpy as np
import pytest

from duotrack.datasets.cache import RECORD, CropCache, build_cache
from duotrack.datasets.layouts import open_lasher
from duotrack.errors import InputError
from sequences import write_sequence


@pytest.fixture
def data(tmp_path):
    rows = ["40,30,16,12"] * 4 + ["0,0,0,0", "80.5,60.25,30,24"]
    write_sequence(tmp_path / "data", "pair", 6, boxes="\n".join(rows))
    write_sequence(tmp_path / "data", "thermal", 5, modalities=("infrared",))
    (tmp_path / "data" / "pair" / "infrared" / "000001.jpg").write_bytes(b"no image")
    return tmp_path / "data"


def build(data, out, **settings):
    said = []
    build_cache(
        open_lasher(data), out, CropCache(**settings), workers=2, watch=lambda name, made: said.append((name, made))
    )
    return said


def test_what_is_kept_are_the_target_and_its_surroundings(data, tmp_path):
    assert build(data, tmp_path / "out", reach=4, quality=100) == [("pair", True), ("thermal", True)]
    before, after = open_lasher(data), open_lasher(tmp_path / "out")
    for whole, small in zip(before, after, strict=True):
        assert len(whole) == len(small)
        np.testing.assert_array_equal(whole.visible, small.visible)
        for index in np.flatnonzero(whole.visible):
            large, kept = whole.read(index), small.read(index)
            assert kept.available == large.available
            for side in kept.available:
                big, part = getattr(large, side), getattr(kept, side)
                assert part.shape[0] < big.shape[0]
                x, y = np.rint(whole.boxes[index, :2] - small.boxes[index, :2]).astype(int)
                np.testing.assert_allclose(whole.boxes[index] - small.boxes[index], [x, y, 0, 0], atol=1e-3)
                shown = big[y : y + part.shape[0], x : x + part.shape[1]].astype(int)
                assert np.abs(part - shown).mean() < 4, "the same pixels, but for JPEG"


def test_what_could_not_be_read_still_cannot(data, tmp_path):
    build(data, tmp_path / "out")
    (pair, _) = open_lasher(tmp_path / "out")
    assert pair.read(1).available == ("rgb",)
    assert pair.read(4).available == ()  # no target: never drawn
    assert pair.boxes[4].tolist() == [0, 0, 0, 0]


def test_large_targets_are_scaled_down(data, tmp_path):
    build(data, tmp_path / "out", pixels=8.0, reach=20)
    pair = open_lasher(tmp_path / "out")[0]
    size = np.sqrt(pair.boxes[pair.visible, 2:].prod(axis=1))
    np.testing.assert_allclose(size, 8, rtol=0.05)
    height, width = pair.read(0).rgb.shape[:2]
    factor = 8 / np.sqrt(16 * 12)
    np.testing.assert_allclose([width, height], np.multiply([96, 72], factor), atol=1)


def test_a_build_goes_on_where_it_stopped(data, tmp_path):
    out = tmp_path / "out"
    build(data, out)
    (out / ".thermal-partial").mkdir()
    (out / "thermal").rename(tmp_path / "gone")
    assert build(data, out) == [("pair", False), ("thermal", True)]
    assert sorted(path.name for path in out.iterdir()) == ["pair", "thermal"]


def test_another_cache_is_not_overwritten(data, tmp_path):
    out = tmp_path / "out"
    build(data, out)
    with pytest.raises(InputError, match="no such cache"):
        build(data, out, reach=5)
    (data / "pair" / "init.txt").write_text("40,30,16,12\n" * 6)
    with pytest.raises(InputError, match="no such cache"):
        build(data, out)
    assert json.loads((out / "pair" / RECORD).read_text())["reach"] == 10


def test_modalities_of_two_sizes_are_refused(data, tmp_path):
    assert cv2.imwrite(str(data / "pair" / "infrared" / "000000.jpg"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InputError, match="frame 0: the modalities differ in size"):
        build(data, tmp_path / "out")
    assert not (tmp_path / "out" / "pair").exists()


@pytest.mark.parametrize("wrong", [{"reach": 0.5}, {"quality": 0}, {"quality": 101}, {"pixels": float("nan")}])
def test_settings_that_make_no_cache_are_refused(wrong):
    with pytest.raises(InputError, match="quality"):
        CropCache(**wrong)
