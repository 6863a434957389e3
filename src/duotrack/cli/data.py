"""`duotrack data`: data sets on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duotrack.cli.miss import miss
from duotrack.cli.simulate import simulate

if TYPE_CHECKING:
    from duotrack.datasets.check import Check

app = typer.Typer(
    help="Check a data set, take modalities away from it, make training from it faster, render one.",
    no_args_is_help=True,
)


@app.callback()
def data() -> None:
    """Check a data set, take modalities away from it, make training from it faster, render one."""


@app.command()
def check(
    dataset: Annotated[str, typer.Option(help="Benchmark: gtot, rgbt210, rgbt234, lasher, ..., folder.")],
    root: Annotated[Path, typer.Option(help="Where its sequences lie.")],
    sequences: Annotated[
        list[str] | None, typer.Option(help="Only these: names with commas between; may be repeated.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="What auxiliary frames show; of a folder: thermal, depth, event.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at the start and end of images, decode none.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Threads; 0: one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Tell what is wrong with a copy of a benchmark: sequences, counts, names, boxes, images.

    Example: [bold]duotrack data check --dataset lasher --root LasHeR --quick[/bold]

    Exit code 0: nothing is wrong (remarks are no faults). 1: something is. 2: bad input.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress

    from duotrack.datasets.benchmarks import benchmark, showing
    from duotrack.datasets.check import check_benchmark
    from duotrack.frames import kind_named

    which = showing(benchmark(dataset), None if modality is None else kind_named(modality))
    wanted = [part for entry in sequences for part in entry.split(",") if part] if sequences else None
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checking", total=None)
        found = check_benchmark(
            which,
            root,
            names=wanted,
            quick=quick,
            workers=workers,
            watch=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps({**asdict(found), "clean": found.clean}, indent=2))
    else:
        _print(found, which.quirks)
    if not found.clean:
        raise typer.Exit(1)


@app.command()
def cache(
    root: Annotated[Path, typer.Option(help="Where the sequences lie.")],
    out: Annotated[Path, typer.Option(help="The cache: a folder of sequences to give to `duotrack train --data`.")],
    layout: Annotated[str, typer.Option(help="How they lie: lasher, gtot or vtuav-train.")] = "lasher",
    model: Annotated[str, typer.Option(help="The model to be trained: its crops decide what is kept.")] = "ckd-base",
    reach: Annotated[float, typer.Option(help="Side of the square that is kept around a target, in its sizes.")] = 10.0,
    quality: Annotated[int, typer.Option(help="Of the JPEG files, 1 to 100.")] = 95,
    names: Annotated[str, typer.Option(metavar="FILE[:SECTION]", help="These sequences only, one name a line.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Threads; 0: one a core.")] = 0,
) -> None:
    """Build a crop cache: the surroundings of the target in every frame, in files that take less time to decode.

    Example: [bold]duotrack data cache --root LasHeR --out LasHeR-crops[/bold]

    The result is a dataset in LasHeR's layout for training, not for evaluation. Pictures are re-encoded.
    """
    import os
    from typing import get_args

    from rich.console import Console
    from rich.progress import Progress

    from duotrack.datasets.cache import CropCache, build_cache
    from duotrack.datasets.layouts import LayoutName, layout_named, open_layout
    from duotrack.errors import InputError, nearest
    from duotrack.models.zoo import model_spec
    from duotrack.training.data import read_names

    if layout not in get_args(LayoutName):
        known = list(get_args(LayoutName))
        raise InputError(f"--layout {layout} is not one of {', '.join(known)}{nearest(layout, known)}")
    if out.resolve() == root.resolve():
        raise InputError(f"--out {out} is the data itself; give another folder")
    geometry = model_spec(model).geometry
    # a target half as large again as the search crop shows it: jitter enlarges as often as it shrinks
    settings = CropCache(reach=reach, pixels=1.5 * geometry.search_size / geometry.search_factor, quality=quality)
    path, _, section = names.partition(":")
    wanted = read_names(Path(path), section) if names else None
    sequences = open_layout(root, layout_named(layout), names=wanted)  # type: ignore[arg-type]  # checked above
    made: list[bool] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("caching", total=len(sequences))

        def watch(_name: str, now: bool) -> None:
            made.append(now)
            progress.advance(task)

        build_cache(sequences, out, settings, workers=workers or os.cpu_count() or 1, watch=watch)
    typer.echo(f"{out}: {sum(made)} sequences written, {len(made) - sum(made)} were there")


app.command()(miss)
app.command()(simulate)


def _print(found: "Check", quirks: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if found.findings:
        table = Table(title=f"{found.benchmark} in {found.root}")
        for head in ("sequence", "", "what", "detail"):
            table.add_column(head, overflow="fold")
        for finding in sorted(found.findings, key=lambda finding: not finding.wrong):
            mark = Text("wrong", "red") if finding.wrong else Text("remark", "dim")
            table.add_row(Text(finding.sequence or "all"), mark, Text(finding.kind), Text(finding.detail))
        console.print(table)
    wrong = [finding for finding in found.findings if finding.wrong]
    said = (
        f"{len(wrong)} faults in {len({finding.sequence for finding in wrong})} places" if wrong else "nothing is wrong"
    )
    how = "start and end of " if found.quick else ""
    console.print(
        f"{found.sequences} sequences, {found.frames} frames, {how}{found.images} images read: {said}",
        soft_wrap=True,
        highlight=False,
    )
    for quirk in quirks:
        console.print(f"note: {quirk}", soft_wrap=True, highlight=False, markup=False)
