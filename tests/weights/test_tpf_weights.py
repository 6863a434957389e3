"""TPF's weights: what they begin from, options that travel with a file, hostile metadata."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.errors import InputError
from duotrack.models.tpf_options import AdapterOptions, TPFOptions
from duotrack.models.zoo import MODELS, build_on_meta
from duotrack.training.fit import build_network
from duotrack.training.recipe import load_recipe
from duotrack.weights.build import build_from, build_net, fit, model_shapes
from duotrack.weights.keymap import FITS
from duotrack.weights.read import Checkpoint, read_checkpoint
from duotrack.weights.report import compare, shapes_of
from duotrack.weights.safetensor import save_weights
from duotrack.weights.tpf import check_agreement, stated_options, tiny_to_tpf
from reference import manifest

OTHER = TPFOptions(adapter=AdapterOptions(layout="stacked", width=16, scan="cross"), level="pfa", bottleneck=12)


def zeros(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Zeros of full size that repeat one element."""
    whole = torch.zeros((), dtype=torch.int64)
    return {key: (whole if key.endswith("tracked") else torch.zeros(())).expand(shape) for key, shape in shapes.items()}


def test_every_model_takes_some_weights() -> None:
    assert FITS.keys() == MODELS.keys()


@pytest.mark.parametrize("kind", ["ostrack", "droptrack"])
def test_single_stream_trackers_map_one_to_one(kind: str) -> None:
    shapes = manifest("ostrack_state_dict")
    if kind == "droptrack":
        shapes = shapes | {"backbone.pos_embed_z": [1, 144, 768], "backbone.pos_embed_x": [1, 576, 768]}
        shapes |= {f"backbone.temporal_pos_embed_{which}": [1, 1, 768] for which in "xz"}
    fitted = fit(Checkpoint(kind, zeros(shapes), {}, "", ()), "tpf-base")
    assert not fitted.trained
    wanted = model_shapes("tpf-base")
    assert not compare(wanted, shapes_of(fitted.tensors), allow_missing=fitted.keeps)
    kept = {key.split(".")[0] for key in wanted if key not in fitted.tensors}
    assert kept == {"fusion", "gate", "template_slots"}
    assert {key.split(".")[0] for key in fitted.tensors} == {"backbone", "box_head"}


def test_ckd_tiny_is_a_start_that_tracks_as_it_did_with_one_modality() -> None:
    """On equal images, where a fresh adapter changes nothing, and with one template."""
    torch.manual_seed(0)
    ckd = build_net("ckd-tiny")
    tpf = build_network(load_recipe("tpf-tiny-stage1")).eval()
    template, search = torch.rand(1, 3, 96, 96), torch.rand(1, 3, 192, 192)
    with torch.inference_mode():
        before = ckd(template=(template, None), search=(search, None))
        fused = tpf.fuse(search, search)
        torch.testing.assert_close(fused, search, atol=1e-5, rtol=0)
        after = tpf.find([template], search)
    for name in ("score_map", "size_map", "offset_map"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), atol=2e-4, rtol=0)


def test_ckd_tiny_fits_key_by_key_and_is_no_trained_tpf() -> None:
    shapes = shapes_of(build_on_meta(MODELS["ckd-tiny"]).state_dict())
    tensors = {key: torch.zeros(shape) for key, shape in shapes.items()}
    checkpoint = Checkpoint("duotrack", tensors, {"format": "duotrack", "model": "ckd-tiny"}, "", ())
    fitted = fit(checkpoint, "tpf-tiny")
    assert not fitted.trained
    assert not compare(model_shapes("tpf-tiny"), shapes_of(fitted.tensors), allow_missing=fitted.keeps)
    with pytest.raises(InputError, match="tpf-base cannot use duotrack weights of ckd-tiny; they fit"):
        fit(checkpoint, "tpf-base")


def test_halves_of_the_first_convolution_are_added() -> None:
    wide = torch.arange(8.0).view(2, 4, 1, 1)
    made = tiny_to_tpf({"branch.norm.bias": torch.ones(1), "box_head.squeeze.weight": wide})
    assert made.keys() == {"backbone.norm.bias", "box_head.squeeze.weight"}
    assert made["box_head.squeeze.weight"].flatten().tolist() == [2, 4, 10, 12]


