"""Words for messages."""

import pytest

from duotrack.errors import first_few, nearest


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [([], 3, ""), (["a"], 3, "a"), (["a", "b", "c"], 3, "a, b, c"), (["a", "b", "c"], 2, "a, b, ...")],
)
def test_first_few(names: list[str], count: int, text: str) -> None:
    assert first_few(names, count) == text


def test_a_long_list_of_names_is_cut() -> None:
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"
    assert nearest("zzz", [f"n{i:03d}" for i in range(320)]).endswith("n029, ...")
    assert nearest("n00", ["n001", "zzz"]) == "; did you mean 'n001'?"
