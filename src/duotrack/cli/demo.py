"""`duotrack demo`: track a clip that comes with the package and show how well that went."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLIP = "helicopter_thermal"
STRIP = 6


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results; those of an earlier run are replaced.")] = Path(
        "demo"
    ),
    model: Annotated[str, typer.Option(help="Model, see `duotrack models`.")] = "ckd-tiny",
    weights: Annotated[Path | None, typer.Option(help="Weights; default: the package's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    max_frames: Annotated[int | None, typer.Option(min=2, help="Stop after so many of its 301 frames.")] = None,
) -> None:
    """Track a bundled thermal clip of a helicopter (CC0); write boxes, overlay video, picture strip and plot.

    Example: [bold]duotrack demo --out demo[/bold]
    """
    from importlib.resources import as_file, files

    from duotrack.cli.following import follow
    from duotrack.tracking.load import load_tracker
    from duotrack.video import open_sinks, open_source
    from duotrack.video.pictures import draw_strip

    data = files("duotrack").joinpath("demo")
    truth = _read_boxes(data.joinpath(f"{CLIP}.txt").read_text())
    shown: list[tuple[Any, Any]] = []
    boxes, scores, states = [], [], []

    def watch(pair: Any, results: Sequence[Any]) -> None:
        # frames for the strip are drawn at the end: keep those, not all 301
        if pair.index % max(1, (min(len(truth), max_frames or len(truth)) - 1) // (STRIP - 1)) == 0:
            shown.append((pair, results))
        boxes.append(results[0].box)
        scores.append(results[0].score)
        states.append(results[0].state)

    with as_file(data.joinpath(f"{CLIP}.mp4")) as clip, open_source(None, clip) as source:
        sinks = open_sinks(out, source, overwrite=True)
        tracker = load_tracker(model, weights=weights, device=device)
        summary = follow(source, tracker, [truth[0].tolist()], sinks, max_frames=max_frames, watch=watch)
    overlaps = overlap(boxes, truth)
    strip = draw_strip([pair for pair, _ in shown], [results for _, results in shown], out / "strip.png", count=STRIP)
    for line in summary.lines():
        typer.echo(line)
    typer.echo(f"strip: {strip}")
    typer.echo(draw_plot(out / "plot.png", overlaps, scores, states))
    typer.echo(
        f"mean IoU with the labelled boxes: {overlaps[1:].mean():.3f} (the first frame, which is given, left out)"
    )


def _read_boxes(text: str) -> "NDArray[np.float64]":
    import numpy as np

    return np.array([line.split(",") for line in text.split()], np.float64)


def overlap(boxes: Sequence[Any], truth: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """IoU of each tracked box with the labelled one of its frame, (N,)."""
    import numpy as np

    from duotrack.boxes import iou_xywh

    return np.asarray(iou_xywh(np.stack(list(boxes)), truth[: len(boxes)]), np.float64)


def draw_plot(path: Path, overlaps: Sequence[float] | Any, scores: Sequence[float], states: Sequence[str]) -> str:
    """Plot IoU, score and state over time; returns the line that says where it is, or why there is none."""
    try:
        import matplotlib
    except ImportError:
        return "plot: left out, matplotlib is not installed; pip install 'duotrack[eval]'"
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    from duotrack.files import atomic_path

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(overlaps, color="tab:blue", label="IoU with the labelled box")
    axes.plot(scores, color="tab:orange", linewidth=1, label="score")
    for state, colour in (("uncertain", "gold"), ("lost", "tab:red")):
        among = [name == state for name in states]
        if any(among):
            axes.fill_between(range(len(states)), 0, 1, where=among, step="mid", color=colour, alpha=0.25, label=state)
    axes.set(xlabel="frame", ylim=(0, 1.02), xlim=(0, max(1, len(states) - 1)))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", ncols=4)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return f"plot: {path}"
