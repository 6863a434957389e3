"""The figures of `duotrack.evaluation.lost`: reliability of the confidence, and box size over time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from duotrack.evaluation.figures import COLOURS, bare, blank_figure, letters
from duotrack.evaluation.lost import Step, calibration_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_plot(curves: Mapping[str, Sequence[Step]], title: str) -> "Figure":
    """Share of good boxes against confidence, one line a name, and below it how many frames there are."""
    figure = blank_figure(6.0, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="#777777", linewidth=0.9, linestyle="dotted")
    for number, (name, steps) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        confidence = [step.confidence for step in steps]
        label = letters(f"{name}: calibration error {calibration_error(steps):.3f}")
        above.plot(confidence, [step.good for step in steps], marker="o", markersize=4, color=colour, label=label)
        below.plot(confidence, [step.frames for step in steps], marker="o", markersize=3, color=colour)
    above.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="Share of frames with IoU above 0.5")
    below.set(yscale="log", xlabel="Confidence", ylabel="Frames")
    above.legend(loc="upper left", fontsize=8, frameon=False)
    below.yaxis.set_major_formatter("{x:g}")
    below.yaxis.set_minor_formatter("")
    for axes in (above, below):
        bare(axes, "both")
    figure.suptitle(letters(title), fontsize=10, x=0.02, horizontalalignment="left")
    return figure


def drift_plot(rows: Mapping[str, Sequence[tuple[int, float, float, float]]], title: str) -> "Figure":
    """Median side of boxes over the true one in stretches of a sequence, and 10th to 90th percentile over sequences."""
    figure = blank_figure(6.4, 4.0)
    axes = figure.add_subplot()
    axes.axhline(1, color="#777777", linewidth=0.9, linestyle="dotted")
    for number, (name, each) in enumerate(rows.items()):
        colour = COLOURS[number % len(COLOURS)]
        frames, low, middle, high = zip(*each, strict=True) if each else ((), (), (), ())
        axes.plot(frames, middle, marker="o", markersize=3, color=colour, label=letters(name))
        axes.fill_between(frames, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="Frame", ylabel="Side of the box over the true one", yscale="log")
    axes.yaxis.set_minor_formatter("")
    axes.set_yticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
    axes.legend(fontsize=8, frameon=False)
    bare(axes, "y")
    figure.suptitle(letters(title), fontsize=10, x=0.02, horizontalalignment="left")
    return figure
