"""What reports say by pattern and ratio of missing modalities."""

import math
from dataclasses import replace

import pytest

from duotrack.evaluation.metrics import Rates
from duotrack.evaluation.published import published, read_source
from duotrack.evaluation.report import write_report
from duotrack.evaluation.tables import loss_table, losses
from made_scores import made_score


def grouped(tracker, quality, patterns, ratios):
    def rates(each):
        return {name: Rates(PR=value, SR=value / 2, NPR=None, n=2) for name, value in each.items()}

    score = made_score(tracker, quality, benchmark="lasher245-miss")
    return replace(score, groups={"pattern": rates(patterns), "ratio": rates(ratios)})


SCORES = [
    grouped("low", 0.4, {"random": 0.3, "swap": math.nan}, {"0.3": 0.4}),
    grouped("high", 0.6, {"random": 0.5, "swap_and_random": 0.7}, {"0.3": 0.6, "0.25": 0.2}),
]


def test_one_row_a_pattern_and_ratio_best_tracker_first():
    table = loss_table(SCORES, "PR")
    assert [column.title for column in table.columns] == ["Lost", "Sequences", "high", "low"]
    assert table.rows == (
        ("random", 2, 0.5, 0.3),
        ("swap", 2, None, None),
        ("swap and random", 2, 0.7, None),
        ("25% of frames", 2, 0.2, None),
        ("30% of frames", 2, 0.6, 0.4),
        ("all", 3, 0.6, 0.4),
    )
    assert "masks" not in table.note


def test_published_numbers_by_pattern_stand_beside_with_what_they_are_worth():
    numbers = published("lasher245-miss")
    table = loss_table(SCORES, "SR", numbers)
    assert table.columns[-1].title == "FlexTrack-V2 (later work)"
    assert [row[-1] for row in table.rows] == [0.549, 0.544, 0.557, None, None, 0.542]
    assert "not with results on masks drawn here" in table.note
    assert len(loss_table(SCORES, "NPR", numbers).columns) == 4


def test_groups_are_those_of_all_trackers():
    assert losses(SCORES)[:2] == [("pattern", "random"), ("pattern", "swap")]
    assert len(losses(SCORES)) == 5
    assert losses([made_score()]) == []


def test_a_report_without_groups_has_no_such_section(tmp_path):
    pytest.importorskip("matplotlib")
    write_report(tmp_path / "a", [made_score()])
    assert "Missing modalities" not in (tmp_path / "a" / "report.html").read_text()
    write_report(tmp_path / "b", SCORES, numbers=published("lasher245-miss"))
    page = (tmp_path / "b" / "report.html").read_text()
    assert "Missing modalities" in page
    assert "not with results on masks drawn here" in page
    for name in ("missing_PR", "missing_SR"):
        assert (tmp_path / "b" / "figures" / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / "b" / "tables" / f"{name}.tex").is_file()


def test_the_three_benchmarks_have_their_published_numbers():
    named = {name: {n.tracker for n in published(name)} for name in ("rgbt234-miss", "lasher245-miss", "vtuav176-miss")}
    five = {"IPL", "ViPT", "FlexTrack", "FlexTrack-V2", "SCDT"}
    assert named == {"rgbt234-miss": five, "lasher245-miss": five, "vtuav176-miss": {"IPL", "SCDT"}}
    ipl = {name: next(n for n in published(name) if n.tracker == "IPL") for name in named}
    assert {name: (n.PR, n.SR) for name, n in ipl.items()} == {
        "rgbt234-miss": (0.82, 0.594),
        "lasher245-miss": (0.617, 0.464),
        "vtuav176-miss": (0.809, 0.685),
    }
    assert "derived" in ipl["lasher245-miss"].note
    assert {source.kind for number in ipl.values() for source in number.sources} == {"notes"}  # second-hand, all


def test_an_unknown_pattern_in_a_source_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "source: {name: n, title: t, where: w, kind: notes}\n"
        "rows: [{tracker: a, scores: {lasher245-miss: {PR: 60, SR: 50, patterns: {swop: {PR: 60, SR: 50}}}}}]\n"
    )
    with pytest.raises(ValueError, match="swop"):
        read_source(tmp_path / "s.yaml")
