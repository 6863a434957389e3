"""`duotrack analyze`: looks inside a network."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from duotrack.datasets.sequence import Sequence

Option = typer.Option
Dataset = Annotated[str, Option(help="Benchmark: gtot, rgbt210, rgbt234, lasher, ..., folder.")]
Root = Annotated[Path, Option(help="Where its sequences lie.")]
Model = Annotated[str, Option(help="Model, see `duotrack models`.")]
Weights = Annotated[Path | None, Option(help="safetensors or a published checkpoint; default: the package's.")]
Names = Annotated[list[str] | None, Option(help="Only these: names with commas between; may be repeated.")]
Device = Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")]
AsJson = Annotated[bool, Option("--json", help="Print the numbers as JSON.")]

app = typer.Typer(no_args_is_help=True, help="Look inside a network: the gap between modalities, template thresholds.")


@app.command()
def gap(
    dataset: Dataset,
    root: Root,
    out: Annotated[Path, Option(help="Folder for gap.json, layers.png, clouds.png and maps.png.")],
    model: Model = "ckd-tiny",
    weights: Weights = None,
    base: Annotated[
        Path | None, Option(metavar="WEIGHTS", help="Other weights of the same model, measured on the same frames.")
    ] = None,
    beside: Annotated[
        list[Path] | None, Option(metavar="GAP.JSON", help="Earlier reports to draw into layers.png; may be repeated.")
    ] = None,
    sequences: Names = None,
    frames: Annotated[int, Option(min=1, help="Frames of each sequence.")] = 8,
    tokens: Annotated[int, Option(min=0, help="Tokens of each frame; 0: their mean.")] = 64,
    layer: Annotated[int, Option(help="Layer of clouds and maps; 0: embedding, -1: last.")] = -1,
    embedding: Annotated[str, Option(help="pca or tsne, for the clouds.")] = "pca",
    seed: Annotated[int, Option(min=0, help="Of the choice of frames and tokens.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """How far apart the features of two modalities are: squared MMD by layer, clouds of features, maps of likeness.

    Example: [bold]duotrack analyze gap --model ckd-tiny --dataset lasher --root LasHeR --out gap[/bold]
    """
    import json

    from duotrack.cli.options import check_choice

    check_choice("embedding", embedding, ["pca", "tsne"])
    from duotrack.datasets.benchmarks import benchmark, open_benchmark
    from duotrack.evaluation.gap_report import analyse, read_curves, write_report
    from duotrack.evaluation.gap_sampling import Sampling

    sampling = Sampling(frames=frames, tokens=tokens, layer=layer, seed=seed)
    which = benchmark(dataset)
    opened = open_benchmark(which, root, names=_names(sequences))
    earlier = read_curves(beside or [])
    with _progress(opened, 1 if base is None else 2) as watch:
        report = analyse(
            model,
            weights,
            base,
            opened,
            sampling,
            dataset=which.name,
            device=device,
            embedding=embedding,  # type: ignore[arg-type]  # checked above
            watch=watch,
        )
    files = write_report(report, out, earlier)
    if as_json:
        typer.echo(json.dumps(report.numbers, indent=1))
        return
    for line in report.lines():
        typer.echo(line)
    for path in files:
        typer.echo(path)


@app.command()
def theta(
    dataset: Dataset,
    root: Root,
    model: Model = "tpf-base",
    weights: Weights = None,
    sequences: Names = None,
    least_iou: Annotated[float, Option(min=0, max=1, help="Overlap wanted on average.")] = 0.7,
    out: Annotated[Path | None, Option(help="Folder for theta.json and theta.png.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Fit --template-theta: the smallest raw score from which boxes overlap the truth well enough to be templates.

    Example: [bold]duotrack analyze theta --model tpf-base --weights my.safetensors --dataset folder --root data[/bold]

    Take sequences that the network is not scored on.
    """
    import json

    from duotrack.datasets.benchmarks import benchmark, open_benchmark
    from duotrack.evaluation.run import check_weights
    from duotrack.evaluation.threshold import confidences, curve, fit_theta
    from duotrack.tracking.load import load_tracker
    from duotrack.tracking.template import TemplateRule

    check_weights(model, weights)
    if out is not None:
        from duotrack.evaluation.figures import require_matplotlib

        require_matplotlib()  # before minutes are spent on tracking
    opened = open_benchmark(benchmark(dataset), root, names=_names(sequences))
    tracker = load_tracker(model, weights=weights, device=device, templates=TemplateRule(policy="none"), redetect=False)
    with _progress(opened, 1) as watch:
        measured = confidences(tracker, opened, watch=watch)
    found = fit_theta(measured, least=least_iou)
    numbers = {
        "model": model,
        "dataset": benchmark(dataset).name,
        "least_iou": least_iou,
        **vars(found),
        "curve": [{"confidence": middle, "iou": iou, "frames": count} for middle, iou, count in curve(measured)],
    }
    if out is not None:
        from duotrack.evaluation.threshold_plot import theta_plot
        from duotrack.files import atomic_path, write_text

        with atomic_path(out / "theta.png") as temporary:
            theta_plot(measured, found, least_iou, f"{model} on {numbers['dataset']}").savefig(temporary, dpi=150)
        write_text(out / "theta.json", json.dumps(numbers, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(numbers, indent=1))
        return
    typer.echo(
        f"theta {found.theta:.4f}: {100 * found.kept:.1f} % of {found.frames} frames have at least that score, "
        f"and their boxes a mean IoU of {found.iou:.3f}"
    )


def _names(sequences: list[str] | None) -> list[str] | None:
    return [part for entry in sequences for part in entry.split(",") if part] if sequences else None


@contextmanager
def _progress(sequences: "Collection[Sequence]", times: int) -> "Iterator[Callable[[Any], None]]":
    """A progress bar over sequences on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("sequences", total=times * len(sequences))
        yield lambda sequence: progress.advance(task)
