"""The mask of one video: out of the published JSON, or text."""

import gzip
import json

import numpy as np
import pytest

from duotrack.datasets.single_mask import read_mask
from duotrack.errors import InputError

ROWS = [[1, 1], [0, 1], [1, 0], [0, 0]]
JSON = {"man": {"frames": 4, "data": [[float(v) for v in row] for row in ROWS]}}
TEXTS = [
    "1,1\n0,1\n1,0\n0,0\n",
    "1 1\n0 1\n1 0\n0 0",
    "1\t1\r\n0\t1\r\n1\t0\r\n0\t0\r\n",
    "\ufeffrgb,aux\r\n1,1\r\n0,1\r\n1,0\r\n0,0\r\n",
    "rgb,aux\n1,1\n0,1\n1,0\n0,0\n",
    '"visible", "thermal"\n1.0,1.0\n0.0,1\n1,0.0\n0,0\n',
]


@pytest.mark.parametrize("text", [*TEXTS, json.dumps(JSON), "\ufeff" + json.dumps(JSON), "\n " + json.dumps(JSON)])
def test_every_form(tmp_path, text):
    path = tmp_path / "mask"
    path.write_bytes(text.encode())
    name, mask = read_mask(path)
    assert name == (f"{path}: sequence 'man'" if "{" in text else str(path))
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, np.array(ROWS, bool))


def test_one_of_several_and_gzip(tmp_path):
    path = tmp_path / "missing_results_x.json.gz"
    path.write_bytes(gzip.compress(json.dumps(JSON | {"dog": {"frames": 1, "data": [[1, 0]]}}).encode()))
    np.testing.assert_array_equal(read_mask(path, sequence="dog")[1], [[True, False]])
    np.testing.assert_array_equal(read_mask(path, sequence="man")[1], np.array(ROWS, bool))


BAD = [
    (None, None, "no such mask file"),
    ("", None, "empty"),
    ("1,1\n0,2\n", None, "frame 1: got 0, 2"),
    ("1,1\n0,nan\n", None, "frame 1: got 0, nan"),
    ("1,1\n0,1,1\n", None, "line 2: got 3 values"),
    ("1\n0\n", None, "two numbers 0 or 1"),
    ("1,1\nfoo,1\n", None, "line 2"),
    ("1,1\n\n0,1\n", None, "1 blank lines"),
    ("1,1\n", "man", "leave out --mask-sequence man"),
    (json.dumps(JSON | {"dog": JSON["man"]}), None, r"2 sequences \(dog, man\); choose one: --mask-sequence"),
    (json.dumps(JSON), "men", "no mask of sequence 'men'; did you mean 'man'"),
    (json.dumps({"man": {"frames": 3, "data": ROWS}}), None, "'man'"),
    (json.dumps({"man": {"frames": 1, "data": [[1, 0.5]]}}), None, "'man'"),
    ("[1, 2]", None, "JSON object"),
]


@pytest.mark.parametrize(("text", "sequence", "words"), BAD)
def test_bad_masks_are_refused(tmp_path, text, sequence, words):
    path = tmp_path / "mask.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=words) as refused:
        read_mask(path, sequence=sequence)
    assert "\n" not in str(refused.value)
    assert "mask.txt" in str(refused.value)
