"""The figures of a report: curves, attribute radars, speed, and the place among published numbers.

Figures are made without pyplot, so nothing stays behind in the process. Colours are those of Okabe and Ito, which
colour-blind readers can tell apart; with more trackers than colours the line style tells them apart.
"""

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from duotrack.evaluation.figures import COLOURS, bare, blank_figure, letters, plain
from duotrack.evaluation.published import PublishedNumber
from duotrack.evaluation.statements import (
    PUBLISHED_MASKS,
    benchmark_title,
    coverage,
    longterm_protocol,
    partial,
    share,
    stated,
)
from duotrack.evaluation.tables import Metric, known, loss_title, losses, ranked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from duotrack.evaluation.metrics import Curve, Score
    from duotrack.evaluation.timing import Speed

STYLES = ("solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
RADAR_TRACKERS = 7  # as many as there are colours: more lines on a radar are a tangle


def precision_plot(scores: Sequence["Score"]) -> "Figure":
    """Share of frames whose centre error is within a threshold in pixels; PR in the legend."""
    return _curves(scores, "PR", lambda score: score.precision, "Centre error threshold (pixels)", "Precision")


def normalised_plot(scores: Sequence["Score"]) -> "Figure":
    """Share of frames whose centre error, in units of the object's size, is within a threshold; NPR in the legend."""
    label = "Normalised centre error threshold"
    return _curves(scores, "NPR", lambda score: score.normalised, label, "Normalised precision")


def success_plot(scores: Sequence["Score"]) -> "Figure":
    """Share of frames whose overlap is above a threshold; SR in the legend."""
    return _curves(scores, "SR", lambda score: score.success, "Overlap threshold", "Success")


def longterm_plot(scores: Sequence["Score"]) -> "Figure":
    """Precision over recall as the confidence threshold falls; a dot where F is largest, and F in the legend."""
    figure = blank_figure(7.6, max(4.2, 1.0 + 0.19 * len(scores)))
    axes = figure.add_subplot()
    handles, labels = [], []
    for place, score in enumerate(ranked(scores)):
        long = score.longterm
        if long is None:
            continue
        look = {**_look(place), "zorder": 3 - place / len(scores)}  # the best on top
        handles += axes.plot(100 * long.recalls, 100 * long.precisions, **look)
        axes.plot([100 * long.recall], [100 * long.precision], "o", markersize=6, color=look["color"], zorder=4)
        labels.append(_named(score, long.F))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)  # room for the line where every box is right
    axes.set_xlabel("Recall (%)")
    axes.set_ylabel("Precision (%)")
    bare(axes, "both")
    _title(figure, scores, "F in brackets, at the dots", f"{longterm_protocol(scores)} {coverage(scores)}")
    _legend(figure, handles, labels)
    return figure


