"""`duotrack benchmark`: how fast tracking or training is here, and how near to what the machine can do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duotrack.errors import InputError, nearest

if TYPE_CHECKING:
    from duotrack.evaluation.speed import Comparison, Report, Spread
    from duotrack.evaluation.stopwatch import Configuration

Option = typer.Option
_COMPARABLE = ("model", "weights", "backend", "precision", "device", "elimination")
_TRACKING = (
    *("model", "weights", "backend", "precision", "elimination", "compare"),
    *("modalities", "source", "frames", "rounds", "peak"),
)
_TRAINING = ("data", "stills", "photos", "cutouts", "batches", "change")
"""Options that belong to one of the two things that are timed."""


def benchmark(
    context: typer.Context,
    model: Annotated[
        str | None, Option(help="Model, see `duotrack models`; default: ckd-tiny, or the export's.")
    ] = None,
    weights: Annotated[Path | None, Option(help="Weights or an export; random weights cost the same time.")] = None,
    backend: Annotated[
        str | None, Option(help="torch, compiled, onnxruntime or openvino; default: torch, or the export's.")
    ] = None,
    precision: Annotated[
        str | None, Option(help="fp32, bf16, fp16 or int8, as the back-end has it; default: fp32, or the export's.")
    ] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    elimination: Annotated[str | None, Option(help="mce, ce or none; default: the model's own.")] = None,
    compare: Annotated[
        str | None, Option(metavar="KEY=VALUE,...", help="Against this, e.g. backend=openvino,precision=bf16")
    ] = None,
    modalities: Annotated[str, Option(help="one or two.")] = "two",
    size: Annotated[str, Option(help="WIDTHxHEIGHT of made-up frames.")] = "640x512",
    source: Annotated[
        list[Path] | None, Option(help="Video instead of made-up frames; a second time for the other modality.")
    ] = None,
    frames: Annotated[int, Option(min=3, help="Frames a round.")] = 20,
    rounds: Annotated[int, Option(min=1, help="Rounds, which take turns.")] = 7,
    peak: Annotated[bool, Option("--peak/--no-peak", help="Measure the machine's matrix products.")] = True,
    out: Annotated[Path | None, Option("--json", metavar="FILE", help="Write the figures there as JSON.")] = None,
    train: Annotated[
        str | None, Option(metavar="RECIPE", help="Time training by this recipe.", rich_help_panel="Training")
    ] = None,
    data: Annotated[
        list[Path] | None,
        Option(help="Sequences to train on; without any folder: made up.", rich_help_panel="Training"),
    ] = None,
    stills: Annotated[list[Path] | None, Option(help="Still images as well.", rich_help_panel="Training")] = None,
    photos: Annotated[
        list[Path] | None, Option(help="Backgrounds for the recipe's simulation.", rich_help_panel="Training")
    ] = None,
    cutouts: Annotated[
        list[Path] | None, Option(help="Objects for the recipe's simulation.", rich_help_panel="Training")
    ] = None,
    batches: Annotated[int, Option(min=1, help="Batches to time.", rich_help_panel="Training")] = 20,
    change: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="Change the recipe.", rich_help_panel="Training"),
    ] = None,
) -> None:
    """Time every stage of tracking, frames end to end, memory, and the share of this machine's matrix products reached.

    Example: [bold]duotrack benchmark --model ckd-tiny --compare backend=openvino,precision=bf16[/bold]

    On Linux, `taskset -c 0,1 duotrack benchmark ...` measures two cores of a larger machine. Graphs that back-ends make
    are kept in ~/.cache/duotrack, at most $DUOTRACK_CACHE_LIMIT gigabytes of them (docs/speed.md).
    """
    import json

    from duotrack.files import writable, write_text

    pixels = parse_size(size)
    if out is not None and not writable(out):
        raise InputError(f"--json {out} cannot be written; name a file in a folder of yours")  # before minutes of work
    if astray := _given(context, _TRACKING if train is not None else _TRAINING):
        why = "only where tracking is timed; leave out --train" if train else "only with --train RECIPE; give that"
        raise InputError(f"{', '.join(astray)}: {why}, or leave it out")
    if source and _given(context, ("size",)):
        raise InputError("--size is that of made-up frames, --source has its own; leave one out")
    if train is not None:
        found = _train(train, [data, stills, photos, cutouts], change or [], batches, pixels, device)
    else:
        first: dict[str, Any] = dict.fromkeys(_COMPARABLE)
        first |= {"model": _model(weights, model), "weights": weights, "backend": backend}
        first |= {"precision": precision, "device": device, "elimination": elimination}
        count = {"one": 1, "two": 2}.get(modalities)
        if count is None:
            raise InputError(f"--modalities {modalities} is not one of one, two")
        both = [first] if compare is None else [first, first | parse_changes(compare)]
        found = _track(both, source or [], pixels, count, frames, rounds, peak)
    if out is not None:
        write_text(out, json.dumps(found, indent=2) + "\n")


def _given(context: typer.Context, names: tuple[str, ...]) -> list[str]:
    """Those of some options that stand on the command line, as they are written there."""
    written = {each.name: "/".join([*each.opts, *each.secondary_opts]) for each in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in names}
    return [written[name] for name, source in sources.items() if source is not None and source.name != "DEFAULT"]


def _model(weights: Path | None, model: str | None) -> str:
    from duotrack.tracking.load import model_of

    return model_of(weights, model)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "640x512".

    Raises:
        InputError: not two even numbers from 64 to 8192, or more pixels than a video may have.
    """
    from duotrack.images import MAX_PIXELS

    width, _, height = text.partition("x")
    if width.isdecimal() and height.isdecimal():
        pixels = int(width), int(height)
        if all(64 <= side <= 8192 and side % 2 == 0 for side in pixels) and pixels[0] * pixels[1] <= MAX_PIXELS:
            return pixels
    raise InputError(
        f"--size {text}: give WIDTHxHEIGHT, for example 640x512: even numbers from 64 to 8192, 64 megapixels at most"
    )


