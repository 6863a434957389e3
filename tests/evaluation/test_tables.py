"""Tables of a report: what stands in them, CSV and LaTeX."""

import csv
import io
import math

import pytest

from duotrack.evaluation.metrics import Score
from duotrack.evaluation.published import published
from duotrack.evaluation.statements import coverage, longterm_protocol, protocols, stated, summary
from duotrack.evaluation.table import Column, Table, latex, to_csv, to_latex
from duotrack.evaluation.tables import (
    attribute_table,
    count_table,
    curve_list,
    extremes,
    overall_table,
    placing_table,
    sequence_list,
    sequence_table,
    source_table,
    speed_table,
)
from duotrack.evaluation.timing import Speed
from made_scores import made_score

TWO = [
    made_score("low", 0.4, sequences={"a": 0.2, "b": 0.6, "c": 0.4}),
    made_score("high", 0.5, sequences={"a": 0.5, "b": 0.5, "c": 0.5}),
]


def titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def test_overall_is_sorted_and_states_the_protocol() -> None:
    table = overall_table(TWO, {"low": Speed(100, 4.0, 2)})
    assert titles(table) == ["Tracker", "PR", "NPR", "SR", "Sequences", "Frames", "FPS", "Protocol"]
    assert [row[0] for row in table.rows] == ["high", "low"]
    assert [row[6] for row in table.rows] == [None, 25.0]
    assert all(row[-1] == TWO[0].protocol for row in table.rows)
    assert TWO[0].protocol in table.note
    assert table.best_cells() == {(0, 1), (0, 2), (0, 3)}


def test_no_column_for_a_rate_that_nobody_has() -> None:
    assert "NPR" not in titles(overall_table([made_score(normalised=False)], {}))


def test_long_term_measures_come_first_and_rank() -> None:
    scores = [made_score("high", 0.6, f=0.3), made_score("bare", 0.9), made_score("low", 0.4, f=0.5)]
    table = overall_table(scores, {})
    assert titles(table)[:5] == ["Tracker", "Pr", "Re", "F", "PR"]
    assert [row[0] for row in table.rows] == ["low", "high", "bare"]
    assert [row[3] for row in table.rows] == [0.5, 0.3, None]
    assert "where F is largest" in str(table.rows[0][-1])
    assert "not clipped" in table.note
    assert "bare: no confidences" in table.note
    assert scores[0].protocol in table.note
    assert ("low", "Re by confidence", 0.9, 0.5) in [row[:4] for row in curve_list(scores).rows]
    assert r"low & \textbf{50.0}" in to_latex(table)
    assert longterm_protocol([made_score()]) == ""


def test_protocols_are_told_apart() -> None:
    mixed = protocols([made_score("a", protocol="P1"), made_score("b", protocol="P2"), made_score("c", protocol="P1")])
    assert mixed == "Protocol of a, c: P1. Protocol of b: P2."


@pytest.mark.parametrize(
    ("score", "line"),
    [
        (made_score("a", 0.5, protocol="P"), "a: PR 50.0, NPR 45.0, SR 40.0 (P)"),
        (made_score("a", 0.5, normalised=False, protocol="plain: MPR at"), "a: MPR 50.0, MSR 40.0 (plain: MPR at)"),
        (made_score("a", math.nan, protocol="P", normalised=False), "a: PR -, SR - (P)"),
        (made_score("a", 0.5, protocol="P", missing=1), "a: PR 50.0, NPR 45.0, SR 40.0 on 3 of 4 sequences (P)"),
    ],
)
def test_summary_line(score: Score, line: str) -> None:
    assert summary(score) == line


def test_summary_line_of_long_term_measures() -> None:
    line = summary(made_score("a", f=0.25))
    assert line.startswith("a: Pr 25.0, Re 25.0, F 25.0, PR 60.0")
    assert line.endswith("not clipped (frames are not at hand) to the image)")


def test_sequences_left_out_are_stated() -> None:
    whole = made_score("whole", sequences={"a": 0.5, "b": 0.5})
    part, other = (made_score(name, sequences={name: 0.5}, missing=1) for name in ("a", "b"))
    assert coverage([whole]) == ""
    assert coverage([part]) == "Scored on 1 of 2 sequences of the ground truth."
    assert coverage([whole, part]).endswith("do not compare directly. whole: 2 of 2 sequences; a: 1 of 2 sequences.")
    assert "a, b: 1 of 2 sequences" in coverage([part, other])  # as many, but not the same
    assert stated([whole]) == protocols([whole])
    for table in (overall_table([whole, part], {}), sequence_table([whole, part], "SR"), curve_list([whole, part])):
        assert "do not compare directly" in table.note
    assert "Measured here on 1 of 2 sequences." in str(placing_table([part], []).rows[0][-1])


def test_attributes_one_row_each() -> None:
    table = attribute_table(TWO, "SR")
    assert titles(table) == ["Attribute", "Sequences", "high", "low"]
    assert table.rows[1][:2] == ("PO", 3)
    assert table.rows[1][2] == pytest.approx(0.8 * 0.48)
    assert table.best_cells() == {(row, 2) for row in range(4)}


def test_sequences_with_largest_difference() -> None:
    table = sequence_table(TWO, "PR")
    assert titles(table) == ["Sequence", "high", "low", "Mean", "Best", "Worst", "Largest difference"]
    rows = {row[0]: row for row in table.rows}
    assert rows["a"][4:6] == ("high", "low")
    assert rows["a"][6] == pytest.approx(0.3)
    assert rows["b"][4:6] == ("low", "high")


