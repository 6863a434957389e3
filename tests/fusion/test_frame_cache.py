"""Fused frames on disk."""

import cv2
import numpy as np
import pytest

from duotrack.errors import InputError
from duotrack.fusion.cache import make_cache, open_cache
from duotrack.fusion.expert import MissingExpertError

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)


@pytest.fixture
def cache(tmp_path):
    made = make_cache(tmp_path / "cache", "ddfm", "v2")
    made.write("lasher", "day/boy", 7, IMAGE)
    return made


def test_what_is_written_comes_back(cache):
    assert np.array_equal(cache.read("lasher", "day/boy", 7, size=(16, 12)), IMAGE)
    again = open_cache(cache.folder)
    assert (again.name, again.version) == ("ddfm", "v2")
    assert np.array_equal(again.read("lasher", "day/boy", 7, size=(16, 12)), IMAGE)
    assert make_cache(cache.folder, "ddfm", "v2") == again
    assert [path.name for path in cache.folder.rglob("*") if path.is_file()].count("cache.json") == 1


@pytest.mark.parametrize(("name", "version"), [("ddfm", "v3"), ("emma", "v2")])
def test_another_expert_or_version_has_a_folder_of_its_own(cache, name, version):
    with pytest.raises(InputError, match="holds frames of expert ddfm, version v2"):
        make_cache(cache.folder, name, version)


@pytest.mark.parametrize(
    ("dataset", "sequence", "frame"),
    [
        ("..", "boy", 0),
        ("lasher", "../boy", 0),
        ("lasher", "", 0),
        ("/etc", "boy", 0),
        ("a", "b\0c", 0),
        ("a", "/b", 0),
        ("a/b", "c", 0),
        ("a", ".hidden", 0),
        ("a", "b\\c", 0),
        ("a", "b", -1),
        ("a", "b" * 300, 0),
    ],
)
def test_names_lead_nowhere_else(cache, dataset, sequence, frame):
    with pytest.raises(InputError, match="cannot name a cached frame"):
        cache.path(dataset, sequence, frame)


def test_a_frame_that_is_not_there_damaged_or_of_another_size(cache):
    with pytest.raises(InputError, match=r"expert ddfm has no frame .*000008\.png"):
        cache.read("lasher", "day/boy", 8, size=(16, 12))
    with pytest.raises(InputError, match="is 16x12, the frame it was made of 16x13"):
        cache.read("lasher", "day/boy", 7, size=(16, 13))
    path = cache.path("lasher", "day/boy", 7)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="no fused frame"):
        cache.read("lasher", "day/boy", 7, size=(16, 12))


@pytest.mark.parametrize("raw", [IMAGE[..., 0], np.full((12, 16, 3), 300, np.uint16)], ids=["grey", "16 bits"])
def test_another_kind_of_image(cache, raw):
    cv2.imwrite(str(cache.path("lasher", "day/boy", 7)), raw)
    with pytest.raises(InputError, match="8-bit colour"):
        cache.read("lasher", "day/boy", 7, size=(16, 12))


def test_a_frame_that_declares_gigabytes_is_refused_before_decoding(cache):
    path = cache.path("lasher", "day/boy", 7)
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(data)
    with pytest.raises(InputError, match="megapixels"):
        cache.read("lasher", "day/boy", 7, size=(16, 12))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 1, "expert": "", "version": "1"}',
        '{"format": 2, "expert": "a", "version": "1"}',
        '{"format": 1, "expert": "a", "version": "1", "more": 1}',
        '{"format": 1, "expert": "a", "version": "' + "1" * 20_000 + '"}',
        "\0\xff",
    ],
)
def test_a_description_that_cannot_be_used(cache, text):
    (cache.folder / "cache.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"cache\.json"):
        open_cache(cache.folder)


def test_no_cache_there(tmp_path):
    with pytest.raises(MissingExpertError, match=r"cache\.json"):
        open_cache(tmp_path / "none")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="holds other files"):
        make_cache(tmp_path / "used", "max", "1")