def radar_plot(scores: Sequence["Score"], metric: Metric) -> "Figure":
    """`metric` by attribute for the best `RADAR_TRACKERS` trackers; the middle is not zero, the rings are labelled."""
    ordered = ranked(scores)
    drawn = ordered[:RADAR_TRACKERS]
    names = list(dict.fromkeys(name for score in drawn for name in score.attributes))
    angles = [2 * math.pi * i / len(names) for i in range(len(names))]
    figure = blank_figure(7.6 if len(drawn) > 1 else 6.2, 5.6)
    axes: Any = figure.add_subplot(projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    values = [[_rate(score, name, metric) for name in names] for score in drawn]
    percents = [100 * value for row in values for value in row if not math.isnan(value)]
    low, high, step = _rings(min(percents, default=0), max(percents, default=100))
    handles = []
    for score, row in zip(drawn, values, strict=True):
        closed = [100 * value for value in [*row, row[0]]]
        look = _look(ordered.index(score))
        look["linestyle"] = STYLES[0]  # seven colours suffice here
        handles += axes.plot([*angles, angles[0]], closed, marker="o", markersize=3, **look)
    rings = [low + step * i for i in range(1, round((high - low) / step) + 1)]
    axes.set_ylim(low, high)
    axes.set_yticks(rings, [f"{ring:g}" for ring in rings], fontsize=8, color="#555555")
    axes.set_rlabel_position(math.degrees(angles[1]) / 2 if len(angles) > 1 else 0)
    counts = {name: max(s.attributes[name].n for s in drawn if name in s.attributes) for name in names}
    axes.set_xticks(angles, [f"{plain(name)}\n{counts[name]}" for name in names], fontsize=8)
    axes.tick_params(axis="x", pad=6)
    axes.grid(color="#cccccc", linewidth=0.6)
    axes.spines["polar"].set_color("#cccccc")
    _title(figure, scores, f"{metric} (%) by attribute, with its sequences")
    shown = f"best {len(drawn)} of {len(ordered)}" if len(drawn) < len(ordered) else ""
    _legend(figure, handles, [_label(score, metric) for score in drawn], shown)
    return figure


def loss_plot(scores: Sequence["Score"], metric: Metric, numbers: Sequence[PublishedNumber] = ()) -> "Figure":
    """`metric` by pattern and by ratio of missing modalities: a line a tracker, crosses for published ones."""
    ordered = ranked(scores)
    groups = losses(scores)
    kinds = list(dict.fromkeys(kind for kind, _ in groups))
    figure = blank_figure(8.6, 4.4)
    widths = [1 + sum(of == kind for of, _ in groups) for kind in kinds]
    panels: Any = figure.subplots(1, len(kinds), sharey=True, squeeze=False, width_ratios=widths)[0]
    handles: dict[str, Any] = {}
    for axes, kind in zip(panels, kinds, strict=True):
        names = [name for of, name in groups if of == kind]
        for place, score in enumerate(ordered):
            values = [_percent(known(score.groups.get(kind, {}).get(name), metric)) for name in names]
            line = axes.plot(range(len(names)), values, marker="o", markersize=4, **_look(place))
            handles.setdefault(_label(score, metric), line[0])
        for place, number in enumerate(number for number in numbers if number.patterns and kind == "pattern"):
            rates = [number.patterns.get(name) for name in names]
            values = [_percent(None if rate is None else getattr(rate, metric)) for rate in rates]
            colour = COLOURS[(len(ordered) + place) % len(COLOURS)]
            line = axes.plot(range(len(names)), values, "x", color=colour, markersize=7)
            handles.setdefault(f"{plain(number.tracker)} (published)", line[0])
        ticks = [loss_title(kind, name).replace(" and ", "\n+ ").replace(" of frames", "") for name in names]
        axes.set_xticks(range(len(names)), ticks, fontsize=8)
        axes.margins(x=0.15)
        axes.set_xlabel("Pattern" if kind == "pattern" else "Frames that lack a modality")
        bare(axes, "y")
    panels[0].set_ylabel(f"{metric} (%)")
    quoted = any(number.patterns for number in numbers)
    statement = f"{stated(scores)} {PUBLISHED_MASKS}" if quoted else stated(scores)
    _title(figure, scores, f"{metric} by what is missing, over all in brackets", statement)
    _legend(figure, list(handles.values()), list(handles))
    return figure


def speed_plot(speeds: Mapping[str, "Speed"]) -> "Figure":
    """Frames per second of each tracker as bars."""
    ordered = sorted(speeds.items(), key=lambda item: (item[1].fps, item[0]))
    figure = blank_figure(6.4, 1.1 + 0.28 * len(ordered))
    axes = figure.add_subplot()
    bars = axes.barh(range(len(ordered)), [speed.fps for _, speed in ordered], color=COLOURS[0], height=0.6)
    axes.bar_label(bars, [f"{speed.fps:.1f}" for _, speed in ordered], padding=3, fontsize=8)
    axes.set_yticks(range(len(ordered)), [plain(name) for name, _ in ordered], fontsize=9)
    axes.set_xlabel("Frames per second")
    axes.margins(x=0.12)
    bare(axes, "x")
    return figure


def placing_plot(scores: Sequence["Score"], numbers: Sequence[PublishedNumber]) -> "Figure":
    """PR and SR of the measured trackers (filled) among the published ones (hollow), by success rate."""
    rows = [_Placed(plain(s.tracker), known(s, "PR"), known(s, "SR"), True) for s in scores]
    quoted = Counter(number.tracker for number in numbers)
    for number in numbers:  # where sources differ on a tracker, its rows name the kind of source
        kind = f" ({number.sources[0].kind})" if quoted[number.tracker] > 1 else ""
        rows.append(_Placed(plain(number.tracker) + kind, number.PR, number.SR, False))
    rows = sorted((row for row in rows if row.SR is not None), key=lambda row: (row.SR or 0, row.PR or 0, row.measured))
    figure = blank_figure(7.6, 1.3 + 0.2 * len(rows))
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panels, ("PR", "SR"), strict=True):
        for height, row in enumerate(rows):
            value = getattr(row, metric)
            if value is not None:
                face = COLOURS[1] if row.measured else "white"
                edge = COLOURS[1] if row.measured else COLOURS[0]
                axes.plot([100 * value], [height], "o", markersize=6, markeredgecolor=edge, markerfacecolor=face)
        axes.set_xlabel(f"{metric} (%)")
        axes.set_ylim(-0.8, len(rows) - 0.2)
        axes.margins(x=0.08)
        bare(axes, "both")
    panels[0].set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    for tick, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.measured else "normal")
    _title(figure, scores, "measured here (filled, bold) among published numbers (hollow)")
    return figure


