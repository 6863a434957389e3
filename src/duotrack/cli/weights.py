"""Placeholder."""

import typer

app = typer.Typer(help="Say what a checkpoint is; convert it.", no_args_is_help=True)


@app.command()
def inspect() -> None:
    """Not written yet."""
    raise NotImplementedError
