"""An exported network says what auxiliary frames it was trained on, and others are refused."""

import pytest
import torch

from duotrack.errors import InputError
from duotrack.models.zoo import MODELS, model_spec
from duotrack.runtime.convert import describe
from duotrack.runtime.graph_facts import BOTH, Wanted, read_facts
from duotrack.tracking import load
from duotrack.weights.safetensor import save_weights
from duotrack.weights.task import trained_on


@pytest.mark.parametrize(
    ("wanted", "colours", "words"),
    [
        ("thermal", "bgr", "net.onnx was trained on RGB and depth, the auxiliary frames are thermal"),
        ("depth", "bgr", "net.onnx was trained on depth with depth_colours 'rgb', not 'bgr'"),
    ],
)
def test_export_refuses_other_frames(tmp_path, monkeypatch, wanted, colours, words):
    spec, weights = model_spec("ckd-tiny"), tmp_path / "depth.safetensors"
    torch.manual_seed(0)
    net = MODELS["ckd-tiny"].build()
    extra = {"task": "depth", "depth_colours": "rgb"}
    save_weights(weights, net, model="ckd-tiny", elimination="none", dtype="fp16", extra=extra)
    made = describe(net, spec, Wanted(BOTH, BOTH), precision="fp32", batch=1, trained=trained_on(spec, weights))
    about = read_facts(made.text(), "net.onnx")
    assert (about.task, about.depth_colours) == ("depth", "rgb")
    monkeypatch.setattr(load, "facts_of", lambda path: about)
    with pytest.raises(InputError, match=words):
        load.load_tracker("ckd-tiny", weights="net.onnx", modality=wanted, depth_colours=colours)