def test_sequences_against_a_baseline() -> None:
    table = sequence_table(TWO, "PR", baseline="high")
    assert titles(table)[-1] == "Best other less high"
    assert [row[-1] for row in table.rows] == pytest.approx([-0.3, 0.1, -0.1])


def test_a_sequence_that_one_tracker_lacks() -> None:
    table = sequence_table([TWO[1], made_score("low", 0.4, sequences={"a": 0.2})], "PR")
    rows = {row[0]: row for row in table.rows}
    assert rows["b"] == ("b", 0.5, None, 0.5, "high", "high", 0.0)


def test_extremes() -> None:
    easiest, hardest, disputed = extremes(sequence_table(TWO, "PR"), 2)
    assert [row[0] for row in easiest.rows] == ["b", "c"]
    assert [row[0] for row in hardest.rows] == ["a", "c"]
    assert [row[0] for row in disputed.rows] == ["a", "b"]
    assert titles(disputed) == ["Sequence", "Mean", "Best", "Worst", "Largest difference"]


def test_extremes_of_one_tracker_even_with_a_confusing_name() -> None:
    easiest, hardest = extremes(sequence_table([made_score("Mean", sequences={"a": 0.2, "b": 0.6})], "PR"), 1)
    assert (easiest.rows, hardest.rows) == ((("b", 0.6),), (("a", 0.2),))


def test_extremes_where_a_tracker_is_called_mean() -> None:
    table = sequence_table([made_score("Mean", sequences={"a": 0.9}), made_score("x", sequences={"a": 0.1})], "PR")
    assert extremes(table)[0].rows[0][1] == pytest.approx(0.5)


def test_placing_among_published_numbers() -> None:
    table = placing_table([made_score("new", 0.71)], published("lasher"))  # SR 0.568: between CKD and BAT
    assert len(table.rows) == 1 + len(published("lasher"))
    (place,) = table.marked
    assert table.rows[place][1] == "new"
    assert table.rows[place + 1][1] == "BAT"
    assert [row[0] for row in table.rows] == list(range(1, len(table.rows) + 1))
    assert "toolkit" in str(table.rows[place][-1])
    assert all(row[-1] for row in table.rows)
    assert any(row[-1] == "CKD paper, Table I" for row in table.rows)


def test_sources_are_listed() -> None:
    rows = {row[0]: row for row in source_table(published("gtot")).rows}
    assert "Breaking Modality Gap" in str(rows["CKD paper, Table I"][1])


def test_speed_and_counts() -> None:
    table = speed_table({"slow": Speed(10, 10.0, 1), "fast": Speed(100, 1.0, 2)})
    assert table.rows == (("fast", 100.0, 100, 2), ("slow", 1.0, 10, 1))
    assert count_table([made_score()]) is None
    counted = count_table([made_score(), made_score("two", notes=("n",))])
    assert counted is not None
    assert counted.rows == (("one", 0), ("two", 2))


@pytest.mark.parametrize(
    "table", [overall_table(TWO, {}), sequence_list(TWO), curve_list(TWO), sequence_table(TWO, "SR")]
)
def test_csv_gives_back_every_value(table: Table) -> None:
    head, *rows = csv.reader(io.StringIO(to_csv(table)))
    assert head == titles(table)
    for row, cells in zip(table.rows, rows, strict=True):
        for cell, text in zip(row, cells, strict=True):
            assert ("" if cell is None else cell) == (type(cell)(text) if cell is not None else text)


def test_csv_of_awkward_names() -> None:
    names = ['a,b"c', "two\nlines", "=1+1", "追踪"]
    table = Table("t", "T", (Column("Tracker"),), tuple((name,) for name in names))
    assert [row[0] for row in csv.reader(io.StringIO(to_csv(table), newline=""))][1:] == names


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b", r"a\_b"),
        ("50% & $1 #2", r"50\% \& \$1 \#2"),
        ("{x}", r"\{x\}"),
        ("\\input{/etc}", r"\textbackslash{}input\{/etc\}"),
        ("~^<>", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_escapes(text: str, escaped: str) -> None:
    assert latex(text) == escaped


def test_latex_table() -> None:
    text = to_latex(overall_table([made_score("a_b", 0.5), made_score("best", 0.6)], {}))
    assert text.startswith("% Overall: rates in percent. Protocol: toolkit")
    assert r"best & \textbf{60.0} & \textbf{54.0} & \textbf{48.0} & 3 & 300 \\" in text
    assert r"a\_b & 50.0" in text
    assert text.count("\n") == 9


def test_no_name_leaves_a_latex_comment() -> None:
    text = to_latex(overall_table([made_score("x\n\\input{y}", protocol="p\r\n\\input{z}\u2028q")], {}))
    assert len(text.splitlines()) == 8


def test_long_words_wrap_in_latex_and_gaps_are_dashes() -> None:
    text = to_latex(placing_table([made_score("new", 0.71)], published("lasher")))
    assert r"\begin{tabular}{rlrrrrp{0.4\linewidth}}" in text
    assert r"new & 71.0 & 63.9 & 56.8 & -- & Measured here." in text


def test_equal_digits_are_equally_best() -> None:
    table = overall_table([made_score("a", 0.50001), made_score("b", 0.5)], {})
    assert {(0, 1), (1, 1)} <= table.best_cells()
