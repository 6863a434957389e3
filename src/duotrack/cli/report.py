"""`duotrack report`: several trackers on one benchmark as a page, figures and tables."""

from pathlib import Path
from typing import Annotated

import typer

from duotrack.cli.masks import MaskFile, Subgroups, check_made, given_mask, known_names, words
from duotrack.errors import InputError


def report(
    benchmark: Annotated[str, typer.Option(help="The benchmark, for example gtot, rgbt234 or lasher.")],
    ground_truth: Annotated[Path, typer.Option(help="A copy of the data set, or its ground truth alone.")],
    results: Annotated[
        list[str],
        typer.Option(metavar="[NAME=]PATH", help="Results of a tracker, folder or zip file; more may follow."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[[NAME=]PATH]...", help="Results of others.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="toolkit, matlab or plain; the benchmark's own if left out.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="A tracker that the others are compared with, sequence by sequence.")
    ] = None,
    with_published: Annotated[
        bool, typer.Option("--published/--no-published", help="Place the trackers among published numbers.")
    ] = True,
    box_format: Annotated[
        str | None, typer.Option(help="ltwh, ltrb, xywh or corner; found from the files if left out.")
    ] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Score the sequences that are there.")] = False,
    mask: MaskFile = None,
    subgroups: Subgroups = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write beside other things in the folder.")] = False,
) -> None:
    """Compare trackers: curves, attributes, sequences, speed, and their place among published numbers.

    Example: duotrack report --benchmark gtot --ground-truth GTOT --results mine/ APFNet=downloads/gtot --out report
    """
    from duotrack.datasets.benchmarks import benchmark as find_benchmark
    from duotrack.datasets.benchmarks import with_mask
    from duotrack.datasets.ground_truth import read_ground_truth
    from duotrack.evaluation.figures import require_matplotlib
    from duotrack.evaluation.metrics import score
    from duotrack.evaluation.protocols import preset
    from duotrack.evaluation.published import published
    from duotrack.evaluation.report import check_out, check_together, write_report
    from duotrack.evaluation.results import read_results
    from duotrack.evaluation.statements import summary
    from duotrack.evaluation.timing import read_speed

    require_matplotlib()  # before minutes are spent on scores
    check_out(out, overwrite=overwrite)
    masked = given_mask(mask, subgroups)
    which = find_benchmark(benchmark) if masked is None else with_mask(find_benchmark(benchmark))
    rules = preset(protocol, which)
    given = [_named(text) for text in [*results, *(more or [])]]
    truths = read_ground_truth(which, ground_truth, allow_missing=allow_missing)
    if masked is not None:
        masked.check(truths, known=known_names(which, truths))
    groups = None if masked is None else masked.groups()
    scores, speeds = [], {}
    for name, path in given:
        read = read_results(path, truths, box_format=box_format, allow_missing=allow_missing, tracker=name)
        check_made(masked, read)
        scores.append(score(truths, read, rules, groups=groups))
        speed = read_speed(path)
        if speed is not None:
            speeds[read.tracker] = speed
    check_together(scores, baseline)
    numbers = published(which.name) if with_published else []
    lost = "" if masked is None else words(masked, [truth.name for truth in truths])
    page = write_report(out, scores, speeds=speeds, numbers=numbers, baseline=baseline, lost=lost, overwrite=overwrite)
    for each in scores:
        typer.echo(summary(each))
    if lost:
        typer.echo(lost)
    typer.echo(f"report: {page}")


def _named(text: str) -> tuple[str | None, Path]:
    """NAME=PATH, or a path alone; a path that is there is never cut."""
    path = Path(text)
    name, equals, rest = text.partition("=")
    if equals and not path.exists():
        if not name or not rest:
            raise InputError(
                f"--results is a path or NAME=PATH, got {text!r}; write the tracker's name before the sign"
            )
        path = Path(rest)
    else:
        name = ""
    if not path.exists():
        raise InputError(f"--results: {path} is not there; give a folder or a zip file")
    return name or None, path