class _Placed(NamedTuple):
    name: str
    PR: float | None
    SR: float | None
    measured: bool


def save(figure: "Figure", stem: Path) -> bytes:
    """Write `stem`.png and `stem`.pdf, and return the picture's bytes; the same figure makes the same files."""
    import matplotlib

    figure.savefig(stem.with_suffix(".png"), dpi=150)
    figure.set_layout_engine("none")  # it holds for the second file too, and is most of the time
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # type 3 fonts, the default, are refused by publishers
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
    return stem.with_suffix(".png").read_bytes()


def _curves(
    scores: Sequence["Score"], metric: Metric, curve: Callable[["Score"], "Curve | None"], x: str, y: str
) -> "Figure":
    order = {score.tracker: place for place, score in enumerate(ranked(scores))}
    drawn = [score for score in scores if curve(score) is not None]
    drawn.sort(key=lambda score: (-(known(score, metric) or 0), order[score.tracker]))
    figure = blank_figure(7.6, max(4.2, 1.0 + 0.19 * len(drawn)))
    axes = figure.add_subplot()
    handles = []
    for place, score in reversed(list(enumerate(drawn))):  # the best last, on top
        found = curve(score)
        assert found is not None
        values = [100 * float(value) for value in found.values]
        width = 2.4 if place == 0 else 1.6
        handles += axes.plot(found.thresholds, values, **{**_look(order[score.tracker]), "linewidth": width})
    thresholds = [float(t) for score in drawn if (found := curve(score)) is not None for t in found.thresholds]
    axes.set_xlim(min(thresholds), max(thresholds))
    axes.set_ylim(0, 100)
    axes.set_xlabel(x)
    axes.set_ylabel(f"{y} (%)")
    bare(axes, "both")
    _title(figure, scores, f"{metric} in brackets")
    _legend(figure, handles[::-1], [_label(score, metric) for score in drawn])
    return figure


def _look(place: int) -> dict[str, Any]:
    """Colour and line style of the tracker at `place`: every pair once before any comes again."""
    style = STYLES[place // len(COLOURS) % len(STYLES)]
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": style, "linewidth": 1.6}


def _label(score: "Score", metric: Metric) -> str:
    return _named(score, known(score, metric))


def _named(score: "Score", value: float | None) -> str:
    """A line of a legend; it says so where the value is not of every sequence."""
    on = f" ({share(score)})" if partial(score) else ""
    return f"[{'–' if value is None else f'{100 * value:.1f}'}] {plain(score.tracker)}{on}"


def _legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str], title: str = "") -> None:
    look = {"fontsize": 8, "title_fontsize": 8, "alignment": "left", "frameon": False, "handlelength": 2.6}
    figure.legend(handles, labels, loc="outside right upper", title=title or None, **look)


def _title(figure: "Figure", scores: Sequence["Score"], text: str, statement: str = "") -> None:
    """What is shown above, by which protocol on which sequences (those of the rates if left out) below."""
    figure.suptitle(
        f"{plain(benchmark_title(scores[0].benchmark))}: {text}", fontsize=10, x=0.02, horizontalalignment="left"
    )
    lines = "\n".join(textwrap.wrap(letters(statement or stated(scores)), 125))
    figure.supxlabel(lines, fontsize=6.5, x=0.02, horizontalalignment="left", color="#555555")


def _rate(score: "Score", attribute: str, metric: Metric) -> float:
    value = known(score.attributes.get(attribute), metric)
    return math.nan if value is None else value


def _percent(value: float | None) -> float:
    return math.nan if value is None else 100 * value


def _rings(low: float, high: float) -> tuple[float, float, float]:
    """Limits and step of the rings in percent: round numbers, at most eight rings, the lowest value off the centre."""
    for step in (2, 5, 10, 20):
        bottom = max(0, math.floor(low / step) * step - step)
        top = min(100, math.ceil(high / step) * step) or step
        if (top - bottom) / step <= 8:
            break
    return bottom, top, step
