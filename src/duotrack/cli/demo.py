"""`duotrack demo`: track three clips and show how well that went."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from duotrack.tracking.tracker import Tracker

STRIP = 6
JOINED = 360
"""Frames in a strip, and the height of one in the strip of all clips; in lower ones captions cannot be read."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results; those of an earlier run are replaced.")] = Path(
        "demo"
    ),
    model: Annotated[str, typer.Option(help="Model, see `duotrack models`.")] = "ckd-tiny",
    weights: Annotated[Path | None, typer.Option(help="Weights; default: the package's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    clip: Annotated[
        list[str] | None, typer.Option(help="Which: thermal, visible, dropout; repeatable. Default: all.")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=2, help="Stop each clip after so many frames.")] = None,
) -> None:
    """Track a thermal clip, a visible one (both CC0), and a rendered pair whose thermal camera drops out half way.

    Writes for each clip boxes, overlay video, picture strip and a plot over time to a folder of its own; beside them a
    strip and a success plot of all.

    Example: [bold]duotrack demo --out demo[/bold]
    """
    from duotrack.cli.demo_clips import FRAMES, TITLES
    from duotrack.cli.options import check_choice
    from duotrack.cli.running import interruptible
    from duotrack.evaluation.success import success_curve
    from duotrack.tracking.load import load_tracker

    chosen = list(dict.fromkeys(clip or TITLES))
    for name in chosen:
        check_choice("clip", name, list(TITLES))
    tracker = load_tracker(model, weights=weights, device=device)
    curves: dict[str, NDArray[np.float64]] = {}
    strips: dict[Path, int] = {}
    with interruptible() as between:
        for name in chosen:
            typer.echo(f"{name}: {TITLES[name]}")
            overlaps, rows, interrupted = show(name, tracker, out / name, max_frames=max_frames)
            if interrupted or between.pressed:
                typer.echo("interrupted: no strip and no success plot of all clips were drawn", err=True)
                raise typer.Exit(130)
            strips[out / name / "strip.png"] = rows
            curves[name] = success_curve(overlaps[1:])
            late = overlaps[FRAMES // 2 :]
            half = f", with the thermal camera gone {late.mean():.3f}" if name == "dropout" and len(late) else ""
            typer.echo(f"  mean IoU {overlaps[1:].mean():.3f}{half}; success AUC {curves[name].mean():.3f}")
    typer.echo(join_strips(strips, out / "strip.png"))
    typer.echo(f"{draw_success(out / 'success.png', curves)}")
    typer.echo("the first frame of each clip, whose box is given, is left out of every figure")


def show(
    name: str, tracker: "Tracker", out: Path, *, max_frames: int | None
) -> tuple["NDArray[np.float64]", int, bool]:
    """Track one clip into a folder.

    Returns:
        The IoU of each frame, the first included; how many cameras the strip shows; and whether it was cut short.
    """
    from duotrack.cli.demo_clips import open_clip
    from duotrack.cli.following import follow
    from duotrack.video import open_sinks
    from duotrack.video.pictures import draw_strip

    shown: list[tuple[Any, Any]] = []
    boxes, scores, states = [], [], []
    with open_clip(name) as clip:
        frames = min(len(clip.truth), max_frames or len(clip.truth))

        def watch(pair: Any, results: Sequence[Any]) -> None:
            # frames for the strip are drawn at the end: keep those, not all
            if pair.index % max(1, (frames - 1) // (STRIP - 1)) == 0:
                shown.append((pair, results))
            boxes.append(results[0].box)
            scores.append(results[0].score)
            states.append(results[0].state)

        sinks = open_sinks(out, clip.source, overwrite=True)
        summary = follow(
            clip.source, tracker, [clip.truth[0].tolist()], sinks, max_frames=frames, sift=clip.sift, watch=watch
        )
        cameras = len(clip.source.sides)
        overlaps = overlap(boxes, clip.truth)
    draw_strip([pair for pair, _ in shown], [results for _, results in shown], out / "strip.png", count=STRIP)
    for line in [
        *summary.lines(),
        f"strip: {out / 'strip.png'}",
        draw_plot(out / "plot.png", overlaps, scores, states),
    ]:
        typer.echo(f"  {line}")
    return overlaps, cameras, summary.interrupted


def overlap(boxes: Sequence[Any], truth: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """IoU of each tracked box with the labelled one of its frame, (N,)."""
    import numpy as np

    from duotrack.boxes import iou_xywh

    return np.asarray(iou_xywh(np.stack(list(boxes)), truth[: len(boxes)]), np.float64)


def join_strips(strips: Mapping[Path, int], path: Path) -> str:
    """The strips of all clips above one another, their frames of one height; short ones are filled up with black.

    `strips` says of each how many cameras it shows, one above the other. Returns the line that says where it is, or why
    there is none.
    """
    import cv2
    import numpy as np

    from duotrack.datasets.sequence import read_picture
    from duotrack.video.pictures import write_png

    rows = []
    for strip, cameras in strips.items():
        picture, _ = read_picture(strip)
        if picture is None:
            return f"strip of all: left out, {strip} cannot be read"
        height = JOINED * cameras
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        rows.append(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    widest = max(row.shape[1] for row in rows)
    filled = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0))) for row in rows]
    write_png(path, np.asarray(np.concatenate(filled), np.uint8))
    return f"strip of all: {path}"


def draw_plot(path: Path, overlaps: Sequence[float] | Any, scores: Sequence[float], states: Sequence[str]) -> str:
    """Plot IoU, score and state over time; returns the line that says where it is, or why there is none."""
    from duotrack.errors import InputError
    from duotrack.evaluation.figures import bare, blank_figure
    from duotrack.files import atomic_path

    try:
        figure = blank_figure(9, 3.6)
    except InputError as error:
        return f"plot: left out, {error}"
    axes = figure.subplots()
    axes.plot(overlaps, color="tab:blue", label="IoU with the labelled box")
    axes.plot(scores, color="tab:orange", linewidth=1, label="score")
    for state, colour in (("uncertain", "gold"), ("lost", "tab:red")):
        among = [name == state for name in states]
        if any(among):
            axes.fill_between(range(len(states)), 0, 1, where=among, step="mid", color=colour, alpha=0.25, label=state)
    axes.set(xlabel="frame", ylim=(0, 1.02), xlim=(0, max(1, len(states) - 1)))
    bare(axes, "both")
    axes.legend(loc="lower left", ncols=4)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return f"plot: {path}"


def draw_success(path: Path, curves: Mapping[str, "NDArray[np.float64]"]) -> str:
    """The success plot of all clips; returns the line that says where it is, or why there is none."""
    from duotrack.errors import InputError
    from duotrack.evaluation.figures import COLOURS, bare, blank_figure
    from duotrack.evaluation.success import THRESHOLDS
    from duotrack.files import atomic_path

    try:
        figure = blank_figure(5.2, 4)
    except InputError as error:
        return f"success plot: left out, {error}"
    axes = figure.subplots()
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(THRESHOLDS, curve, color=colour, label=f"{name} [{curve.mean():.3f}]")
    axes.set(xlabel="overlap threshold", ylabel="share of frames above", xlim=(0, 1), ylim=(0, 1.02))
    bare(axes, "both")
    axes.legend(loc="lower left", title="success AUC")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return f"success plot: {path}"
