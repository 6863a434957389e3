"""PATrack's checkpoints and starting points; what our own files say beside the weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from duotrack.errors import InputError
from duotrack.models.zoo import build_patrack_base
from duotrack.weights.build import build_from, build_net, fit, model_for
from duotrack.weights.read import Checkpoint, read_checkpoint
from duotrack.weights.report import compare, shapes_of
from duotrack.weights.safetensor import save_weights
from reference import manifest

SHAPES = {key: tuple(shape) for key, shape in manifest("patrack_state_dict").items()}


def saved(shapes: dict[str, list[int]], path: Path, **more: object) -> Path:
    """A published checkpoint in a few kB: every tensor repeats one element."""
    weight, count = torch.full((), 0.5), torch.zeros((), dtype=torch.int64)
    tensors = {key: (count if key.endswith("tracked") else weight).expand(shape) for key, shape in shapes.items()}
    torch.save({"epoch": 60, "net": tensors, **more}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_checkpoint_fits_key_for_key(tmp_path: Path, prefix: str) -> None:
    shapes = {prefix + key: shape for key, shape in manifest("patrack_state_dict").items()}
    checkpoint = read_checkpoint(saved(shapes, tmp_path / "PATrack_ep0060.pth.tar", optimizer={}))
    assert (checkpoint.kind, model_for(checkpoint)) == ("patrack", "patrack-base")
    fitted = fit(checkpoint, "patrack-base")
    assert (fitted.trained, fitted.keeps) == (True, ())
    assert shapes_of(fitted.tensors) == SHAPES
    net = build_from(checkpoint, "patrack-base")
    assert not net.training
    assert float(net.state_dict()["adapter_head.adapter_mid.weight"][0, 0]) == 0.5
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert "norm1.weight" in frozen
    assert "backbone.norm.weight" not in frozen


@pytest.mark.parametrize("kind", ["ostrack", "droptrack"])
def test_starting_points_leave_the_adapters_as_they_were_initialised(tmp_path: Path, kind: str) -> None:
    grids = {"backbone.pos_embed_z": [1, 144, 768], "backbone.pos_embed_x": [1, 576, 768]}
    shapes = manifest("ostrack_state_dict") | (grids if kind == "droptrack" else {})
    checkpoint = read_checkpoint(saved(shapes, tmp_path / "start.pth.tar"))
    assert (checkpoint.kind, model_for(checkpoint)) == (kind, "ckd-base")
    fitted = fit(checkpoint, "patrack-base")
    assert not fitted.trained
    assert not compare(SHAPES, shapes_of(fitted.tensors), allow_missing=fitted.keeps)
    own = SHAPES.keys() - manifest("ostrack_state_dict").keys()
    assert {key for key in SHAPES if key.startswith(fitted.keeps)} == own
    assert len(own) == 730 - 242
    torch.manual_seed(0)
    initial = build_patrack_base().state_dict()
    torch.manual_seed(0)
    net = build_from(checkpoint, "patrack-base").state_dict()
    assert all(torch.equal(net[key], initial[key]) for key in own)
    assert float(net["backbone.blocks.3.attn.qkv.weight"].min()) == 0.5


def test_an_incomplete_starting_point_is_refused(tmp_path: Path) -> None:
    shapes = manifest("ostrack_state_dict")
    del shapes["backbone.blocks.3.attn.qkv.weight"]
    with pytest.raises(InputError, match=r"missing 1 \(backbone\.blocks\.3\.attn\.qkv\.weight\)"):
        build_from(read_checkpoint(saved(shapes, tmp_path / "a.pth")), "patrack-base")


def checkpoint(kind: str, tensors: dict[str, Tensor] | None = None, **metadata: str) -> Checkpoint:
    return Checkpoint(kind, tensors or {}, metadata, "test", ())


@pytest.mark.parametrize(
    ("given", "model", "words"),
    [
        (checkpoint("patrack"), "ckd-base", "cannot use patrack weights; they fit patrack-base"),
        (checkpoint("ckd-inference"), "patrack-base", "cannot use ckd-inference weights; they fit ckd-base"),
        (checkpoint("mae"), "patrack-base", "cannot use mae weights"),
        (checkpoint("patrack"), "patrack-base", "missing 730"),
        (
            checkpoint("duotrack", model="patrack-base", routing="\x1b[31m"),
            "patrack-base",
            r"routing '\\x1b\[31m', which is not one of released, published",
        ),
        (checkpoint("duotrack", model="patrack-base", elimination="ce"), "patrack-base", "no elimination 'ce', only"),
    ],
)
def test_what_does_not_fit_is_said(given: Checkpoint, model: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        build_from(given, model)
    assert "\x1b" not in str(caught.value)


def test_there_is_no_form_with_teachers() -> None:
    with pytest.raises(InputError, match="patrack-base has no training form with teachers"):
        build_net("patrack-base", teachers=True)


def test_the_routing_travels_with_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, build_patrack_base(routing="published"), model="patrack-base", elimination="none", dtype="fp16")
    net = build_net("patrack-base", weights=path)
    assert net.routing == "published"
    assert read_checkpoint(path).metadata["routing"] == "published"
