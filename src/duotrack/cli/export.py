"""`duotrack export`: a network as a file that other programs run."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from duotrack.errors import InputError, nearest

Option = typer.Option
MODALITIES: dict[str, tuple[Literal["rgb", "aux"], ...]] = {"both": ("rgb", "aux"), "rgb": ("rgb",), "aux": ("aux",)}


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model, see `duotrack models`.")],
    out: Annotated[Path, Option(help="The file: .onnx, or .xml for OpenVINO (its .bin goes beside it).")],
    weights: Annotated[
        Path | None, Option(help="safetensors or a published checkpoint; default: the package's.")
    ] = None,
    format: Annotated[str | None, Option(help="onnx or openvino; default: by the name of --out.")] = None,
    precision: Annotated[str, Option(help="fp32, fp16 (onnx), bf16 (openvino) or int8.")] = "fp32",
    batch: Annotated[str, Option(help="Samples in one call: a number, or dynamic.")] = "1",
    modalities: Annotated[
        str, Option(help="both (a frame may lack one), or rgb or aux alone, at half the cost.")
    ] = "both",
    elimination: Annotated[str | None, Option(help="mce, ce or none; default: the model's own.")] = None,
    frames: Annotated[
        Path | None,
        Option(help="Images or a video to fit int8 to: a file or folder, or a folder with rgb and aux in it."),
    ] = None,
    force: Annotated[bool, Option("--force", help="Replace the file if it is there, and an .xml's .bin.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write a model as ONNX or OpenVINO IR; it is run against torch first, and the largest difference printed.

    Example: [bold]duotrack export ckd-tiny --out tiny.onnx --batch dynamic[/bold]

    The file holds everything that tracking needs: [bold]duotrack track --weights tiny.onnx ...[/bold]
    """
    import json

    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file in it, .onnx or .xml")
    files = [out, out.with_suffix(".bin")] if out.suffix == ".xml" else [out]
    if (there := [str(file) for file in files if file.exists()]) and not force:
        raise InputError(f"{' and '.join(there)} is there already; give --force to replace it, or another --out")
    size = _batch(batch)
    if modalities not in MODALITIES:
        raise InputError(
            f"--modalities {modalities} is not one of {', '.join(MODALITIES)}{nearest(modalities, list(MODALITIES))}"
        )

    from duotrack.runtime.export import check_request, export_model
    from duotrack.runtime.graph_facts import Wanted

    check_request(
        model,
        out,
        elimination=elimination,
        format=format,
        precision=precision,
        batch=size,
        fitted=frames is not None,
    )
    if not as_json:
        typer.echo(f"exporting {model} in {precision}; this takes a while")
    done = export_model(
        model,
        out,
        weights=weights,
        elimination=elimination,
        format=format,
        precision=precision,
        batch=size,
        wanted=Wanted(MODALITIES[modalities], MODALITIES[modalities]),
        samples=None if frames is None else _samples(frames, model, modalities),
    )
    summary: dict[str, Any] = {
        "file": str(done.path),
        "bytes": done.size,
        "inputs": done.facts.wanted.input_names(),
        "differences": done.differences,
        "largest_difference": max(value for each in done.differences.values() for value in each.values()),
        "trusted": list(done.trusted),
        **json.loads(done.facts.text()),
    }
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(f"largest difference from torch fp32: {summary['largest_difference']:.2g}")
    for backend, found in done.differences.items():
        each = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
        doubt = "" if backend in done.trusted else "; too much: do not use this back-end with this file"
        typer.echo(f"  {backend}: {each}{doubt}")
    typer.echo(f"{out}: {model}, {precision}, {done.size / 1e6:.1f} MB, inputs {', '.join(summary['inputs'])}")


def _batch(text: str) -> int:
    if text == "dynamic":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise InputError(f"--batch {text} is neither a number from 1 to 4096 nor dynamic")
    return int(text)


def _samples(frames: Path, model: str, modalities: str) -> Any:
    """Views of the user's frames; where there is one folder for both modalities each frame serves as both."""
    from duotrack.models.zoo import model_spec
    from duotrack.tracking.calibration import calibration_views
    from duotrack.video import open_source

    if not frames.exists():
        raise InputError(f"no frames at {frames}; check the path")
    parts = {name: frames / name for name in ("rgb", "aux")}
    split = any(part.is_dir() for part in parts.values())
    rgb, aux = (str(part) if part.is_dir() else None for part in parts.values()) if split else (str(frames), None)
    with open_source(rgb, aux, length_mismatch="shortest") as source:
        return calibration_views(source, model_spec(model).geometry, MODALITIES[modalities])
