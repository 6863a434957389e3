"""Box files as they come."""

from pathlib import Path

import numpy as np
import pytest

from duotrack.datasets.annotation import read_boxes
from duotrack.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3,4\n5,6,7,8\n", [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("1\t2\t3\t4\n", [[1, 2, 3, 4]]),
        ("1 2 3 4", [[1, 2, 3, 4]]),
        ("1, 2, 3, 4 \r\n5,6,7,8\r\n\r\n", [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("\ufeff1.5,2,3e1,-4\n", [[1.5, 2, 30, -4]]),
        ("1,2,5,2,5,9,1,9\n", [[1, 2, 4, 7]]),
        ("0,0,4,0,2,3\n", [[0, 0, 4, 3]]),
        ("0,0,0,0\n", [[0, 0, 0, 0]]),
    ],
    ids=["comma", "tab", "blank", "crlf", "bom", "polygon", "triangle", "absent"],
)
def test_rows(tmp_path: Path, text: str, expected: list[list[float]]) -> None:
    path = tmp_path / "init.txt"
    path.write_bytes(text.encode())
    boxes = read_boxes(path)
    assert boxes.dtype == np.float64
    np.testing.assert_array_equal(boxes, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1,2,3,4\n1,2,nan,4\n", "line 2: got '1,2,nan,4'"),
        (b"1,2,3,4\n1,2,inf,4\n", "line 2"),
        (b"1,2,3\n", "line 1"),
        (b"1,2,3,4,5\n", "line 1"),
        (b"1,2,3,4\n\n1,2,3,4\n", "line 2: got ''"),
        (b"x,y,w,h\n1,2,3,4\n", "line 1"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xd8\xff\xe0", "not a text file"),
    ],
)
def test_garbage_names_file_and_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "init.txt"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_boxes(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such box file"):
        read_boxes(tmp_path / "init.txt")
