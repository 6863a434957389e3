"""`duotrack data miss`: masks of missing modalities."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duotrack.errors import InputError, nearest

if TYPE_CHECKING:
    from duotrack.datasets.masked import Masked
    from duotrack.datasets.patterns import Loss, Pattern

Option = typer.Option


def miss(
    dataset: Annotated[str, Option(help="rgbt234-miss, lasher245-miss, vtuav176-miss, or any other; folder.")],
    root: Annotated[Path | None, Option(help="Where its sequences lie, to count or check their frames.")] = None,
    subgroups: Annotated[
        Path | None, Option(help="Published subgroups_data JSON, or groups_data JSON: its ratios are then drawn.")
    ] = None,
    masks: Annotated[Path | None, Option(help="Ready missing_results JSON, to check instead of drawing.")] = None,
    pattern: Annotated[
        list[str] | None,
        Option(help="Only random, long_term, swap, long_term_and_random or swap_and_random; commas between."),
    ] = None,
    ratio: Annotated[list[str] | None, Option(help="Shares of frames to lose; 0.3,0.6,0.9 if left out.")] = None,
    seed: Annotated[int | None, Option(help="Another seed gives other masks; 42 if left out.")] = None,
    out: Annotated[Path | None, Option(help="Folder for the JSON files; without it frames are only counted.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Draw which frames of a data set lack a modality, or check masks that are ready.

    Example: [bold]duotrack data miss --dataset rgbt234-miss --subgroups subgroups_data_rgbt234.json --out miss[/bold]

    Of your own: [bold]duotrack data miss --dataset folder --root mine --pattern swap --ratio 0.6 --out miss[/bold]

    The same seed gives the same masks anywhere. They are not the published ones, which --masks reads.
    """
    from duotrack.datasets.benchmarks import benchmark, open_benchmark, with_mask
    from duotrack.datasets.dropouts import SEED, draw_masks
    from duotrack.datasets.masked import Masked, open_masked
    from duotrack.datasets.missing import check_rows

    if masks is not None and any(given is not None for given in (pattern, ratio, seed)):
        raise InputError("--masks are ready: leave --pattern, --ratio and --seed out")
    which = with_mask(benchmark(dataset))
    tag = which.name.removesuffix("-miss")
    lengths = None if root is None else {each.name: len(each) for each in open_benchmark(which, root)}
    if masks is not None:
        found = open_masked(masks, subgroups)
        rows = {name: len(mask) for name, mask in found.masks.items()}
        check_rows(
            masks, rows, lengths or {name: rows.get(name, 0) for name in which.paths}, known=which.paths or lengths
        )
    else:
        seed = SEED if seed is None else seed
        losses = _planned(subgroups, lengths, pattern, ratio, dataset=tag, seed=seed)
        if subgroups is not None:
            rows = {name: loss.frames for name, loss in losses.items()}
            wanted = lengths or {name: rows.get(name, 0) for name in which.paths}
            check_rows(subgroups, rows, wanted, known=which.paths or lengths)
        found = Masked(Path(f"missing_results_{tag}.json"), draw_masks(losses, dataset=tag, seed=seed), losses)
    facts = {"dataset": which.name, "seed": seed, **_counts(found)}
    facts["files"] = [] if out is None else [str(file) for file in _write(out, tag, found, overwrite=overwrite)]
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)


