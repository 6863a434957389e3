"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from duotrack.errors import InputError, nearest

_PANEL = "Model"

ModelOption = Annotated[
    str | None,
    typer.Option(help="Model, see `duotrack models`; default: ckd-tiny, or an export's own.", rich_help_panel=_PANEL),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="safetensors, a published checkpoint or an export (.onnx, .xml); default: the package's.",
        rich_help_panel=_PANEL,
    ),
]
NameOption = Annotated[
    str | None, typer.Option(metavar="TRACKER", help="What to call it; default: the model.", rich_help_panel=_PANEL)
]
BackendOption = Annotated[
    str | None, typer.Option(help="torch, compiled, onnxruntime or openvino; default: torch.", rich_help_panel=_PANEL)
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(help="fp32, bf16, fp16 or int8; default: fp32, or an export's own.", rich_help_panel=_PANEL),
]
EliminationOption = Annotated[
    str | None, typer.Option(help="mce, ce or none; default: the model's own.", rich_help_panel=_PANEL)
]


def check_choice(option: str, value: str, choices: list[str]) -> None:
    """Raise `InputError` where the value of `--option` is none of `choices`; names the nearest."""
    if value not in choices:
        raise InputError(f"--{option} {value} is not one of {', '.join(choices)}{nearest(value, choices)}")
