"""`duotrack vot`: a tracker for the VOT toolkit, and a workspace with it."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duotrack.cli.options import (
    BackendOption,
    EliminationOption,
    ModelOption,
    NameOption,
    PrecisionOption,
    WeightsOption,
)
from duotrack.errors import InputError

if TYPE_CHECKING:
    from duotrack.frames import Kind

Option = typer.Option
_MODEL, _WORKSPACE = "Model", "Workspace"


def vot(
    channels: Annotated[
        str, Option(help="What the toolkit shall send: color,ir; color,depth; color; ir or depth.")
    ] = "color,ir",
    model: ModelOption = None,
    weights: WeightsOption = None,
    name: NameOption = None,
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=_MODEL)] = "auto",
    backend: BackendOption = None,
    precision: PrecisionOption = None,
    elimination: EliminationOption = None,
    depth_colours: Annotated[
        str, Option(help="Channel order of rendered depth; published weights: bgr; else rgb.", rich_help_panel=_MODEL)
    ] = "bgr",
    write_workspace: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Write a toolkit workspace that runs this tracker with the options above, and leave.",
            rich_help_panel=_WORKSPACE,
        ),
    ] = None,
    stack: Annotated[
        str | None,
        Option(help="Its experiments: vot2022/rgbd, vot2021/rgbd, vot2020/rgbtir, ...", rich_help_panel=_WORKSPACE),
    ] = None,
    sequences: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Link these sequences in (DIR/NAME/color, depth or ir, groundtruth.txt); default: the stack's own.",
            rich_help_panel=_WORKSPACE,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        Option("--overwrite", help="Replace a tracker or stack of that workspace.", rich_help_panel=_WORKSPACE),
    ] = False,
) -> None:
    """Track for the VOT toolkit, which starts this command itself and speaks TraX with it.

    Example: [bold]duotrack vot --channels color,depth --write-workspace ws --stack vot2022/rgbd[/bold]

    Then: vot evaluate --workspace ws ckd-tiny; vot analysis --workspace ws ckd-tiny. See docs/vot.md.
    """
    from duotrack.depth import colours_named
    from duotrack.evaluation.run import check_weights
    from duotrack.models.zoo import elimination_of, model_spec
    from duotrack.runtime.backends import backend_device, check_backend, trained_by
    from duotrack.tracking.load import load_tracker, model_of
    from duotrack.tracking.vot import channels_named, import_trax, serve
    from duotrack.weights.task import settle_kind

    asked = channels_named(channels)
    kind: Kind | None = "depth" if "depth" in asked else "thermal" if "ir" in asked else None
    colours = colours_named(depth_colours, kind)
    settled, in_precision = check_backend(backend, precision, weights)
    model = model_of(weights, model)
    elimination_of(model_spec(model), elimination)
    check_weights(model, weights)
    backend_device(settled, device, in_precision)
    import_trax()
    if write_workspace is not None:
        if stack is None:
            raise InputError("--write-workspace needs --stack: the experiments to run, for example vot2022/rgbd")
        spec = model_spec(model)  # better said now than when the toolkit starts us
        settle_kind(spec, trained_by(spec, weights), kind, colours=colours)
        options = {
            "channels": ",".join(asked),
            "model": model,
            "weights": None if weights is None else str(weights.absolute()),
            "name": name,
            "device": device,
            "backend": backend,
            "precision": precision,
            "elimination": elimination,
            "depth-colours": depth_colours if "depth" in asked else None,
        }
        _write(write_workspace, stack, name or model, options, asked, sequences, overwrite=overwrite)
        return
    if stack is not None or sequences is not None or overwrite:
        raise InputError("--stack, --sequences and --overwrite are for a workspace: add --write-workspace DIR")
    if sys.stdin.isatty() and "TRAX_SOCKET" not in os.environ:
        raise InputError(
            "the VOT toolkit starts this command and talks to it; make it a workspace with --write-workspace DIR"
        )

    tracker = load_tracker(
        model,
        weights=weights,
        device=device,
        backend=backend,
        precision=precision,
        elimination=elimination,
        modality=kind,
        depth_colours=colours,
        redetect=False,  # the toolkit's experiments say what happens when a target is lost
    )
    try:
        serve(tracker, asked, name=name or model, colours=colours)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _write(
    folder: Path,
    stack: str,
    name: str,
    options: dict[str, str | None],
    channels: tuple[str, ...],
    sequences: Path | None,
    *,
    overwrite: bool,
) -> None:
    from duotrack.evaluation.vot_workspace import link_sequences, write_workspace

    given = [part for option, value in options.items() if value is not None for part in (f"--{option}", value)]
    command = [sys.executable, "-m", "duotrack", "vot", *given]
    linked = [] if sequences is None else link_sequences(sequences, folder, channels)
    for path in write_workspace(folder, stack=stack, name=name, command=command, overwrite=overwrite):
        typer.echo(path)
    if linked:
        typer.echo(f"{len(linked)} sequences linked into {folder / 'sequences'}")
    there = f"--workspace {shlex.quote(str(folder))} {name}"
    typer.echo(f"next: vot evaluate {there}; vot analysis {there}")
