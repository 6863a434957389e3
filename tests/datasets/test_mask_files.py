"""Mask files: read as published, refused with the sequence's name where they are bad."""

import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.datasets import missing
from duotrack.datasets.missing import check_rows, digest, read_masks, write_masks
from duotrack.errors import InputError

GOOD = {"car": {"frames": 3, "data": [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]}, "o'man": {"frames": 1, "data": [[1, 1]]}}


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_the_published_form_is_read(tmp_path, indent, packed):
    path = tmp_path / "missing_results_x"  # the name says nothing
    text = json.dumps(GOOD, indent=indent).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    masks = read_masks(path)
    assert list(masks) == ["car", "o'man"]
    assert masks["car"].dtype == np.bool_
    np.testing.assert_array_equal(masks["car"], [[1, 1], [0, 1], [0, 0]])


@given(
    st.dictionaries(
        st.text(max_size=8), st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=9), min_size=1
    )
)
def test_what_is_written_is_read_and_has_the_schema(tmp_path_factory, rows):
    masks = {name: np.array(each) for name, each in rows.items()}
    path = tmp_path_factory.mktemp("masks") / "m.json"
    write_masks(path, masks)
    back = read_masks(path)
    assert list(back) == list(masks)
    assert all((back[name] == mask).all() for name, mask in masks.items())
    for name, each in json.loads(path.read_text()).items():
        assert set(each) == {"frames", "data"}
        assert each["frames"] == len(each["data"]) == len(rows[name])
        assert all(isinstance(value, float) for row in each["data"] for value in row)


BAD = {
    "value": (
        {"car": {"frames": 2, "data": [[1, 1], [0.5, 1]]}},
        r"'car', row 1: \[0.5, 1\] is not two numbers 0 or 1",
    ),
    "two": ({"car": {"frames": 1, "data": [[2, 1]]}}, "'car', row 0"),
    "minus": ({"car": {"frames": 1, "data": [[1, -1]]}}, "'car', row 0"),
    "truth value": ({"car": {"frames": 1, "data": [[True, 1]]}}, r"'car', row 0: \[True, 1\] is not two numbers"),
    "text value": ({"car": {"frames": 1, "data": [["1", 1]]}}, "'car', row 0"),
    "nan": ('{"car": {"frames": 1, "data": [[NaN, 1]]}}', "'car', row 0"),
    "null": ({"car": {"frames": 1, "data": [[None, 1]]}}, "'car', row 0"),
    "one column": ({"car": {"frames": 1, "data": [[1]]}}, "'car', row 0"),
    "three columns": ({"car": {"frames": 1, "data": [[1, 1, 1]]}}, "'car', row 0"),
    "flat": ({"car": {"frames": 2, "data": [1, 0]}}, "'car', row 0"),
    "deeper": ({"car": {"frames": 1, "data": [[[1], 0]]}}, "'car', row 0"),
    "frames": ({"car": {"frames": 3, "data": [[1, 1]]}}, "'car': 3 frames and 1 rows"),
    "no frames": ({"car": {"data": [[1, 1]]}}, "'car': None frames"),
    "true frames": ({"car": {"frames": True, "data": [[1, 1]]}}, "'car': True frames"),
    "empty": ({"car": {"frames": 0, "data": []}}, "'car': 0 frames"),
    "no data": ({"car": {"frames": 3}}, "'car': needs"),
    "list": ({"car": [[1, 1]]}, "'car': needs"),
    "top list": ([[1, 1]], "a JSON object"),
    "nothing": ({}, "holds no mask"),
    "no json": ("car 1 1", "no JSON"),
    "nested": ("[" * 90_000, "no JSON"),
    "twice": (
        '{"car": {"frames": 1, "data": [[1, 1]]}, "car": {"frames": 1, "data": [[1, 0]]}}',
        "'car' is there twice",
    ),
    "long number": ('{"car": {"frames": ' + "9" * 9000 + "}}", "no JSON"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mask_is_refused_in_one_line(tmp_path, kind):
    content, words = BAD[kind]
    with pytest.raises(InputError, match=words) as caught:
        read_masks(written(tmp_path / "m.json", content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_no_file_and_damaged_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_masks(tmp_path / "none.json")
    whole = gzip.compress(json.dumps(GOOD).encode())
    for damaged in (whole[:-9], whole[:20] + b"\xff\xff" + whole[22:], b"\x1f\x8b"):
        (tmp_path / "m.json.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged gzip|no JSON"):
            read_masks(tmp_path / "m.json.gz")
    (tmp_path / "m.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no JSON"):
        read_masks(tmp_path / "m.json")


@pytest.mark.parametrize("letters", [b"[" * 600, b"{" * 600, b"1," * 600, b" " * 9000])
def test_hostile_sizes_are_refused_before_anything_is_built(tmp_path, monkeypatch, letters):
    monkeypatch.setattr(missing, "MAX_FRAMES", 100)
    monkeypatch.setattr(missing, "MAX_BYTES", 8000)
    monkeypatch.setattr(missing.json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    for path, data in ((tmp_path / "a", letters), (tmp_path / "b", gzip.compress(letters))):
        path.write_bytes(data)
        with pytest.raises(InputError, match="over"):
            read_masks(path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    data = b"".join(packer.compress(zeros) for _ in range((missing.MAX_BYTES >> 20) + 40)) + packer.flush()
    (tmp_path / "bomb.gz").write_bytes(data)
    with pytest.raises(InputError, match="over 256 MiB"):
        read_masks(tmp_path / "bomb.gz")


def test_masks_must_fit_the_data():
    rows = {"car": 3, "man": 4}
    check_rows("m", rows, {"car": 3})
    check_rows("m", rows, {"car": 3}, known=["car", "man", "tree"])
    with pytest.raises(InputError, match="sequence 'car' has 3 rows there and 5 frames here"):
        check_rows("m", rows, {"car": 5})
    with pytest.raises(InputError, match="1 of 2 sequences are not in it: tree"):
        check_rows("m", rows, {"car": 3, "tree": 1})
    with pytest.raises(InputError, match="1 of 2 are of no sequence of this data set: man"):
        check_rows("m", rows, {"car": 3}, known=["car"])
    with pytest.raises(InputError, match=r"no sequence of this data set: a\\n\\x1b;"):
        check_rows("m", {"a\n\x1b": 1}, {}, known=[])


def test_the_digest_is_of_the_masks_alone():
    a, b = np.array([[1, 0], [1, 1]], bool), np.array([[0, 0]], bool)
    assert digest({"a": a, "b": b}) == digest({"b": b, "a": a.copy()})
    others = [
        {"a": a},
        {"a": a, "c": b},
        {"a": b, "b": a},
        {"a": a, "b": ~b},
        {"a": a, "b": np.array([[0, 0], [0, 0]])},
    ]
    assert len({digest({"a": a, "b": b}), *map(digest, others)}) == 6
