"""The `duotrack` command: one module a command.

Every command module imports only the standard library, typer and `duotrack.errors` at its top; what it needs to do its
work (torch takes a second) is imported inside the command, so that `--help` answers at once.
"""

import errno
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from duotrack.cli import (
    analyze,
    benchmark,
    data,
    demo,
    evaluate,
    export,
    fuse,
    models,
    report,
    score,
    track,
    train,
    vot,
    weights,
)
from duotrack.errors import InputError

_DISK_FULL = "; free some space, or give a folder on another disk"


class _Group(TyperGroup):
    """Turns what a user can mend into one line on standard error and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            message = str(error)
        except BrokenPipeError:
            raise  # who read what is printed has had enough (`| head`): typer ends quietly
        except OSError as error:  # no permission, not there: the operating system's words are clear
            where = f": {error.filename}" if error.filename else ""
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            message = f"{error.strerror or error}{where}{_DISK_FULL if full else ''}"
        typer.echo(f"duotrack: {' '.join(message.split())}", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Follow one object through a visible video and an aligned thermal, depth or event one.",
)
app.command()(demo.demo)
app.command()(track.track)
app.command()(fuse.fuse)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(score.score)
app.command()(report.report)
app.command()(vot.vot)
app.command()(benchmark.benchmark)
app.command()(export.export)
app.command()(models.models)
app.add_typer(weights.app, name="weights")
app.add_typer(data.app, name="data")
app.add_typer(analyze.app, name="analyze")


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """Follow one object through a visible video and an aligned thermal, depth or event one."""
    if version:
        from duotrack import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `duotrack` command."""
    sys.exit(app())
