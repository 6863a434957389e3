"""Other methods as graphs: with a batch that stays open, and in operators that ONNX has."""

import io

import numpy as np
import pytest
import torch

from duotrack.models.adapters import Entangle
from duotrack.models.zoo import model_spec
from duotrack.runtime.deploy import deploy
from duotrack.runtime.graph_facts import BOTH, Wanted
from duotrack.runtime.traced import example, run_torch, trace
from duotrack.weights.build import build_net


def test_ipl_graph_takes_any_batch():
    spec, wanted = model_spec("ipl-tiny"), Wanted(BOTH, BOTH)
    torch.manual_seed(0)
    net = deploy(build_net("ipl-tiny"))
    graph = trace(net, wanted, spec.geometry, batch=0).module()
    for batch in (1, 3):
        images = example(wanted, spec.geometry, batch=batch, seed=batch)
        with torch.inference_mode():
            found = graph(*images)
        for ours, theirs in zip(found, run_torch(net, wanted, images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_entangled_attention_of_patrack_is_written_as_onnx():
    pytest.importorskip("onnxscript")
    ort = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    layer = Entangle(width=8).eval()
    tokens = torch.randn(4, 25, 8)
    shapes = {"tokens": {0: 2 * torch.export.Dim("pairs", min=1, max=8)}, "crossed": None}
    program = torch.onnx.export(
        layer, (tokens,), kwargs={"crossed": True}, dynamic_shapes=shapes, dynamo=True, verbose=False
    )
    held = io.BytesIO()
    program.save(held)
    session = ort.InferenceSession(held.getvalue(), providers=["CPUExecutionProvider"])
    for pairs in (1, 3):
        tokens = torch.randn(2 * pairs, 25, 8)
        (found,) = session.run(None, {session.get_inputs()[0].name: tokens.numpy()})
        np.testing.assert_allclose(found, layer(tokens, crossed=True).detach().numpy(), atol=1e-5)