def _planned(
    subgroups: Path | None,
    lengths: dict[str, int] | None,
    pattern: list[str] | None,
    ratio: list[str] | None,
    *,
    dataset: str,
    seed: int,
) -> "dict[str, Loss]":
    """What every sequence loses: as published, or dealt."""
    from duotrack.datasets.dropouts import deal_patterns, deal_ratios
    from duotrack.datasets.patterns import PATTERNS, RATIOS, read_losses

    patterns = PATTERNS if pattern is None else _patterns(pattern)
    ratios = RATIOS if ratio is None else _ratios(ratio)
    if subgroups is None:
        if lengths is None:
            raise InputError(
                "which sequences? give --subgroups (the published file) or --root (a copy of the data set)"
            )
        losses = deal_patterns(lengths, dataset=dataset, seed=seed, patterns=patterns)
    else:
        losses = read_losses(subgroups)
        if pattern is not None:
            raise InputError(f"{subgroups} says the patterns: leave --pattern out")
        if next(iter(losses.values())).ratio is not None:
            if ratio is not None:
                raise InputError(f"{subgroups} says the ratios: leave --ratio out")
            return losses
    return deal_ratios(losses, dataset=dataset, seed=seed, ratios=ratios)


def _patterns(given: list[str]) -> "list[Pattern]":
    from duotrack.datasets.patterns import PATTERNS

    names = _parts(given)
    for name in names:
        if name not in PATTERNS:
            raise InputError(f"--pattern {name!r} is not known{nearest(name, list(PATTERNS))}")
    if not names:
        raise InputError(f"--pattern names none; known: {', '.join(PATTERNS)}")
    return [each for each in PATTERNS if each in names]


def _ratios(given: list[str]) -> list[float]:
    try:
        ratios = sorted({float(part) for part in _parts(given)})
    except ValueError as error:
        raise InputError(f"--ratio is a share of frames such as 0.6 ({error})") from error
    if not ratios or not all(0 < ratio < 1 for ratio in ratios):
        raise InputError(
            f"--ratio lies between 0 and 1 (the first frame is always complete), got {', '.join(given) or 'none'}"
        )
    return ratios


def _parts(given: list[str]) -> list[str]:
    return [part for entry in given for part in entry.split(",") if part]


def _counts(found: "Masked") -> dict[str, Any]:
    from duotrack.datasets.masked import availability

    def count(names: Any) -> dict[str, int]:
        frames = availability(found.masks[name] for name in names)
        total = sum(frames.values())
        return {"sequences": len(names), "frames": total, "missing": total - frames["complete"]}

    return {
        "sha256": found.digest,
        **count(found.masks),
        "availability": availability(found.masks.values()),
        **{
            kind: {key: count(names & set(found.masks)) for key, names in each.items()}
            for kind, each in found.groups().items()
        },
    }


def _write(out: Path, tag: str, found: "Masked", *, overwrite: bool) -> list[Path]:
    from duotrack.datasets.missing import write_masks
    from duotrack.datasets.patterns import write_groups, write_subgroups

    files = [out / f"{kind}_{tag}.json" for kind in ("groups_data", "subgroups_data", "missing_results")]
    there = [file for file in files if file.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} is there; choose another --out or replace it with --overwrite")
    for file in there:
        file.unlink()
    groups, subgroups, masks = files
    write_masks(masks, found.masks)
    if found.losses is None:
        return [masks]
    longest_first = dict(sorted(found.losses.items(), key=lambda item: (-item[1].frames, item[0])))
    write_groups(groups, longest_first)
    write_subgroups(subgroups, longest_first)
    return files


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    made = "ready masks" if facts["seed"] is None else f"seed {facts['seed']}"
    table = Table(title=f"{facts['dataset']}, {made}")
    table.add_column("")
    for head in ("sequences", "frames", "missing"):
        table.add_column(head, justify="right")
    for kind in ("pattern", "ratio"):
        for key, counts in facts.get(kind, {}).items():
            table.add_row(f"{kind} {key}", *map(str, counts.values()))
    table.add_row("all", *(str(facts[key]) for key in ("sequences", "frames", "missing")))
    console.print(table)
    shares = (f"{key.replace('_', ' ')} {n / facts['frames']:.1%}" for key, n in facts["availability"].items())
    console.print(f"frames: {', '.join(shares)}; sha256 {facts['sha256'][:12]}", soft_wrap=True, highlight=False)
    for file in facts["files"]:
        console.print(f"written: {file}", soft_wrap=True, highlight=False, markup=False)
