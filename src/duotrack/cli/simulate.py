"""`duotrack data simulate`: rendered RGB-T sequences."""

from pathlib import Path
from typing import Annotated, Any

import typer

from duotrack.errors import InputError

Option = typer.Option


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the sequences, laid out like LasHeR.")],
    sequences: Annotated[int, Option(min=1, help="How many.")] = 10,
    frames: Annotated[int, Option(min=2, help="Frames of each; 30 are a second.")] = 150,
    size: Annotated[str, Option(help="WIDTHxHEIGHT of a frame.")] = "640x512",
    seed: Annotated[int, Option(min=0, help="Another seed makes other sequences.")] = 0,
    photos: Annotated[list[Path] | None, Option(help="Folder of backgrounds; repeatable. Without: drawn ones.")] = None,
    cutouts: Annotated[
        list[Path] | None, Option(help="Folder of objects: PNG with transparency, or whole pictures; repeatable.")
    ] = None,
    attributes: Annotated[
        list[str] | None, Option(help="Every sequence has these, e.g. TC,OV; docs/simulation.md lists them.")
    ] = None,
    dropouts: Annotated[float, Option(min=0, max=0.95, help="Share of frames that lack a modality.")] = 0.0,
    picture: Annotated[str, Option("--format", help="jpg or png.")] = "jpg",
    quality: Annotated[int, Option(min=1, max=100, help="Of JPEG files.")] = 92,
    memory: Annotated[int, Option(min=64, help="Megabytes for pictures; of more an even choice is used.")] = 1024,
    workers: Annotated[int, Option(min=0, help="Threads; 0: one a core.")] = 0,
    change: Annotated[
        list[str] | None, Option("--set", metavar="KEY=VALUE", help="What scenes hold, e.g. --set night=0.5")
    ] = None,
) -> None:
    """Render sequences of a visible and a thermal camera, with exact boxes and attributes.

    Example: [bold]duotrack data simulate made --sequences 20 --photos PHOTOS --cutouts CUTOUTS[/bold]

    Folders that hold visible/ and infrared/ with equal names are true pairs: their thermal side is used as it is. The
    same seed, pictures and settings give the same files. A run that was interrupted goes on where it stopped.
    """
    import os

    from rich.console import Console
    from rich.progress import Progress

    from duotrack.cli.benchmark import parse_size
    from duotrack.cli.options import check_choice
    from duotrack.datasets.simulation.assets import canvas_for, load_pool
    from duotrack.datasets.simulation.settings import Scenes
    from duotrack.datasets.simulation.writer import Order, write_sequences
    from duotrack.training.settings import parse

    check_choice("format", picture, ["jpg", "png"])
    width, height = parse_size(size)
    settings = parse(Scenes, {"width": width, "height": height, **_changes(change or [])}, source="--size and --set")
    order = Order(
        sequences=sequences,
        frames=frames,
        seed=seed,
        wanted=frozenset(part.strip() for entry in attributes or [] for part in entry.split(",") if part.strip()),
        dropouts=dropouts,
        format=picture,  # type: ignore[arg-type]  # checked above
        quality=quality,
    )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder for the sequences")
    pool = load_pool(photos or [], cutouts or [], canvas=canvas_for(settings), memory=memory)
    made: list[bool] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("simulating", total=sequences)

        def watch(_name: str, now: bool) -> None:
            made.append(now)
            progress.advance(task)

        found = write_sequences(out, order, pool, settings, workers=workers or os.cpu_count() or 1, watch=watch)
    counts = {each: sum(each in having for having in found.values()) for each in sorted(set().union(*found.values()))}
    typer.echo(f"{out}: {sum(made)} sequences written, {len(made) - sum(made)} were there")
    typer.echo("attributes: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


def _changes(given: list[str]) -> dict[str, Any]:
    import yaml

    changes: dict[str, Any] = {}
    for entry in given:
        key, equals, text = entry.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set takes key=value, got {entry!r}; for example --set night=0.5")
        if key.strip() in ("width", "height"):
            raise InputError(f"--set {key}: the size of frames is given by --size")
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {key}: {text!r} is not a YAML value; quote it") from error
    return changes
