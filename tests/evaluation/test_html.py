"""The page of a report: loads nothing, escapes everything, whole or not at all."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from duotrack.errors import InputError
from duotrack.evaluation.html import Section, page
from duotrack.evaluation.published import published
from duotrack.evaluation.report import write_report
from duotrack.evaluation.tables import overall_table
from duotrack.evaluation.timing import Speed
from made_scores import made_score

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Every tag with its attributes, text by tag, and whether the tags close as they open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    scores = [made_score(EVIL, 0.7, notes=(f"note {EVIL}",)), made_score("plain", 0.6)]
    speeds = {EVIL: Speed(100, 2.0, 1)}
    write_report(out, scores, speeds=speeds, numbers=published("lasher"), baseline="plain")
    return out


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_loads_nothing(text: str) -> None:
    reader = Reader(text)
    assert reader.open == []
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "a")
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            assert name not in ("src", "href", "srcset") or (value or "").startswith("data:image/png;base64,")
    assert not re.search(r"@import|url\(", text)


def test_names_are_harmless(text: str) -> None:
    reader = Reader(text)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert EVIL in reader.texts
    assert "<script>alert" not in text


def test_the_policy_allows_only_the_page_s_own_script(text: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    for kind in ("script", "style"):
        body = re.search(f"<{kind}>(.*?)</{kind}>", text, flags=re.DOTALL)
        assert body
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]


def test_light_and_dark_and_sortable(text: str) -> None:
    assert "color-scheme: light dark" in text
    assert "prefers-color-scheme: dark" in text
    assert '<button type="button">SR</button>' in text
    assert 'data-v="0.7"' in text
    script = re.search("<script>(.*?)</script>", text, flags=re.DOTALL)
    assert script
    assert len(script[1].strip().splitlines()) < 15


def test_numbers_carry_their_protocol_and_source(text: str) -> None:
    assert text.count(made_score().protocol.replace("<", "&lt;")) > 10
    assert "Breaking Modality Gap" in text
    assert '<tr class="mark">' in text


def test_every_file(folder: Path) -> None:
    figures = {"success", "precision", "normalised_precision", "placing", "speed"}
    figures |= {f"attributes_{metric}" for metric in ("PR", "NPR", "SR")}
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {f"{name}.{kind}" for name in figures for kind in ("png", "pdf")}
    assert all(path.stat().st_size > 1000 for path in (folder / "figures").iterdir())
    tables = {path.name for path in (folder / "tables").iterdir()}
    assert {"overall.csv", "overall.tex", "placing.csv", "sources.csv", "sequences.csv", "sequences_SR.csv"} <= tables
    assert {"attributes_SR.tex", "speed.csv", "curves.csv", "counts.csv"} <= tables
    assert sorted(path.name for path in folder.iterdir()) == ["figures", "report.html", "tables"]
    assert not [path for path in folder.parent.iterdir() if path.name != "out"]


def test_one_tracker_without_anything_else(tmp_path: Path) -> None:
    score = made_score("alone", 0.5, normalised=False, attributes={}, sequences={"only": 0.5})
    text = write_report(tmp_path / "out", [score]).read_text(encoding="utf-8")
    assert "1 tracker" in text
    assert "Attributes" not in text
    assert "Among published" not in text


def test_a_table_is_escaped_in_every_place() -> None:
    table = overall_table([made_score(EVIL, protocol=EVIL)], {})
    text = page(EVIL, [(EVIL, EVIL)], [Section(EVIL, EVIL, ((EVIL, b"png"),), (table,))])
    assert "<script>alert" not in text
    assert Reader(text).open == []


@pytest.mark.parametrize(
    ("scores", "baseline", "message"),
    [
        ([], None, "got none"),
        ([made_score("a"), made_score("b", benchmark="gtot")], None, "gtot and lasher"),
        ([made_score("a"), made_score("a")], None, "two results are called 'a'"),
        ([made_score("CKD")], "CDK", "did you mean 'CKD'"),
    ],
)
def test_scores_that_do_not_belong_together(
    tmp_path: Path, scores: list[object], baseline: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_report(tmp_path / "out", scores, baseline=baseline)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("ten years")
    score = made_score(attributes={}, normalised=False)
    with pytest.raises(InputError, match=r"thesis\.tex.*--overwrite"):
        write_report(out, [score])
    write_report(out, [score], overwrite=True)
    write_report(out, [score], overwrite=True)
    assert (out / "thesis.tex").read_text() == "ten years"
    assert (out / "report.html").is_file()
    with pytest.raises(InputError, match="--out is a folder"):
        write_report(out / "thesis.tex", [score])


def test_an_earlier_report_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_report(out, [made_score("first")])
    write_report(out, [made_score("second", normalised=False, attributes={})])
    assert "first" not in (out / "tables" / "overall.csv").read_text()
    assert not (out / "figures" / "normalised_precision.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_report(out, [made_score("first", attributes={}, normalised=False)])
    before = (out / "report.html").read_bytes()

    def full(*args: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("duotrack.evaluation.report.to_csv", full)
    with pytest.raises(OSError, match="No space"):
        write_report(out, [made_score("second", attributes={}, normalised=False)])
    assert (out / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
