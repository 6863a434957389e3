"""Pictures for scenes: pairs, bounded memory, files that cannot be read."""

import logging
import struct
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.simulation.assets import load_pool
from duotrack.datasets.simulation.draw import draw_scene
from duotrack.datasets.simulation.render import thermal_frame, truth, visible_frame
from duotrack.datasets.simulation.settings import Scenes
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


def test_a_folder_decides_and_the_path_above_it_does_not(tmp_path: Path) -> None:
    names = {
        "man/pictures/box.png": "thing",
        "man/pictures/train/0001.png": "thing",
        "man/pictures/people/bear.png": "person",
        "man/pictures/tall.png": "thing",
        "vehicles/0001.png": "vehicle",
    }
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((90, 30, 3), 128, np.uint8))
    for folder in ("man/pictures", "vehicles"):
        cutouts = load_pool(cutouts=[tmp_path / folder], canvas=256).cutouts
        expected = Counter(kind for name, kind in names.items() if name.startswith(folder))
        assert {kind: len(held) for kind, held in cutouts.items() if held} == expected


def test_a_class_that_changes_changes_the_fingerprint(pictures: Path) -> None:
    before = load_pool(cutouts=[pictures / "cutouts"], canvas=256).fingerprint
    (pictures / "cutouts").rename(pictures / "animals")
    assert load_pool(cutouts=[pictures / "animals"], canvas=256).fingerprint != before


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


def test_what_is_too_small_or_too_thin_is_counted_apart(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = pictures / "photos"
    cv2.imwrite(str(photos / "small.png"), np.zeros((40, 40, 3), np.uint8))
    cv2.imwrite(str(photos / "thin.png"), np.zeros((48, 30_000, 3), np.uint8))
    cv2.imwrite(str(photos / "tall.png"), np.zeros((3000, 48, 3), np.uint8))
    (photos / "words.jpg").write_text("no picture")
    with caplog.at_level(logging.WARNING):
        pool = load_pool([photos], canvas=256)
    assert len(pool.photos) == 3
    assert "3 of 7 pictures are too small or too thin and are left out" in caplog.text
    assert "1 of 7 pictures cannot be read and are left out" in caplog.text


def test_a_folder_of_what_is_too_small_says_so(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "whole.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InputError, match=r"none of its 1 pictures can be used: 1 too small or too thin; .* 48 pixels"):
        load_pool([tmp_path], canvas=256)
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((40, 40, 4), np.uint8))
    (tmp_path / "whole.png").write_bytes(b"")
    reasons = "none of its 2 pictures can be used: 1 cannot be read, 1 too small or too thin"
    with pytest.raises(InputError, match=reasons):
        load_pool(cutouts=[tmp_path], canvas=256)


@pytest.mark.parametrize("shape", [(48, 30_000), (48, 511), (3, 9000), (9000, 3)])
def test_scenes_of_long_thin_pictures_are_drawn(tmp_path: Path, shape: tuple[int, int]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((*shape, 3), 128, np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((90, 120, 3), 128, np.uint8))
    pool = load_pool([tmp_path], [tmp_path], canvas=256)
    settings = Scenes(width=64, height=64, procedural=0, regions=0.7, sky=0)
    for seed in range(40):
        generator = np.random.default_rng(seed)
        scene = draw_scene(generator, pool, settings, 3)
        assert truth(scene, 0).box.shape == (4,)
        assert visible_frame(scene, 0, generator).shape == thermal_frame(scene, 0, generator).shape == (64, 64, 3)


@pytest.mark.parametrize(("folder", "words"), [("nowhere", "no such folder"), ("empty", "holds no picture")])
def test_folders_without_pictures_are_refused(tmp_path: Path, folder: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    for which in ({"photos": [tmp_path / folder]}, {"cutouts": [tmp_path / folder]}):
        with pytest.raises(InputError, match=words):
            load_pool(canvas=256, **which)


@pytest.mark.parametrize("paired", [False, True])
def test_memory_bounds_backgrounds_with_all_that_they_hold(tmp_path: Path, paired: bool) -> None:
    wide = np.random.default_rng(0).random(60) < 0.5
    for number in range(60):
        for side in ("visible", "infrared") if paired else ("visible",):
            (tmp_path / side).mkdir(exist_ok=True)
            shape = (48, 128 if wide[number] else 48, 3)
            cv2.imwrite(str(tmp_path / side / f"{number:03d}.png"), np.full(shape, number, np.uint8))
    photos = load_pool([tmp_path], canvas=1024, memory=64).photos
    held = sum(photo.bytes for photo in photos)
    assert all((photo.infrared is not None) == paired for photo in photos)
    assert 64e6 * 0.5 < held <= 64e6 * 0.7
    assert len({photo.rgb.shape for photo in photos}) == 2  # an even choice holds both sorts


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
    assert 55e6 < held <= 64e6
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
