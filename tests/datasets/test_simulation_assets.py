"""Pictures for scenes: pairs, bounded memory, files that cannot be read."""

import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.simulation.assets import load_pool
from duotrack.datasets.simulation.sprites import MAX_SIDE
from duotrack.errors import InputError
from duotrack.images import read_raw


def declaring(path: Path, width: int, height: int) -> None:
    """A PNG that declares a size and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + b"\0" * 9
        + b"IEND"
    )


def test_pairs_are_joined_and_kinds_read_off_names(pictures: Path) -> None:
    pool = load_pool([pictures / "photos"], [pictures / "cutouts"], canvas=256)
    assert pool.counts == {"photos": 3, "cutouts": 3, "drawn_backgrounds": 32, "drawn_objects": 200}
    assert sum(photo.infrared is not None for photo in pool.photos) == 2
    assert [len(pool.cutouts[kind]) for kind in ("vehicle", "person", "animal", "thing")] == [1, 1, 1, 0]
    (car,), (dog,) = pool.cutouts["vehicle"], pool.cutouts["animal"]
    raw = cv2.imread(str(pictures / "cutouts/paired/infrared/car_1.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_allclose(car.poses[0].infrared, raw, atol=1)
    assert car.poses[0].colour[..., 3].min() == 255  # no transparency: a rectangle that fills its box
    assert dog.poses[0].infrared is None
    assert dog.poses[0].colour.shape[:2] == (51, 21)  # cut to what is opaque
    wide = max(pool.photos, key=lambda photo: photo.rgb.shape[1] / photo.rgb.shape[0])
    assert wide.rgb.shape == (171, 256, 3)


def test_equal_pictures_have_equal_fingerprints(pictures: Path) -> None:
    first = load_pool([pictures / "photos"], canvas=256).fingerprint
    assert load_pool([pictures / "photos"], canvas=256).fingerprint == first
    assert load_pool([pictures / "photos"], canvas=320).fingerprint != first
    raw = cv2.imread(str(pictures / "photos/paired/infrared/car_1.png"))
    cv2.imwrite(str(pictures / "photos/paired/infrared/car_1.png"), 255 - raw)
    assert load_pool([pictures / "photos"], canvas=256).fingerprint != first


def test_files_that_cannot_be_read_are_counted_and_left_out(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = pictures / "photos"
    declaring(photos / "huge.png", 100_000, 100_000)
    (photos / "cut.jpg").write_bytes((photos / "wall.jpg").read_bytes()[:500])
    (photos / "words.jpg").write_text("no picture")
    with caplog.at_level(logging.WARNING):
        assert len(load_pool([photos], canvas=256).photos) == 3
    assert "3 of 6 pictures cannot be read and are left out" in caplog.text
    for path in photos.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(InputError, match="none of its 6 pictures can be used"):
        load_pool([photos], canvas=256)


@pytest.mark.parametrize(("folder", "words"), [("nowhere", "no such folder"), ("empty", "holds no picture")])
def test_folders_without_pictures_are_refused(tmp_path: Path, folder: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    for which in ({"photos": [tmp_path / folder]}, {"cutouts": [tmp_path / folder]}):
        with pytest.raises(InputError, match=words):
            load_pool(canvas=256, **which)


def test_memory_bounds_what_is_held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = cv2.blur(np.random.default_rng(0).integers(0, 256, (500, 500, 3)).astype(np.uint8), (9, 9))
    data = cv2.imencode(".jpg", image)[1].tobytes()
    for number in range(400):
        (tmp_path / f"{number:03d}.jpg").write_bytes(data)
    with caplog.at_level(logging.WARNING):
        pool = load_pool(cutouts=[tmp_path], canvas=256, memory=64)
    count = sum(map(len, pool.cutouts.values()))
    assert f"{count} of 400 pictures are used" in caplog.text
    held = sum(sprite.bytes for sprites in pool.cutouts.values() for sprite in sprites)
    assert 5e6 < held <= 64e6 * 0.6
    assert all(max(sprite.size) <= MAX_SIDE for sprites in pool.cutouts.values() for sprite in sprites)


def test_jpeg_is_decoded_smaller_where_that_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), np.zeros((900, 1600, 3), np.uint8))
    sizes = {side: read_raw(path, side=side).shape[1] for side in (150, 390, 500, 1000)}
    assert sizes == {150: 200, 390: 400, 500: 800, 1000: 1600}
    assert read_raw(path).shape == (900, 1600, 3)


def test_real_pairs_are_true_pairs(shared_data: Path) -> None:
    pool = load_pool([shared_data / "rgbt_pairs" / "vifb"], canvas=256)
    assert len(pool.photos) == 17
    assert all(photo.infrared is not None and photo.infrared.shape == photo.rgb.shape[:2] for photo in pool.photos)
