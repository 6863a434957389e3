"""`duotrack fuse`: one video or folder of pictures out of a visible and a thermal one."""

from pathlib import Path
from typing import Annotated

import typer

from duotrack.cli.options import check_choice
from duotrack.errors import InputError

Option = typer.Option


def fuse(
    rgb: Annotated[str, Option(help="Visible: video file, image folder, camera number, address.")],
    aux: Annotated[str, Option(help="Thermal (8 or 16 bits), aligned with it: the same kinds.")],
    out: Annotated[Path, Option(help="FILE.mp4 for a video, else a folder for PNG images named by frame.")],
    expert: Annotated[
        str,
        Option(
            "--expert",
            "--model",
            help="laplacian, guided, gradmax, average, max; a model with an adapter (tpf-base, tpf-tiny) and its "
            "trained --weights; cddfuse, emma, tardal, ddfm with --weights and --code; your own as MODULE:FUNCTION "
            "or FILE.py:FUNCTION (it is run).",
        ),
    ] = "laplacian",
    side_by_side: Annotated[bool, Option("--side-by-side", help="Show both sources beside the fused picture.")] = False,
    start: Annotated[int, Option(min=0, help="Frame to begin with.")] = 0,
    max_frames: Annotated[int | None, Option(min=1, help="Stop after so many frames.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace what an earlier run wrote to --out.")] = False,
    cache_as: Annotated[
        str | None,
        Option(metavar="DATASET/SEQUENCE", help="Fill a cache for training in --out; frames it has are kept."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the summary as JSON.")] = False,
    weights: Annotated[
        Path | None, Option(help="Weights of an adapter or a published network.", rich_help_panel="Expert")
    ] = None,
    code: Annotated[
        str | None,
        Option(
            metavar="MODULE:FUNCTION",
            help="Builds a published network (it is run); none: --weights is TorchScript, a program too.",
            rich_help_panel="Expert",
        ),
    ] = None,
    black: Annotated[
        float | None,
        Option(min=-1, max=0, help="What a published network's output calls black.", rich_help_panel="Expert"),
    ] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel="Expert")] = "auto",
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
        Option("--allow-truncated", help="Fuse a damaged video up to where it breaks off.", rich_help_panel="Pairing"),
    ] = False,
) -> None:
    """Fuse a visible video and an aligned thermal one, pixel by pixel, into one.

    Example: [bold]duotrack fuse --rgb visible.mp4 --aux thermal.mp4 --expert laplacian --out fused.mp4[/bold]
    """
    import json

    check_choice("sync", sync, ["index", "time"])
    check_choice("length-mismatch", length_mismatch, ["error", "shortest", "longest"])
    for name, address in (("rgb", rgb), ("aux", aux)):
        if Path(address).exists() and out.exists() and Path(address).samefile(out):
            raise InputError(f"--out {out} is the source --{name}; choose another place")
    dataset, _, sequence = (cache_as or "").partition("/")
    if cache_as is not None and not (dataset and sequence):
        raise InputError(f"--cache-as {cache_as} is not DATASET/SEQUENCE; write for example lasher/boy1")
    if cache_as is not None and side_by_side:
        raise InputError("--side-by-side is for looking at, --cache-as for training; choose one")

    from duotrack.cli.fusing import CacheSink, fuse_source
    from duotrack.fusion.cache import FrameCache, make_cache
    from duotrack.fusion.choose import ExpertSource, open_expert
    from duotrack.fusion.expert import Expert
    from duotrack.runtime.torch_backend import resolve_device
    from duotrack.video import open_source
    from duotrack.video.picture_sinks import PictureSink, open_picture_sink

    where = resolve_device(device)
    chosen = open_expert(ExpertSource(name=expert, weights=weights, code=code, black=black))
    if not isinstance(chosen, Expert):
        raise InputError(f"--expert {expert} holds frames that are fused already; name the expert itself")
    with open_source(
        rgb,
        aux,
        sync="time" if sync == "time" else "index",
        tolerance=tolerance,
        length_mismatch=length_mismatch,  # type: ignore[arg-type]  # checked above
        resize_aux=resize_aux,
        fps=fps,
        truncated="deliver" if allow_truncated else "error",
    ) as source:
        sink: PictureSink | CacheSink
        if cache_as is None:
            sink = open_picture_sink(out, fps=source.fps, overwrite=overwrite)
        else:
            FrameCache(out, chosen.name, chosen.version).path(dataset, sequence, 0)  # refused before anything is made
            sink = CacheSink(make_cache(out, chosen.name, chosen.version), dataset, sequence, overwrite)
        if not as_json:
            typer.echo(source.describe())
        summary = fuse_source(
            source, chosen, sink, device=where, start=start, max_frames=max_frames, side_by_side=side_by_side
        )
    typer.echo(json.dumps(summary.as_dict()) if as_json else "\n".join(summary.lines()))
    if summary.interrupted and not source.live:
        raise typer.Exit(130)
