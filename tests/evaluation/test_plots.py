"""Figures of a report: drawn, labelled, and without traces in the process."""

import builtins
import math
from pathlib import Path
from typing import Any

import pytest

matplotlib = pytest.importorskip("matplotlib")

from duotrack.errors import InputError  # noqa: E402
from duotrack.evaluation import plots  # noqa: E402
from duotrack.evaluation.published import published  # noqa: E402
from duotrack.evaluation.timing import Speed  # noqa: E402
from made_scores import made_score  # noqa: E402

LASHER = [f"A{i}" for i in range(19)]


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def overlaps(figure: Any) -> bool:
    """Whether the legend covers the title or any axes."""
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    others = [axes.get_tightbbox() for axes in figure.axes] + [figure._suptitle.get_window_extent()]
    return any(box.overlaps(other) for other in others)


def test_legend_is_sorted_by_the_score_of_the_curve() -> None:
    scores = [made_score("low", 0.4), made_score("high", 0.6)]
    assert legend(plots.success_plot(scores)) == ["[48.0] high", "[32.0] low"]
    assert legend(plots.precision_plot(scores)) == ["[60.0] high", "[40.0] low"]
    assert legend(plots.normalised_plot(scores)) == ["[54.0] high", "[36.0] low"]


def test_only_trackers_with_a_curve_are_drawn() -> None:
    scores = [made_score("with", 0.4), made_score("without", 0.6, normalised=False)]
    assert legend(plots.normalised_plot(scores)) == ["[36.0] with"]


def test_long_term_figure_is_sorted_by_f() -> None:
    figure = plots.longterm_plot([made_score("high", 0.6, f=0.3), made_score("bare"), made_score("low", 0.4, f=0.5)])
    assert legend(figure) == ["[50.0] low", "[30.0] high"]
    assert "where F is largest" in " ".join(texts(figure)).replace("\n", " ")
    assert not overlaps(figure)


def test_figures_say_on_how_many_sequences() -> None:
    scores = [made_score("whole", 0.6, f=0.5), made_score("part", 0.4, f=0.4, sequences={"first": 0.4}, missing=2)]
    for figure in (plots.success_plot(scores), plots.longterm_plot(scores), plots.radar_plot(scores, "SR")):
        assert [label.split("] ")[1] for label in legend(figure)] == ["whole", "part (1 of 3 sequences)"]
        assert "do not compare directly" in " ".join(texts(figure)).replace("\n", " ")
        assert not overlaps(figure)


def test_the_figure_states_benchmark_and_protocol() -> None:
    shown = " ".join(texts(plots.success_plot([made_score(protocol="toolkit: a $x$ rule")])))
    assert "LasHeR" in shown
    assert r"toolkit: a \$x\$ rule" in shown


def test_a_tracker_keeps_its_look_from_figure_to_figure() -> None:
    scores = [made_score(f"t{i}", 0.7 - 0.02 * i) for i in range(28)]
    looks = []
    for figure in (plots.success_plot(scores), plots.precision_plot(scores)):
        lines = figure.legends[0].get_lines()
        looks.append(
            [(line.get_color(), str(line.get_linestyle()), str(line._unscaled_dash_pattern)) for line in lines]
        )
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == 28


@pytest.mark.parametrize("count", [1, 3, 14, 40])
def test_legends_cover_nothing(count: int) -> None:
    attributes = dict.fromkeys(LASHER, 100)
    scores = [made_score(f"{'long name ' * (i % 5)}{i}", 0.7 - 0.01 * i, attributes=attributes) for i in range(count)]
    for figure in (plots.success_plot(scores), plots.radar_plot(scores, "SR")):
        assert not overlaps(figure)


def test_radar_names_every_attribute_with_its_sequences() -> None:
    scores = [made_score(f"t{i}", 0.7 - 0.02 * i, attributes=dict.fromkeys(LASHER, 9)) for i in range(9)]
    figure = plots.radar_plot(scores, "PR")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [f"{name}\n9" for name in LASHER]
    assert len(legend(figure)) == plots.RADAR_TRACKERS
    assert figure.legends[0].get_title().get_text() == "best 7 of 9"


def test_radar_of_a_tracker_without_an_attribute() -> None:
    figure = plots.radar_plot([made_score("a"), made_score("b", attributes={"NO": 2})], "SR")
    assert len(legend(figure)) == 2


def test_placing_tells_sources_that_differ_apart() -> None:
    figure = plots.placing_plot([made_score("mine", 0.9, benchmark="gtot", normalised=False)], published("gtot"))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"mine", "CKD (paper)", "CKD (list)", "MANet++ (notes)", "MANet++ (paper)", "TPF"} <= set(names)
    bold = [label.get_text() for label in figure.axes[0].get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["mine"]


def test_speed_bars() -> None:
    assert {"96.4", "a", "b"} <= set(texts(plots.speed_plot({"a": Speed(964, 10.0, 1), "b": Speed(10, 10.0, 1)})))


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("a$b$c", r"a\$b\$c"),
        ("line\nbreak", "line break"),
        ("_hidden", "_hidden"),
        ("\u8ffd", "?"),
        ("x" * 60, "x" * 21 + "…" + "x" * 10),
    ],
)
def test_awkward_names(name: str, drawn: str, recwarn: pytest.WarningsRecorder, tmp_path: Path) -> None:
    figure = plots.success_plot([made_score(name)])
    assert legend(figure) == [f"[48.0] {drawn}"]
    plots.save(figure, tmp_path / "figure")
    assert not list(recwarn)


def test_saving_writes_both_kinds_and_leaves_no_trace(tmp_path: Path) -> None:
    import matplotlib._pylab_helpers

    before = dict(matplotlib.rcParams)
    data = plots.save(plots.success_plot([made_score()]), tmp_path / "success")
    assert data.startswith(b"\x89PNG")
    assert (tmp_path / "success.png").read_bytes() == data
    pdf = (tmp_path / "success.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in pdf
    assert dict(matplotlib.rcParams) == before
    assert not matplotlib._pylab_helpers.Gcf.figs
    plots.save(plots.success_plot([made_score()]), tmp_path / "again")
    assert (tmp_path / "again.png").read_bytes() == data
    assert (tmp_path / "again.pdf").read_bytes() == pdf


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 100), (99.9, 100), (50, 50), (23.4, 71.2), (88, 91)])
def test_rings(low: float, high: float) -> None:
    bottom, top, step = plots._rings(low, high)
    assert 0 <= bottom <= low
    assert high <= top <= 100
    assert bottom < top
    assert 1 <= math.ceil((top - bottom) / step) <= 8


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'duotrack\[eval\]'"):
        plots.success_plot([made_score()])
