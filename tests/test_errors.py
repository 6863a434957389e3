"""Words for messages."""

import pytest

from duotrack.errors import first_few


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [([], 3, ""), (["a"], 3, "a"), (["a", "b", "c"], 3, "a, b, c"), (["a", "b", "c"], 2, "a, b, ...")],
)
def test_first_few(names: list[str], count: int, text: str) -> None:
    assert first_few(names, count) == text
