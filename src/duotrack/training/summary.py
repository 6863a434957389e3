"""What a person sees when training starts and while it runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from duotrack.training.optimise import Group
from duotrack.training.recipe import Recipe
from duotrack.training.stream import Plan

CONSOLE = Console(soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print one line."""
    CONSOLE.print(text, markup=False)


def summarise(
    recipe: Recipe,
    groups: list[Group],
    facts: Mapping[str, Any],
    plan: Plan,
    *,
    unused: Iterable[str],
    out: Path,
    start: int,
) -> None:
    """Print parameters per group and the names of those in no use, the data, and where the run folder is."""
    table = Table(title=f"{recipe.model.name}: parameters", title_justify="left")
    table.add_column("group")
    table.add_column("parameters", justify="right")
    table.add_column("learning rate", justify="right")
    for group in groups:
        if group.count:
            table.add_row(group.name, f"{group.count:,}", f"{group.learning_rate:g}" if group.trains else "-")
    trained, total = sum(g.count for g in groups if g.trains), sum(g.count for g in groups)
    table.add_section()
    table.add_row("trained, of all", f"{trained:,} of {total:,}", "")
    CONSOLE.print(table)
    if names := ", ".join(unused):
        say(f"never used by the forward pass, carried for checkpoints, not trained: {names}")
    for name in ("data", "validation"):
        if facts[name]:
            about = facts[name]
            paired = f"{about['both_modalities']} with both modalities"
            if about["sequences"] or not about["simulated_from"]:
                say(f"{name}: {about['sequences']} sequences ({paired}), {about['frames']:,} frames")
            for counts in about["simulated_from"]:
                held = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items())
                say(f"{name}: simulation from {held}")
    say(
        f"plan: {plan.steps} steps of {recipe.batch_size * recipe.optimiser.accumulate * facts['devices']} pairs, "
        f"{recipe.precision}, seed {recipe.seed}; run folder: {out}"
    )
    if start == plan.batches:
        say("this run is complete; its weights are written again")
    elif start:
        say(f"resumes after batch {start} of {plan.batches}")
