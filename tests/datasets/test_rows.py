"""Text of every kind becomes rows, or an error that names the line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.datasets.rows import parse_rows
from duotrack.errors import InputError

ONE = [[1, 2, 3, 4]]
TWO = [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("text", "expected", "blank"),
    [
        (b"1,2,3,4\n5,6,7,8\n", TWO, 0),
        (b"1 2 3 4\n5 6 7 8", TWO, 0),
        (b"1\t2\t3\t4\n5\t6\t7\t8", TWO, 0),
        (b" 1, 2,\t3 ,4 \n5,6,7,8", TWO, 0),
        (b"1,2,3,4\r\n5,6,7,8\r\n", TWO, 0),
        (b"1,2,3,4\r5,6,7,8\r\n", TWO, 0),
        (b"1,2,3,4\n5,6,7,8\n\n\r\n \n", TWO, 0),
        (b"1,2,3,4\n\n5,6,7,8\n", TWO, 1),
        (b"\xef\xbb\xbf1,2,3,4", ONE, 0),
        (b"1,2,3,4,\n5,6,7,8,\n", TWO, 0),
        (b"1.0e+00 .2E1 +3. 4e0", ONE, 0),
        (b"1,2,NaN,4", [[1, 2, np.nan, 4]], 0),
        (b"1,2,inf,-Inf", [[1, 2, np.inf, -np.inf]], 0),
        (b"123456789012345678901234,0,-1,9007199254740993", [[123456789012345678901234.0, 0, -1, 2**53]], 0),
        (b"1 2 3 4 5 6 7 8\n", [[1, 2, 3, 4, 5, 6, 7, 8]], 0),
    ],
)
def test_read(text: bytes, expected: list[list[float]], blank: int) -> None:
    (rows,) = parse_rows([text], ["f"])
    np.testing.assert_array_equal(rows.values, expected)
    assert rows.blank == blank


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "f: empty"),
        (b" \r\n\n", "f: empty"),
        (b"1,2,3,4\n1,2,3\n", "f, line 2: got 3 values and the rows before it have 4"),
        (b"1,2,3,4\r1,2,3,4,5,6,7,8\r", "f, line 2: got 8 values and the rows before it have 4"),
        (b"1,2\n", "f, line 1: got 2 values; a row is 4 or 8 numbers"),
        (b"1,2,3,4\n\nx,y,w,h\n", "f, line 3: got 'x,y,w,h'"),
        (
            b"1;2;3;4\n",
            "f, line 1: got '1;2;3;4'; a row is 4 or 8 numbers separated by a comma, blanks or a tab, not by",
        ),
        (b"1|2|3|4\n", "not by '|'"),
        (b"1,,2,3,4\n", "f, line 1: got '1,,2,3,4'"),
        (b"1,2,3,4\n,1,2,3,4\n", "f, line 2"),
        (b"1,2,3-4,5", "f, line 1: got '1,2,3-4,5'"),
        (b"1.2.3,4,5,6", "f, line 1"),
        (b"1,2,3,0x10", "f, line 1"),
        (b"1_0,2,3,4", "f, line 1"),
        (b"e,1,2,3", "f, line 1"),
        (b"[1,2,3,4]", "f, line 1: got '[1,2,3,4]'"),
        (b"\xff\xd8\xff\xe0", "f: not a text file"),
        (b"\x00" * 4, "f, line 1"),
        ("1,2,3,4\n".encode("utf-16"), "f: not a text file"),
    ],
)
def test_refused(text: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_rows([b"1,2,3,4\n", text], ["good", "f"])
    assert message in str(caught.value)


def test_many_at_once_are_each_alone() -> None:
    texts = [b"1,2,3,4\n", b"1 2 3 4 5 6 7 8\n1 2 3 4 5 6 7 8", b"1,2,3,4\r\n\r\n5,6,7,8\r\n\r\n", b"1e3\t2\t3\t4"]
    together = parse_rows(texts, list("abcd"))
    for text, rows in zip(texts, together, strict=True):
        (alone,) = parse_rows([text], ["x"])
        np.testing.assert_array_equal(rows.values, alone.values)
        assert rows.blank == alone.blank
    assert parse_rows([], []) == []


numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False))


@given(
    st.lists(st.lists(st.tuples(*[numbers] * 4), min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from([",", ", ", " ", "\t", "  "]),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
def test_what_is_written_is_read(files: list[list[tuple[float, ...]]], gap: str, end: str) -> None:
    texts = [end.join(gap.join(map(repr, row)) for row in rows).encode() for rows in files]
    for rows, read in zip(files, parse_rows(texts, ["f"] * len(files)), strict=True):
        np.testing.assert_array_equal(read.values, np.array(rows, np.float64))


@given(st.binary(max_size=60))
def test_rubbish_is_refused_in_words(text: bytes) -> None:
    message = ""
    try:
        (rows,) = parse_rows([text], ["f"])
    except InputError as error:
        message = str(error)
    assert message.startswith("f") if message else rows.values.shape[1] in (4, 8)
    assert "\n" not in message