def test_hiera_gives_the_stem_and_the_blocks() -> None:
    stem = {"pos_embed": [1, 96, 7, 7], "pos_embed_window": [1, 96, 8, 8], "patch_embed.proj.weight": [96, 3, 7, 7]}
    stem["blocks.4.norm1.weight"] = [384]
    fitted = fit(Checkpoint("hiera", {k: torch.zeros(s) for k, s in stem.items()}, {}, "", ()), "tpf-tiny")
    assert set(fitted.tensors) <= set(model_shapes("tpf-tiny"))
    assert "backbone.blocks.0.norm1.weight" in fitted.tensors
    assert not fitted.trained


@pytest.mark.parametrize("options", [TPFOptions(), OTHER, TPFOptions(bottleneck=5, gate_answers=False)])
def test_options_travel_with_the_file(tmp_path: Path, options: TPFOptions) -> None:
    net = MODELS["tpf-tiny"].build(options=options).eval()
    save_weights(tmp_path / "a.safetensors", net, model="tpf-tiny", elimination="ce")
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    again = build_from(checkpoint, "tpf-tiny")
    assert again.options == options
    assert (again.level, again.gate_answers, again.elimination) == (options.level, options.gate_answers, "ce")
    assert again.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())
    shown = CliRunner().invoke(app, ["weights", "inspect", str(tmp_path / "a.safetensors")])
    assert shown.exit_code == 0
    assert "model: tpf-tiny\n" in shown.output
    assert "fit: weights; gives" in shown.output
    result = CliRunner().invoke(
        app, ["weights", "convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"), "--dtype", "fp16"]
    )
    assert result.exit_code == 0, result.output
    assert stated_options(read_checkpoint(tmp_path / "b.safetensors").metadata) == options


def test_how_it_is_computed_does_not_travel() -> None:
    net = MODELS["tpf-tiny"].build(backend="loop", chunk=8, recompute=False)
    assert net.fusion.blocks[0].scan.keywords == {"backend": "loop", "chunk": 8, "recompute": False}
    text = net.options.model_dump_json()
    assert not any(word in text for word in ("backend", "chunk", "recompute"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "Invalid JSON"),
        ("[]", "should be an object"),
        (json.dumps({"adapter": {"width": 10**9}}), r"adapter\.width"),
        (json.dumps({"adapter": {"width": 31}}), r"adapter\.width"),
        (json.dumps({"adapter": {"stride": 3}}), r"adapter\.stride"),
        (json.dumps({"adapter": {"backend": "mamba_ssm"}}), r"adapter\.backend"),
        (json.dumps({"bottleneck": -1}), "bottleneck"),
        (json.dumps({"level": "x\x1b[31m"}), "level"),
        (json.dumps({"adapter": {}, "pad": "x" * 3000}), "longer"),
    ],
)
def test_hostile_options_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.safetensors"
    facts = {"format": "duotrack", "model": "tpf-tiny", "elimination": "none", "options": text}
    save_file({"fusion.head.bias": torch.zeros(4)}, path, metadata=facts)
    with pytest.raises(InputError, match=message) as error:
        build_net("tpf-tiny", weights=path)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    shown = CliRunner().invoke(app, ["weights", "inspect", str(path)])
    assert shown.exit_code == 0
    assert "model: none" in shown.output


def stated(options: TPFOptions) -> dict[str, str]:
    return {"options": options.model_dump_json()}


def test_going_on_with_other_options_is_refused() -> None:
    net = build_on_meta(MODELS["tpf-tiny"], options=TPFOptions(bottleneck=48))
    check_agreement(net, stated(TPFOptions(bottleneck=48)))
    check_agreement(net, stated(TPFOptions(level="pfa")))  # stage 1: no gate
    check_agreement(net, stated(TPFOptions(bottleneck=48, gate_answers=False)))
    check_agreement(net, {})
    with pytest.raises(InputError, match=r"pfa\.halve False, the recipe has True; --set method\.pfa\.halve=False"):
        check_agreement(net, stated(TPFOptions(adapter=AdapterOptions(halve=False))))
    with pytest.raises(InputError, match=r"drf\.level 'pfa'"):
        check_agreement(net, stated(TPFOptions(level="pfa", bottleneck=48)))


def test_teachers_are_refused() -> None:
    with pytest.raises(InputError, match="tpf-tiny has no training form with teachers"):
        build_net("tpf-tiny", teachers=True)
