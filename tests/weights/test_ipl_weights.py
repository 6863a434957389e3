"""IPL's weights: every official key has its place, stage-1 checkpoints, what training begins from."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.errors import InputError
from duotrack.models.zoo import MODELS, build_on_meta
from duotrack.weights.build import build_from, build_net, fit, model_for, model_shapes
from duotrack.weights.convert import init_ipl
from duotrack.weights.read import Checkpoint, read_checkpoint
from duotrack.weights.report import compare, shapes_of
from duotrack.weights.safetensor import save_weights
from reference import manifest

NORMS = [f"box_head.conv{stage}_{tower}.1" for tower in ("ctr", "offset", "size") for stage in range(1, 5)]
UNUSED = {
    "backbone.cls_token": 768,
    "backbone.pos_embed": 197 * 768,
    "backbone.rgb_msa_layers.{0,1,2}.align_adapter_rgb2tir": 3 * 1_182_720,
    "backbone.tir_msa_layers.{0,1,2}.align_adapter_tir2rgb": 3 * 1_182_720,
}


def official() -> dict[str, Tensor]:
    """All keys at full size, every tensor one repeated element."""
    return {key: torch.zeros(()).expand(shape) for key, shape in manifest("ipl_state_dict").items()}


def published(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"epoch": 55, "net_type": "OSTrack_twobranch", "net": tensors, "settings": [1]}, path)
    return path


def wanted() -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in manifest("ipl_state_dict").items()}


def test_the_published_checkpoint_fits_key_by_key(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(published(tmp_path / "IPL_model_ckpt.pth.tar", official()))
    assert (checkpoint.kind, model_for(checkpoint)) == ("ipl", "ipl-base")
    fitted = fit(checkpoint, "ipl-base")
    assert fitted.trained
    assert not fitted.keeps
    assert shapes_of(fitted.tensors) == wanted() == model_shapes("ipl-base")
    dead = {name for name, p in build_on_meta(MODELS["ipl-base"]).named_parameters() if not p.requires_grad}
    assert dead <= fitted.tensors.keys()
    assert len(dead) == 96 + 2


def test_stage_one_counts_are_left_in_the_file_and_said(tmp_path: Path) -> None:
    counts = {f"{norm}.num_batches_tracked": torch.tensor(7) for norm in NORMS}
    checkpoint = read_checkpoint(published(tmp_path / "a.pth.tar", official() | counts))
    assert "12 tensors (counts of batches, which the head's norms do not keep): box_head (12)" in checkpoint.ignored
    assert shapes_of(fit(checkpoint, "ipl-base").tensors) == wanted()


@pytest.mark.parametrize("embeddings", [True, False])
def test_a_stage_one_checkpoint_without_prompters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, embeddings: bool
) -> None:
    tensors = {key: value for key, value in official().items() if "align_adapter_" not in key}
    tensors["backbone.patch_embed.proj.bias"] = torch.full((768,), 2.0)
    if not embeddings:
        tensors = {key: value for key, value in tensors.items() if "patch_embed_" not in key}
    checkpoint = read_checkpoint(published(tmp_path / "a.pth.tar", tensors))
    fitted = fit(checkpoint, "ipl-base")
    assert "no prompters" in caplog.text
    assert fitted.trained
    assert not compare(wanted(), shapes_of(fitted.tensors), allow_missing=fitted.keeps)
    assert set(wanted()) - set(fitted.tensors) == {key for key in wanted() if "align_adapter_" in key}
    copied = fitted.tensors["backbone.patch_embed_rgb2tir.proj.bias"]
    assert float(copied[0]) == (0.0 if embeddings else 2.0)  # a checkpoint that has its own keeps them


def test_a_checkpoint_that_lost_one_prompter_is_refused() -> None:
    tensors = official()
    del tensors["backbone.blocks.4.align_adapter_rgb2tir.model.0.F.0.weight"]
    with pytest.raises(InputError, match=r"missing 1 \(backbone\.blocks\.4\.align_adapter_rgb2tir"):
        build_from(Checkpoint("ipl", tensors, {}, "test", ()), "ipl-base")


def test_ostrack_weights_are_where_stage_one_begins() -> None:
    tensors = {
        key: torch.rand(shape) for key, shape in manifest("ostrack_state_dict").items() if "backbone.b" not in key
    }
    ours = init_ipl(tensors)
    for tower in ("ctr", "offset", "size"):
        one = tensors[f"box_head.conv1_{tower}.0.weight"]
        assert torch.equal(ours[f"box_head.conv1_{tower}.0.weight"], torch.cat([one, one], dim=1))
        assert torch.equal(ours[f"box_head.conv2_{tower}.0.weight"], tensors[f"box_head.conv2_{tower}.0.weight"])
    for way in ("rgb2tir", "tir2rgb"):
        copied = ours[f"backbone.patch_embed_{way}.proj.weight"]
        assert torch.equal(copied, tensors["backbone.patch_embed.proj.weight"])
    assert not any(key.endswith("num_batches_tracked") for key in ours)


@pytest.mark.parametrize("kind", ["ostrack", "droptrack"])
def test_what_a_starting_point_gives(kind: str) -> None:
    tensors = {key: torch.zeros(()).expand(shape) for key, shape in manifest("ostrack_state_dict").items()}
    fitted = fit(Checkpoint(kind, tensors, {}, "test", ()), "ipl-base")
    assert not fitted.trained
    assert not compare(wanted(), shapes_of(fitted.tensors), allow_missing=fitted.keeps)
    fresh = set(wanted()) - set(fitted.tensors)
    assert fresh == {key for key in wanted() if "align_adapter_" in key or "_msa_layers." in key or ".mst_" in key}


def test_the_small_model_begins_from_ckd_tiny() -> None:
    theirs = build_net("ckd-tiny").state_dict()
    path = Path(__file__).resolve().parents[2] / "src/duotrack/weights/files/ckd-tiny.safetensors"
    net = build_net("ipl-tiny", weights=path)
    ours = net.state_dict()
    for key, value in theirs.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(ours[key.replace("branch.", "backbone.", 1)], value), key
    stem = theirs["branch.stem.patch_embed.proj.weight"]
    assert torch.equal(ours["backbone.patch_embed_tir2rgb.proj.weight"], stem)
    assert not fit(read_checkpoint(path), "ipl-tiny").trained
    assert net.elimination == "none"
    with pytest.raises(InputError, match="they fit ckd-tiny, ipl-tiny"):
        build_net("ckd-base", weights=path)


def test_a_hiera_file_is_a_start_too(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        net = build_net("ipl-tiny", weights=shared_data / "weights" / "hiera_tiny_stage1to3_fp16.safetensors")
    assert "initialised, not trained" in caplog.text
    assert float(net.state_dict()["backbone.stem.pos_embed"].abs().sum()) > 0


def test_saved_weights_give_the_same_network(tmp_path: Path) -> None:
    net = MODELS["ipl-tiny"].build(elimination="ce").eval()
    save_weights(tmp_path / "a.safetensors", net, model="ipl-tiny", elimination="ce")
    found = build_net("ipl-tiny", weights=tmp_path / "a.safetensors")
    assert found.elimination == "ce"
    torch.save({"state_dict": {f"net.{key}": value for key, value in net.state_dict().items()}}, tmp_path / "last.ckpt")
    assert model_for(read_checkpoint(tmp_path / "last.ckpt")) == "ipl-tiny"  # a checkpoint of a run, without metadata
    build_net("ipl-tiny", weights=tmp_path / "last.ckpt")
    images = (torch.randn(1, 3, 96, 96), torch.randn(1, 3, 192, 192))
    with torch.inference_mode():
        one, other = (n(template=(images[0], None), search=(images[1], None)) for n in (net, found))
    assert torch.equal(one.score_map, other.score_map)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"elimination": "mce"}, "knows no elimination 'mce'"), ({"teachers": True}, "no training form")],
)
def test_what_ipl_does_not_have(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_net("ipl-tiny", **options)  # type: ignore[arg-type]


def test_inspect_names_the_model_and_what_is_never_used(tmp_path: Path) -> None:
    path = published(tmp_path / "IPL_model_ckpt.pth.tar", official())
    result = CliRunner().invoke(app, ["weights", "inspect", str(path), "--json"])
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["model"]) == ("ipl", "ipl-base")
    assert facts["fit"] == "weights; gives 884 of 884 keys"
    assert facts["never_used"] == UNUSED
    assert "settings" in facts["ignored"][0]


def test_models_name_what_is_never_used() -> None:
    text = " ".join(CliRunner().invoke(app, ["models"]).stdout.split())
    assert "7.2 M are in checkpoints only: backbone.cls_token, backbone.pos_embed, backbone.rgb_msa_layers" in text
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)}
    assert rows["ipl-base"]["never_used"] == UNUSED
