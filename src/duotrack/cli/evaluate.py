"""`duotrack evaluate`: run a model over a benchmark, then score it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duotrack.cli.masks import MaskFile, Subgroups, given_mask
from duotrack.cli.options import (
    BackendOption,
    EliminationOption,
    ModelOption,
    NameOption,
    PrecisionOption,
    WeightsOption,
)
from duotrack.cli.templates import IntervalOption, PolicyOption, ReuseOption, ThetaOption, WindowOption, asked_for
from duotrack.errors import InputError

if TYPE_CHECKING:
    from duotrack.datasets.benchmarks import Benchmark
    from duotrack.datasets.ground_truth import GroundTruth
    from duotrack.evaluation.run import Outcome

Option = typer.Option
_MODEL, _AUX, _WORK, _SCORE = "Model", "Auxiliary frames", "Work", "Scores"


def evaluate(
    dataset: Annotated[str, Option(help="Benchmark: gtot, rgbt210, rgbt234, lasher, ..., folder.")],
    root: Annotated[Path, Option(help="Where its sequences lie.")],
    out: Annotated[Path, Option(help="Results go to OUT/TRACKER/DATASET/SEQUENCE.txt; under a mask to DATASET-miss.")],
    model: ModelOption = None,
    weights: WeightsOption = None,
    name: NameOption = None,
    backend: BackendOption = None,
    precision: PrecisionOption = None,
    elimination: EliminationOption = None,
    modality: Annotated[
        str | None,
        Option(help="What auxiliary frames show: thermal, depth, event; default: the dataset's.", rich_help_panel=_AUX),
    ] = None,
    depth_colours: Annotated[
        str, Option(help="Channel order of rendered depth; published weights: bgr; else rgb.", rich_help_panel=_AUX)
    ] = "bgr",
    missing: Annotated[
        str | None,
        Option(
            help="What to do about a missing sensor: model, zeros, copy, hold-frame, hold-box.", rich_help_panel=_MODEL
        ),
    ] = None,
    redetect: Annotated[
        bool,
        Option(
            "--redetect/--no-redetect",
            help="Look for a lost target in the whole frame; results then are not standard one-pass ones.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    template_policy: PolicyOption = None,
    template_theta: ThetaOption = None,
    template_window: WindowOption = None,
    template_interval: IntervalOption = None,
    template_reuse: ReuseOption = False,
    sequences: Annotated[
        list[str] | None, Option(help="Only these: names with commas between; may be repeated.", rich_help_panel=_WORK)
    ] = None,
    mask: MaskFile = None,
    subgroups: Subgroups = None,
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=_WORK)] = "auto",
    workers: Annotated[int, Option(min=0, help="Processes on the CPU; 0: one a core.", rich_help_panel=_WORK)] = 0,
    batch: Annotated[
        int | None,
        Option(
            min=1,
            help="Sequences at once, on a GPU in one forward; default: 16 there, else 1.",
            rich_help_panel=_WORK,
        ),
    ] = None,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace results of another run.", rich_help_panel=_WORK)
    ] = False,
    integers: Annotated[
        bool, Option("--integers", help="Write boxes truncated, tabs between, as CKD does.", rich_help_panel=_WORK)
    ] = False,
    no_score: Annotated[bool, Option("--no-score", help="Only track.", rich_help_panel=_SCORE)] = False,
    protocol: Annotated[
        str | None, Option(help="toolkit, matlab or plain; default: the benchmark's own.", rich_help_panel=_SCORE)
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the score as JSON.", rich_help_panel=_SCORE)] = False,
) -> None:
    """Track every sequence of a benchmark from its first box to its end, then score the results.

    Example: [bold]duotrack evaluate --model ckd-tiny --dataset gtot --root GTOT --out results[/bold]

    Started again after a kill, it goes on where it was and gives the same files. Under torchrun the ranks share the
    sequences. Exit code 2 when a sequence could not be tracked.
    """
    from rich.console import Console

    from duotrack.datasets.benchmarks import benchmark, open_benchmark, showing, with_mask
    from duotrack.depth import colours_named
    from duotrack.evaluation.protocols import preset
    from duotrack.evaluation.ranks import join_ranks
    from duotrack.evaluation.run import Setup, check_weights, run_benchmark
    from duotrack.frames import kind_named
    from duotrack.tracking.load import check_names, model_of
    from duotrack.tracking.missing import DEFAULT_POLICY, missing_policy

    which = showing(benchmark(dataset), None if modality is None else kind_named(modality))
    masked = given_mask(mask, subgroups)
    if masked is not None:
        which = with_mask(which)
    elif which.base:
        raise InputError(f"{which.name} needs --mask; make one with `duotrack data miss`, or evaluate {which.base}")
    model = model_of(weights, model)
    check_names(model, backend=backend, precision=precision, weights=weights)
    rules = None if no_score else preset(protocol, which)
    check_weights(model, weights)
    policy = missing_policy(missing or DEFAULT_POLICY)
    tracker = _plain_name(name or model)
    colours = colours_named(depth_colours, which.modality)
    wanted = [part for entry in sequences for part in entry.split(",") if part] if sequences else None
    if wanted == []:
        raise InputError("--sequences names none; leave it out for all of them")
    opened = open_benchmark(which, root, names=wanted, depth_colours=colours)
    names = [sequence.name for sequence in opened]
    if masked is not None:
        opened = masked.sequences(opened, known=which.paths or (names if wanted is None else None))
    truths = [] if rules is None else _truths(which, root, names)
    setup = Setup(
        model=model,
        weights=weights,
        device=device,
        backend=backend,
        precision=precision,
        elimination=elimination,
        templates=asked_for(template_policy, template_theta, template_window, template_interval, template_reuse),
        batch=batch or _usual_batch(device, backend, precision, weights),
        workers=workers,
        integers=integers,
        modality=which.modality,
        depth_colours=colours,
        missing=policy,
        redetect=redetect,
    )
    run_name = f"{which.name}-miss" if masked is not None and not which.base else which.name
    folder = out / tracker / run_name
    from duotrack.evaluation.progress import shown

    try:
        with join_ranks() as ranks, shown(Console(stderr=True)) as watch:
            outcome = run_benchmark(
                opened,
                folder,
                setup,
                dataset=run_name,
                mask="none" if masked is None else masked.digest,
                overwrite=overwrite,
                ranks=ranks,
                watch=watch,
            )
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on where it was", err=True)
        raise typer.Exit(130) from None
    if ranks.rank > 0:
        return
    for line in _summary(outcome, folder):
        typer.echo(line, err=as_json)
    if outcome.failed:
        first, reason = next(iter(outcome.failed.items()))
        raise InputError(
            f"{len(outcome.failed)} of {len(names)} sequences could not be tracked ({first}: {reason}); the others are "
            "done: mend these and start again"
        )
    if rules is None:
        return
    if not truths:
        typer.echo("there is no ground truth beyond the first frame: nothing to score", err=as_json)
        return

    from duotrack.cli.score import show
    from duotrack.evaluation.results import read_results

    results = read_results(folder, truths, box_format="ltwh", tracker=tracker)
    show(truths, results, rules, masked=masked, as_json=as_json)


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise InputError(f"--name {name!r} becomes a folder: letters, digits, dots and hyphens, no slash")
    return name


def _usual_batch(device: str, backend: str | None, precision: str | None, weights: Path | None) -> int:
    from duotrack.runtime.backends import backend_device, check_backend

    settled, kind = check_backend(backend, precision, weights)
    return 16 if backend_device(settled, device, kind).type == "cuda" else 1


def _truths(which: "Benchmark", root: Path, names: list[str]) -> "list[GroundTruth]":
    """Read before hours of tracking, so that a broken file is known early; empty where first boxes are all there is."""
    from duotrack.datasets.ground_truth import read_ground_truth

    truths = read_ground_truth(which, root, names=names)
    return [] if all(len(truth) == 1 for truth in truths) else truths


def _summary(outcome: "Outcome", folder: Path) -> list[str]:
    lines = [f"{outcome.tracked} sequences tracked, {outcome.frames} frames; {outcome.done} were finished before"]
    if outcome.notes:
        count = sum(outcome.notes.values())
        which = f"{count} images in {len(outcome.notes)} sequences could not be read or hold nothing"
        lines.append(f"{which}: {folder / 'notes'}{os.sep}")
    return [*lines, f"results: {folder}"]
