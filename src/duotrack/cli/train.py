"""`duotrack train`: from a recipe and a folder of data to weights."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duotrack.errors import InputError

if TYPE_CHECKING:
    from duotrack.training.data import Folders


Folder = Annotated[list[Path] | None, typer.Option(help="Folder of sequences, laid out like LasHeR; repeatable.")]
HeldOut = Annotated[list[Path] | None, typer.Option(help="Folder of held-out sequences; they choose best.ckpt.")]
Stills = Annotated[list[Path] | None, typer.Option(help="Folder of still images to draw pairs from as well.")]
Photos = Annotated[
    list[Path] | None, typer.Option(help="Folder of backgrounds for simulated scenes (data.simulation.ratio above 0).")
]
CutOuts = Annotated[
    list[Path] | None, typer.Option(help="Folder of objects for simulated scenes: PNG with transparency, or whole.")
]
Out = Annotated[Path | None, typer.Option(help="Run folder: recipe, log, checkpoints, weights.")]
Change = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe, e.g. --set optimiser.clip=0.5"),
]
_NAMES = "FILE[:SECTION]"


def train(
    recipe: str = typer.Argument(help="A packaged recipe (ckd-tiny, ckd-base-stage1, ...) or a YAML file."),
    data: Folder = None,
    stills: Stills = None,
    photos: Photos = None,
    cutouts: CutOuts = None,
    names: str = typer.Option("", metavar=_NAMES, help="Train on these sequences only, one name a line."),
    val: HeldOut = None,
    val_names: str = typer.Option("", metavar=_NAMES, help="Hold out these sequences only."),
    out: Out = None,
    change: Change = None,
    resume: bool = typer.Option(False, "--resume", help="Continue the run in --out where its last checkpoint is."),
    device: str = typer.Option("auto", help="cpu, cuda or auto."),
    devices: int = typer.Option(1, help="Processes that train together, one a device."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the recipe with every value, and leave."),
) -> None:
    """Train a model by a recipe.

    Example: duotrack train ckd-tiny --data my_sequences --photos pictures --cutouts objects --out runs/tiny

    The folder holds one folder a sequence, with visible/ and infrared/ (one may be missing) and init.txt: a line
    x,y,w,h a frame.
    """
    from duotrack.training.recipe import load_recipe, to_yaml

    resolved = load_recipe(recipe, change or [])
    if dry_run:
        typer.echo(to_yaml(resolved), nl=False)
        return
    if not data and not stills and not resolved.data.simulation.ratio:
        raise InputError(
            "there is nothing to train on; give a folder of sequences with --data, or simulate: "
            "--set data.simulation.ratio=1"
        )
    for given, option, folders, folder in (
        (val_names, "--val-names", val, "--val"),
        (names, "--names", data, "--data"),
    ):
        if given and not folders:
            raise InputError(f"{option} {given} chooses sequences from {folder}; give {folder} FOLDER, or leave it out")
    if out is None:
        raise InputError("--out is missing; name a new folder for the run, for example --out runs/first")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is cpu, cuda or auto, got {device!r}")
    try:
        from duotrack.training.callbacks import Stopped
        from duotrack.training.fit import fit
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("pytorch_lightning", "tensorboard"):
            raise
        raise InputError(f"training needs {error.name}; install it with: pip install 'duotrack[train]'") from error
    try:
        fit(
            resolved,
            replace(
                _folders(data or [], stills or [], names), photos=tuple(photos or ()), cutouts=tuple(cutouts or ())
            ),
            out,
            validation=_folders(val, [], val_names) if val else None,
            resume=resume,
            device=device,  # type: ignore[arg-type]
            devices=devices,
        )
    except (KeyboardInterrupt, Stopped):
        typer.echo(f"stopped; the same command with --resume continues the run in {out}", err=True)
        raise typer.Exit(130) from None


def _folders(sequences: list[Path], stills: list[Path], names: str) -> "Folders":
    from duotrack.training.data import Folders, read_names

    for folder in (*sequences, *stills):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give one that holds sequences")
    if not names:
        return Folders(tuple(sequences), tuple(stills))
    path, _, section = names.partition(":")
    return Folders(tuple(sequences), tuple(stills), read_names(Path(path), section))