def parse_changes(text: str) -> dict[str, Any]:
    """Fields of the configuration that is compared with, from "key=value,key=value".

    Raises:
        InputError: an unknown key, one that comes twice, or no value.
    """
    changes: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if key not in _COMPARABLE:
            raise InputError(f"--compare has no key {key!r}{nearest(key, list(_COMPARABLE))}")
        if not equals or not value:
            raise InputError(f"--compare takes key=value, got {part!r}; for example --compare precision=bf16")
        if key in changes:
            raise InputError(f"--compare has {key} twice; give it once")
        changes[key] = Path(value) if key == "weights" else value
    return changes


def _track(
    both: list[dict[str, Any]],
    sources: list[Path],
    size: tuple[int, int],
    modalities: int,
    frames: int,
    rounds: int,
    peak: bool,
) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import Progress

    from duotrack.evaluation.machine import about_machine
    from duotrack.evaluation.speed import clip_of, measure
    from duotrack.evaluation.stopwatch import Configuration

    configurations = [Configuration(**each).settled() for each in both]
    machine = about_machine()
    console = Console(stderr=True)
    with (
        clip_of(sources, size=size, modalities=modalities, frames=frames) as clip,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("measuring", total=rounds + 1)
        reports, comparisons = measure(
            configurations, clip, rounds=rounds, peak=peak, watch=lambda: progress.advance(task)
        )
    shown = Console()
    for report in reports:
        _print(report, shown)
    found = {**reports[0].as_dict(), "modalities": modalities, "size": None if sources else list(size)}
    found |= {"sources": [str(each) for each in sources], "frames": frames, "rounds": rounds, **machine}
    for report, comparison in zip(reports[1:], comparisons, strict=True):
        shown.print(_words(report.configuration, comparison), highlight=False, soft_wrap=True)
        ratios = {name: vars(getattr(comparison, name)) for name in ("network", "frame")}
        found["compared"] = {**report.as_dict(), "times_faster": ratios}
    return found


def _print(report: "Report", console: Any) -> None:
    from rich.table import Table

    table = Table(title=f"{_title(report.configuration)}, {report.device}")
    for head in ("", "median", "quartiles"):
        table.add_column(head, justify="left" if not head else "right")
    for name, each in [*report.stages.items(), ("end to end", report.frame)]:
        table.add_row(name, f"{each.median:.2f} ms", f"{each.q1:.2f} to {each.q3:.2f}")
    console.print(table)
    said = f"{report.fps:.1f} frames/s end to end, decoding ahead; peak memory {report.memory['resident']:.0f} MB"
    if "device" in report.memory:
        said += f", on the device {report.memory['device']:.0f} MB"
    work = f"{report.flops / 1e9:.1f} GFLOP a frame, {report.flops_per_second / 1e9:.0f} GFLOP/s"
    if report.peak_share is not None and report.peak_flops is not None:
        work += f": {report.peak_share:.0%} of the {report.peak_flops / 1e9:.0f} GFLOP/s of matrix products here"
        work += f" ({report.peak_by})"
        how = (report.configuration.backend, report.configuration.precision)
        if report.peak_share > 1 and how == ("torch", "fp32"):
            work += "; more than all of it: ours are made of bf16 products (docs/speed.md)"
    console.print(f"{said}\n{work}", highlight=False, soft_wrap=True)


def _title(configuration: "Configuration") -> str:
    elimination = f", {configuration.elimination}" if configuration.elimination else ""
    return f"{configuration.model}, {configuration.backend} {configuration.precision}{elimination}"


def _words(other: "Configuration", comparison: "Comparison") -> str:
    def words(each: "Spread") -> str:
        return f"{each.median:.2f} ({each.q1:.2f} to {each.q3:.2f})"

    return (
        f"{_title(other)}: {words(comparison.network)} times as fast in the network, "
        f"{words(comparison.frame)} end to end"
    )


def _train(
    recipe: str,
    given: list[list[Path] | None],
    changes: list[str],
    batches: int,
    size: tuple[int, int],
    device: str,
) -> dict[str, Any]:
    from duotrack.training.recipe import load_recipe

    resolved = load_recipe(recipe, changes)
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is cpu, cuda or auto for training, got {device!r}")
    try:
        from duotrack.training.speed import measure_training
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("pytorch_lightning", "tensorboard"):
            raise
        raise InputError(f"training needs {error.name}; install it with: pip install 'duotrack[train]'") from error
    from duotrack.evaluation.machine import about_machine
    from duotrack.evaluation.speed import spread
    from duotrack.training.data import Folders

    data, stills, photos, cutouts = (tuple(paths or ()) for paths in given)
    machine = about_machine()
    folders = Folders(data, stills, photos=photos, cutouts=cutouts) if any(given) else None
    speed = measure_training(resolved, folders, batches=batches, size=size, device=device)  # type: ignore[arg-type]
    batch = spread([1000 * seconds for seconds in speed.seconds])
    typer.echo(
        f"{recipe}: {speed.pairs_per_second:.1f} pairs/s, {speed.waiting_share:.1%} of the time waiting for data "
        f"({resolved.workers} workers, {resolved.precision}, {speed.device})"
    )
    typer.echo(f"a batch of {speed.batch_size}: median {batch.median:.0f} ms, {batch.q1:.0f} to {batch.q3:.0f}")
    return {
        "recipe": recipe,
        "model": resolved.model.name,
        "precision": resolved.precision,
        "device": speed.device,
        "batch_size": speed.batch_size,
        "workers": resolved.workers,
        "pairs_per_second": speed.pairs_per_second,
        "waiting_share": speed.waiting_share,
        "batch_ms": vars(batch),
        **machine,
    }
