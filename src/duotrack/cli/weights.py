"""`duotrack weights`: say what a checkpoint is, convert it to safetensors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duotrack.errors import InputError

if TYPE_CHECKING:
    from duotrack.weights.read import Checkpoint

app = typer.Typer(help="Say what a checkpoint is; convert it.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A safetensors file or a PyTorch checkpoint.")]


@app.command()
def inspect(
    file: _File,
    keys: Annotated[bool, typer.Option("--keys", help="List every key with its shape.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a checkpoint is and which model it fits; nothing in the file is executed.

    Example: duotrack weights inspect OSTrack_ep0300.pth.tar
    """
    import json

    from duotrack.weights.read import read_checkpoint

    checkpoint = read_checkpoint(file)
    facts = _facts(file, checkpoint)
    if keys:
        facts["keys"] = {key: list(tensor.shape) for key, tensor in checkpoint.tensors.items()}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{name}:" + ("" if value else " none"))
            for key, entry in value.items():
                typer.echo(f"  {_printable(key)}: {_printable(entry)}")
        elif isinstance(value, list):
            typer.echo(f"{name}:" + "".join(f"\n  {entry}" for entry in value or ["nothing"]))
        else:
            typer.echo(f"{name}: {value}")


@app.command()
def convert(
    file: _File,
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
    model: Annotated[str | None, typer.Option(help="Model of the weights; found from the file if left out.")] = None,
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    elimination: Annotated[str | None, typer.Option(help="mce, ce or none; the model's default if left out.")] = None,
    teachers: Annotated[
        bool, typer.Option("--teachers/--no-teachers", help="Keep the teachers, which only training needs.")
    ] = False,
    modality: Annotated[
        str | None,
        typer.Option(help="thermal, depth or event: what they were trained for, which published files do not say."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
) -> None:
    """Convert a checkpoint to safetensors with its configuration inside.

    Example: duotrack weights convert OSTrack_CKD_ep0030.pth.tar ckd.safetensors --dtype fp16
    """
    from duotrack.errors import nearest

    if out.suffix != ".safetensors":
        raise InputError(f"the output is a .safetensors file, got {out}; rename it")
    if out.exists() and not force:
        raise InputError(f"{out} is there already; give --force to replace it")

    from duotrack.frames import kind_named
    from duotrack.weights.build import build_from, fit, model_for
    from duotrack.weights.read import read_checkpoint
    from duotrack.weights.safetensor import DTYPES, save_weights
    from duotrack.weights.task import converted_task

    if dtype not in DTYPES:
        raise InputError(f"no dtype is called {dtype!r}{nearest(dtype, list(DTYPES))}")
    kind = None if modality is None else kind_named(modality)
    checkpoint = read_checkpoint(file, teachers=teachers)
    task = converted_task(file, checkpoint, kind)
    name = model or model_for(checkpoint)
    net = build_from(checkpoint, name, elimination=elimination, teachers=teachers)
    trained = fit(checkpoint, name, teachers=teachers).trained
    origin = {"source": file.name, "source_kind": checkpoint.kind, "trained": "yes" if trained else "no"}
    save_weights(
        out,
        net,
        model=name,
        elimination=str(net.elimination),
        form="training" if teachers else "inference",
        dtype=dtype,
        extra={**{f"source_{key}": value for key, value in checkpoint.metadata.items()}, **task, **origin},
    )
    typer.echo(f"{out}: {name}, {len(net.state_dict())} tensors, {dtype}, {out.stat().st_size / 1e6:.1f} MB")
    for line in checkpoint.ignored:
        typer.echo(f"not converted: {line}")


def _facts(file: Path, checkpoint: "Checkpoint") -> dict[str, Any]:
    from collections import Counter

    from duotrack.files import digest
    from duotrack.weights.keymap import families

    buffers = ("running_mean", "running_var", "num_batches_tracked")
    tensors = checkpoint.tensors
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "sha256": digest(file),
        "container": checkpoint.container,
        "kind": checkpoint.kind,
        **_fitting(checkpoint),
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for key, tensor in tensors.items() if not key.endswith(buffers)),
        "dtypes": dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())),
        "families": families(tensors),
        "metadata": checkpoint.metadata,
        "ignored": list(checkpoint.ignored),
    }


def _fitting(checkpoint: "Checkpoint") -> dict[str, Any]:
    """Which model the weights fit, where they do not fit altogether what differs, and what the model never uses."""
    from duotrack.models.parameters import unused_parts
    from duotrack.models.zoo import build_on_meta, model_spec
    from duotrack.weights.build import fit, model_for, model_shapes, saved_options
    from duotrack.weights.keymap import TEACHERS
    from duotrack.weights.report import compare, shapes_of

    try:
        name = model_for(checkpoint)
        teachers = any(key.startswith(TEACHERS) for key in checkpoint.tensors)
        fitted = fit(checkpoint, name, teachers=teachers)
        wanted = model_shapes(name, teachers=teachers, **saved_options(checkpoint, name))
    except InputError as error:
        return {"model": "none", "fit": str(error)}
    report = compare(wanted, shapes_of(fitted.tensors), allow_missing=fitted.keeps)
    if report:
        return {"model": f"{name} (does not fit)", "fit": str(report)}
    use = "weights" if fitted.trained else "a starting point for training"
    given = sum(key in fitted.tensors for key in wanted)
    return {
        "model": name,
        "fit": f"{use}; gives {given} of {len(wanted)} keys" + (", teachers too" * teachers),
        "never_used": unused_parts(build_on_meta(model_spec(name))),
    }


def _printable(value: object) -> str:
    from duotrack.weights.keymap import shown

    return shown(value, 300) if isinstance(value, str) else str(value)
