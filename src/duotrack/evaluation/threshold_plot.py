"""The figure of a fitted threshold: overlap against confidence."""

from typing import TYPE_CHECKING

from duotrack.evaluation.figures import COLOURS, bare, blank_figure, letters
from duotrack.evaluation.threshold import BINS, Confidences, Threshold, curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def theta_plot(measured: Confidences, found: Threshold, least: float, title: str) -> "Figure":
    """Every frame as a dot, the mean overlap of each step of confidence as a line, theta upright."""
    figure = blank_figure(6.4, 4.2)
    axes = figure.add_subplot()
    faint = min(0.8, max(0.1, 20 / len(measured.iou) ** 0.5))  # a few dots are seen, many do not hide the line
    axes.scatter(measured.confidence, measured.iou, s=8, color=COLOURS[5], alpha=faint, linewidth=0, rasterized=True)
    steps = curve(measured)
    axes.plot(
        [step[0] for step in steps],
        [step[1] for step in steps],
        marker="o",
        markersize=4,
        color=COLOURS[0],
        label=f"mean in steps of {1 / BINS:g}",
    )
    axes.axhline(least, color="#777777", linewidth=0.9, linestyle="dotted", label=f"wanted on average: {least:g}")
    kept = f"theta {found.theta:.3f}: {100 * found.kept:.0f} % of {found.frames} frames, mean IoU {found.iou:.2f}"
    axes.axvline(found.theta, color=COLOURS[1], linewidth=1.4, label=kept)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("Confidence (maximum of the raw score map)")
    axes.set_ylabel("IoU with the truth")
    bare(axes, "both")
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=1)
    figure.suptitle(letters(title), fontsize=10, x=0.02, horizontalalignment="left")
    return figure
