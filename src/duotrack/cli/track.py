"""`duotrack track`: follow objects through a video or a live stream, into files."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duotrack.cli.options import (
    BackendOption,
    EliminationOption,
    ModelOption,
    PrecisionOption,
    WeightsOption,
    check_choice,
)
from duotrack.cli.templates import IntervalOption, PolicyOption, ReuseOption, ThetaOption, WindowOption, asked_for
from duotrack.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from duotrack.cli.following import Sift
    from duotrack.frames import FramePair
    from duotrack.video import PairedSource

Option = typer.Option
_MISSING = "Missing modalities"


def track(
    rgb: Annotated[str | None, Option(help="Visible: video file, image folder, camera number, address.")] = None,
    aux: Annotated[str | None, Option(help="Thermal, depth or event: the same kinds. One of the two suffices.")] = None,
    box: Annotated[
        list[str] | None, Option(help="x,y,w,h of the object in the first frame; again for each further object.")
    ] = None,
    modality: Annotated[
        str, Option(help="What aux shows: thermal, depth (16 bits, millimetres) or event (pictures of events).")
    ] = "thermal",
    out: Annotated[Path | None, Option(help="Folder for boxes.txt, track.jsonl and overlay.mp4.")] = None,
    first_frame: Annotated[
        Path | None,
        Option(metavar="DIR", help="Only write the first frames there, with a pixel grid to read --box off."),
    ] = None,
    start: Annotated[int, Option(min=0, help="Frame to begin with; --box is for that frame.")] = 0,
    max_frames: Annotated[int | None, Option(min=1, help="Stop after so many frames.")] = None,
    overlay: Annotated[bool, Option("--overlay/--no-overlay", help="Write overlay.mp4.")] = True,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace results that --out holds.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the summary as JSON.")] = False,
    model: ModelOption = None,
    weights: WeightsOption = None,
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel="Model")] = "auto",
    backend: BackendOption = None,
    precision: PrecisionOption = None,
    elimination: EliminationOption = None,
    uncertain_below: Annotated[
        float | None, Option(help="One score below this: uncertain (0.35).", rich_help_panel="State")
    ] = None,
    lost_below: Annotated[
        float | None, Option(help="--lost-after scores below: lost (0.2; ckd-tiny 0.3).", rich_help_panel="State")
    ] = None,
    lost_after: Annotated[int | None, Option(help="Frames in a row (10; ckd-tiny 6).", rich_help_panel="State")] = None,
    tracking_above: Annotated[
        float | None, Option(help="--recover-after scores from here: tracking again (0.5).", rich_help_panel="State")
    ] = None,
    recover_after: Annotated[int | None, Option(help="Frames in a row (3).", rich_help_panel="State")] = None,
    depth_colours: Annotated[
        str, Option(help="Channel order of rendered depth; published weights: bgr; else rgb.", rich_help_panel="Model")
    ] = "bgr",
    missing: Annotated[
        str | None,
        Option(
            help="When one sensor drops out: model (the network's own way), zeros, copy, hold-frame, hold-box.",
            rich_help_panel=_MISSING,
        ),
    ] = None,
    detect_missing: Annotated[
        bool,
        Option(
            "--detect-missing",
            help="Black, saturated, even and frozen images and absent files of a numbered folder count as missing.",
            rich_help_panel=_MISSING,
        ),
    ] = False,
    mask: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Leave these images out: JSON as the benchmarks publish it, or a line rgb,aux (0 or 1) a frame.",
            rich_help_panel=_MISSING,
        ),
    ] = None,
    mask_sequence: Annotated[
        str | None, Option(metavar="NAME", help="Which mask of the JSON file.", rich_help_panel=_MISSING)
    ] = None,
    redetect: Annotated[
        bool | None,
        Option(
            "--redetect/--no-redetect",
            help="Look for a lost target in the whole frame; default: the model's own (ckd-tiny: yes).",
            rich_help_panel="Model",
        ),
    ] = None,
    template_policy: PolicyOption = None,
    template_theta: ThetaOption = None,
    template_window: WindowOption = None,
    template_interval: IntervalOption = None,
    template_reuse: ReuseOption = False,
    sync: Annotated[str, Option(help="Pair frames by index or by time.", rich_help_panel="Pairing")] = "index",
    tolerance: Annotated[
        float | None, Option(min=0, help="Seconds between two frames of a pair, at most.", rich_help_panel="Pairing")
    ] = None,
    length_mismatch: Annotated[
        str, Option(help="error, or go on to the end of the shortest or the longest.", rich_help_panel="Pairing")
    ] = "error",
    resize_aux: Annotated[
        bool, Option("--resize-aux", help="Scale aux to the size of rgb.", rich_help_panel="Pairing")
    ] = False,
    fps: Annotated[float | None, Option(help="Frame rate of image folders.", rich_help_panel="Pairing")] = None,
    allow_truncated: Annotated[
        bool,
        Option("--allow-truncated", help="Track a damaged video up to where it breaks off.", rich_help_panel="Pairing"),
    ] = False,
) -> None:
    """Follow one object, or several, through a visible video, an aligned thermal (depth, event) one, or both.

    Example: [bold]duotrack track --rgb visible.mp4 --aux thermal.mp4 --box 120,80,40,60 --out results[/bold]
    """
    import json

    check_choice("sync", sync, ["index", "time"])
    check_choice("length-mismatch", length_mismatch, ["error", "shortest", "longest"])
    boxes = [parse_box(text) for text in box or []]
    if first_frame is None and not boxes:
        raise InputError(
            "no --box: say where the object is in the first frame as --box x,y,w,h; `duotrack track "
            f"{_sources(rgb, aux)} --first-frame DIR` writes that frame with a pixel grid to read it off"
        )
    if first_frame is None and out is None:
        raise InputError("no --out: name a folder for the results, --out DIR")

    if mask_sequence is not None and mask is None:
        raise InputError(f"--mask-sequence {mask_sequence} chooses from a mask file: name it with --mask FILE")
    templates = asked_for(template_policy, template_theta, template_window, template_interval, template_reuse)

    from duotrack.depth import colours_named
    from duotrack.frames import kind_named
    from duotrack.tracking.missing import DEFAULT_POLICY
    from duotrack.video import open_source

    kind = kind_named(modality)
    colours = colours_named(depth_colours, kind)
    rows = None if mask is None else _read_mask(mask, mask_sequence)
    source = open_source(
        rgb,
        aux,
        sync="time" if sync == "time" else "index",
        tolerance=tolerance,
        length_mismatch=length_mismatch,  # type: ignore[arg-type]  # checked above
        resize_aux=resize_aux,
        fps=fps,
        truncated="deliver" if allow_truncated else "error",
        modality=kind,
        depth_colours=colours,
        missing_files=detect_missing,
    )
    with source:
        if first_frame is not None:
            _write_first_frame(source, start, first_frame)
            return
        from duotrack.cli.following import follow
        from duotrack.tracking.load import check_names, load_tracker, model_of
        from duotrack.video import open_sinks

        assert out is not None
        model = model_of(weights, model)
        check_names(model, backend=backend, precision=precision, weights=weights)
        sift = _sift(source, rows, detect=detect_missing)
        sinks = open_sinks(out, source, objects=len(boxes), overlay=overlay, overwrite=overwrite)
        tracker = load_tracker(
            model,
            weights=weights,
            device=device,
            precision=precision,
            backend=backend,
            elimination=elimination,
            modality=kind,
            depth_colours=colours,
            missing=missing or DEFAULT_POLICY,
            templates=templates,
            prepare_for=source.sides,
            redetect=redetect,
            uncertain_below=uncertain_below,
            lost_below=lost_below,
            lost_after=lost_after,
            tracking_above=tracking_above,
            recover_after=recover_after,
        )
        if not as_json:
            typer.echo(source.describe())
        summary = follow(source, tracker, boxes, sinks, start=start, max_frames=max_frames, sift=sift)
    typer.echo(json.dumps(summary.as_dict()) if as_json else "\n".join(summary.lines()))
    if summary.interrupted and not source.live:
        raise typer.Exit(130)


def parse_box(text: str) -> list[float]:
    """`"x,y,w,h"` as four numbers; whether they make sense in the frame, the tracker says."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"--box {text} is not four numbers; write --box x,y,w,h, for example --box 120,80,40,60"
        ) from error
    if len(numbers) != 4:
        raise InputError(f"--box {text} has {len(numbers)} numbers; write four: --box x,y,w,h")
    return numbers


