"""Weights say on crops of which extent they were trained, and a model that cuts others says so."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.models.zoo import model_spec
from duotrack.weights.build import packaged_weights
from duotrack.weights.safetensor import open_safetensors, save_weights
from duotrack.weights.task import CROPS_KEY, stated_crops, warn_of_other_crops

TINY = replace(model_spec("ckd-tiny"), geometry=replace(model_spec("ckd-tiny").geometry, search_factor=3.0))


def weights(folder: Path, *, model: str, **extra: str) -> Path:
    path = folder / "weights.safetensors"
    save_weights(path, {"a": torch.zeros(2)}, model=model, elimination="none", extra=extra)
    return path


@pytest.mark.parametrize(
    ("model", "said", "warned"),
    [
        ("ckd-tiny", stated_crops(TINY.geometry), False),
        ("ckd-tiny", "2 4", True),
        ("ckd-tiny", None, True),  # trained before files said it
        ("ckd-base", None, False),
        ("ckd-base", "2 4", False),
    ],
)
def test_other_crops_than_the_models_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str, said: str | None, warned: bool
) -> None:
    spec = TINY if model == "ckd-tiny" else model_spec(model)
    path = weights(tmp_path, model=model, **({} if said is None else {CROPS_KEY: said}))
    with caplog.at_level(logging.WARNING):
        warn_of_other_crops(spec, path)
    assert ("2 and 4 times the target" in caplog.text) == warned


def test_published_checkpoints_say_nothing_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"net": {}}, tmp_path / "published.pth.tar")
    warn_of_other_crops(TINY, tmp_path / "published.pth.tar")
    warn_of_other_crops(TINY, None)
    assert not caplog.text


def test_the_packaged_file_says_what_its_model_cuts_and_conversion_keeps_it(tmp_path: Path) -> None:
    spec = model_spec("ckd-tiny")
    packaged = packaged_weights(spec)
    assert packaged is not None
    assert open_safetensors(packaged)[1][CROPS_KEY] == stated_crops(spec.geometry)
    made = CliRunner().invoke(app, ["weights", "convert", str(packaged), str(tmp_path / "own.safetensors")])
    assert made.exit_code == 0, made.output
    assert open_safetensors(tmp_path / "own.safetensors")[1][CROPS_KEY] == stated_crops(spec.geometry)
