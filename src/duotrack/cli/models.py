"""`duotrack models`: what there is, how large it is, what is known of it."""

from typing import Annotated, Any

import typer

# Model -> (numbers, where they are from). Only what a source states; our own measurements are not mixed in.
PUBLISHED: dict[str, tuple[dict[str, float], str]] = {
    "ckd-base": (
        {"PR": 73.2, "NPR": 69.3, "SR": 58.1},
        "the paper's, LasHeR test set, authors' weights (ACM MM 2024), not measured by us",
    ),
    "ipl-base": (
        {"PR": 69.4, "NPR": 65.6, "SR": 55.3},
        "a public list of RGB-T results, LasHeR test set, both modalities there, not measured by us",
    ),
}


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the models: size, crops, weights, published numbers.

    Example: [bold]duotrack models[/bold]
    """
    import json

    from duotrack.models.zoo import MODELS

    rows = [describe(spec) for spec in MODELS.values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _print(rows)


def describe(spec: Any) -> dict[str, Any]:
    """What is known of one `duotrack.models.zoo.ModelSpec`, as JSON would hold it."""
    from importlib.resources import files
    from pathlib import Path

    from duotrack.models.parameters import unused_parts
    from duotrack.models.zoo import build_on_meta

    net = build_on_meta(spec)
    packaged = Path(str(files("duotrack"))) / "weights" / "files" / (spec.weights or "")
    bundled = packaged.stat().st_size if packaged.is_file() else None
    numbers, source = PUBLISHED.get(spec.name, ({}, None))
    return {
        "name": spec.name,
        "summary": spec.summary,
        "parameters": sum(p.numel() for p in net.parameters()),
        "never_used": unused_parts(net),
        "template_size": spec.geometry.template_size,
        "search_size": spec.geometry.search_size,
        "elimination": spec.elimination,
        "weights": spec.weights if bundled else None,
        "weights_bytes": bundled,
        "calibrated": spec.calibration != (1.0, 0.0),
        "published": numbers,
        "published_source": source,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="duotrack models")
    for name in ("model", "parameters", "template, search", "weights", "published PR / NPR / SR"):
        table.add_column(name, justify="right" if name == "parameters" else "left")
    for row in rows:
        size = row["weights_bytes"]
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['template_size']}, {row['search_size']} px",
            f"bundled, {size / 1e6:.1f} MB" if size else "--weights FILE",
            " / ".join(f"{value:g}" for value in row["published"].values()) or "none",
        )
    console = Console()
    console.print(table)
    for row in rows:
        score = "calibrated score" if row["calibrated"] else "the score is the network's own, not calibrated"
        said = [row["summary"], f"elimination {row['elimination']}", score]
        if row["never_used"]:
            count = sum(row["never_used"].values()) / 1e6
            said.append(f"of its parameters {count:.1f} M are in checkpoints only: {', '.join(row['never_used'])}")
        said += [f"published numbers: {row['published_source']}"] if row["published_source"] else []
        console.print(f"{row['name']}: {'; '.join(said)}.", highlight=False)
