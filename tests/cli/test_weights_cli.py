"""`duotrack weights`: inspect and convert."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from duotrack.cli import app
from duotrack.models.zoo import MODELS
from duotrack.weights.build import build_net
from duotrack.weights.read import read_checkpoint
from duotrack.weights.safetensor import save_weights
from duotrack.weights.task import stated_kind
from reference import manifest


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def published(path: Path, shapes: dict[str, list[int]], **more: object) -> Path:
    """A checkpoint of official shapes in a few kB: every tensor repeats one element."""
    weight, count = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    net = {key: (count if key.endswith("tracked") else weight).expand(shape) for key, shape in shapes.items()}
    torch.save({"net": net, **more}, path)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, MODELS["ckd-tiny"].build(), model="ckd-tiny", elimination="none")
    return path


def test_inspect_a_published_training_checkpoint(tmp_path: Path) -> None:
    path = published(
        tmp_path / "ckd.pth.tar", manifest("ckd_state_dict")["training"], epoch=25, optimizer={"state": {}}
    )
    facts = json.loads(run("inspect", path, "--json", "--keys").stdout)
    assert facts["kind"] == "ckd-training"
    assert facts["model"] == "ckd-base"
    assert facts["fit"] == "weights; gives 878 of 878 keys, teachers too"
    assert (facts["tensors"], facts["parameters"]) == (878, 368_908_431)
    assert facts["families"]["teacher_rgb"] == 152
    assert facts["dtypes"] == {"float32": 842, "int64": 36}
    assert facts["metadata"] == {"epoch": "25"}
    assert facts["ignored"] == ["optimizer: dict of 1 entries"]
    assert facts["bytes"] == path.stat().st_size
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["keys"]["rgb_branch.pos_embed"] == [1, 197, 768]


def test_inspect_in_words(tmp_path: Path) -> None:
    result = run("inspect", published(tmp_path / "o.pth", manifest("ostrack_state_dict"), note="\x1b[31mred"))
    assert result.exit_code == 0
    assert "kind: ostrack" in result.stdout
    assert "parameters: 92518533" in result.stdout
    assert "fit: a starting point for training; gives 394 of 394 keys" in result.stdout
    assert "\x1b" not in result.stdout


def test_inspect_what_nearly_fits(tmp_path: Path) -> None:
    shapes = dict(manifest("ckd_state_dict")["inference"])
    del shapes["tir_branch.norm.bias"]
    shapes["rgb_branch.norm.bias"] = [7]
    facts = json.loads(run("inspect", published(tmp_path / "a.pth", shapes), "--json").stdout)
    assert facts["model"] == "ckd-base (does not fit)"
    assert "missing 1 (tir_branch.norm.bias)" in facts["fit"]
    assert "rgb_branch.norm.bias wants [768], got [7]" in facts["fit"]


def test_convert_keeps_the_weights(tmp_path: Path, tiny: Path) -> None:
    out = tmp_path / "deep" / "half.safetensors"
    result = run("convert", tiny, out, "--dtype", "fp16", "--elimination", "ce")
    assert result.exit_code == 0, result.output
    metadata = read_checkpoint(out).metadata
    assert metadata["model"] == "ckd-tiny"
    assert (metadata["elimination"], metadata["dtype"], metadata["form"]) == ("ce", "fp16", "inference")
    assert (metadata["source"], metadata["trained"]) == ("tiny.safetensors", "yes")
    net = build_net("ckd-tiny", weights=out)
    key = "branch.stem.patch_embed.proj.weight"
    assert torch.equal(net.state_dict()[key], read_checkpoint(tiny).tensors[key].half().float())


def test_a_converted_starting_point_says_so(tmp_path: Path, shared_data: Path) -> None:
    out = tmp_path / "start.safetensors"
    result = run("convert", shared_data / "weights" / "hiera_tiny_stage1to3_fp16.safetensors", out, "--teachers")
    assert result.exit_code == 0, result.output
    metadata = read_checkpoint(out).metadata
    assert (metadata["trained"], metadata["form"], metadata["source_kind"]) == ("no", "training", "hiera")


def test_convert_refuses_to_overwrite(tmp_path: Path, tiny: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    result = run("convert", tiny, out)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert out.read_text() == "mine"
    assert run("convert", tiny, out, "--force").exit_code == 0
    assert run("convert", out, out, "--force").exit_code == 0
    assert read_checkpoint(out).kind == "duotrack"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dtype", "fp17"], "did you mean 'fp16'"),
        (["--model", "ckd-tony"], "did you mean 'ckd-tiny'"),
        (["--model", "ckd-base"], "cannot use duotrack weights of ckd-tiny"),
        (["--elimination", "mc"], "did you mean 'mce'"),
        (["--teachers"], "needs teachers"),
    ],
)
def test_convert_with_bad_options(tmp_path: Path, tiny: Path, options: list[str], words: str) -> None:
    result = run("convert", tiny, tmp_path / "out.safetensors", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["tiny.safetensors"]


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04", None])
def test_bad_files_give_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.pth"
    if content is not None:
        path.write_bytes(content)
    for arguments in (["inspect", path], ["convert", path, tmp_path / "out.safetensors"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("duotrack: ")
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_the_output_is_a_safetensors_file(tmp_path: Path, tiny: Path) -> None:
    result = run("convert", tiny, tmp_path / "out.pth")
    assert result.exit_code == 2
    assert ".safetensors" in result.stderr


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_help_shows_an_example(command: str) -> None:
    assert f"duotrack weights {command}" in " ".join(run(command, "--help").stdout.split())


def test_a_patrack_checkpoint_is_given_its_task(tmp_path: Path) -> None:
    path = published(tmp_path / "PATrack_ep0060.pth.tar", manifest("patrack_state_dict"), epoch=60)
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert (facts["kind"], facts["model"]) == ("patrack", "patrack-base")
    assert facts["fit"] == "weights; gives 730 of 730 keys"
    assert facts["never_used"]["norm1"] == 1536
    assert facts["never_used"]["backbone.blocks.{3,6,9}.adap_t"] == 3 * 16_300
    words = run("inspect", path).stdout
    assert "  backbone.blocks.{0,1,2,4,5,7,8,10,11}.highfuseadapter1: 4644882" in words
    out, again = tmp_path / "depth.safetensors", tmp_path / "again.safetensors"
    assert run("convert", path, out, "--dtype", "bf16", "--modality", "depth").exit_code == 0
    assert stated_kind(out) == "depth"
    assert run("convert", out, again, "--dtype", "bf16").exit_code == 0
    assert stated_kind(again) == "depth"
    for made in (out, again):  # the order of the colours that it saw
        assert read_checkpoint(made).metadata["depth_colours"] == "bgr"
    relabelled = run("convert", out, again, "--force", "--modality", "event")
    assert relabelled.exit_code == 2
    assert "says that it was trained on RGB and depth, not event; leave --modality out" in relabelled.stderr
    assert stated_kind(again) == "depth"
    refused = run("convert", path, out, "--force", "--modality", "deep")
    assert refused.exit_code == 2
    assert "did you mean 'depth'" in refused.stderr