def _sources(rgb: str | None, aux: str | None) -> str:
    given = [f"--{name} {shlex.quote(value)}" for name, value in (("rgb", rgb), ("aux", aux)) if value is not None]
    return " ".join(given) or "--rgb SRC"


def _read_mask(path: Path, sequence: str | None) -> "tuple[str, NDArray[np.bool_]]":
    from duotrack.datasets.single_mask import read_mask

    return read_mask(path, sequence=sequence)


def _sift(source: "PairedSource", named: "tuple[str, NDArray[np.bool_]] | None", *, detect: bool) -> "Sift":
    """What takes images out of the frames before the tracker gets them; `named` is a mask and what it is called."""
    from duotrack.video.dead import without_dead
    from duotrack.video.masked import masked

    if named is not None and source.live:
        raise InputError(
            "--mask says which frames of a recording lack an image; a live stream drops frames as it likes"
        )
    if named is not None and source.exact and len(named[1]) != source.length:
        raise InputError(
            f"{named[0]}: {len(named[1])} rows, and the source has {source.length} frames; one row a frame is needed"
        )

    def sift(pairs: "Iterator[FramePair]") -> "Iterator[FramePair]":
        kept = pairs if named is None else masked(pairs, named[1], name=named[0])
        return without_dead(kept) if detect else kept

    return sift


def _write_first_frame(source: "PairedSource", start: int, folder: Path) -> None:
    from itertools import islice

    from duotrack.video.pictures import first_frame_images

    pair = next(islice(source, start, None), None)
    if pair is None:
        raise InputError(f"the source ends before frame {start}; choose a smaller --start")
    for path in first_frame_images(pair, folder):
        typer.echo(path)
