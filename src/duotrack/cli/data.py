"""`duotrack data`: data sets on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duotrack.cli.miss import miss

if TYPE_CHECKING:
    from duotrack.datasets.check import Check

app = typer.Typer(help="Check a data set on disk, take modalities away from it.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Check a data set on disk, take modalities away from it."""


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


app.command()(miss)


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
