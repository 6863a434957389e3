"""Graphs cut before their head, which is computed in float32 where the rest is in 16 bits."""

import numpy as np
import pytest
import torch

import duotrack
from duotrack.runtime import openvino_pieces
from duotrack.runtime.export import export_model
from duotrack.runtime.openvino_backend import OpenVINOSession, openvino_core, read_graph
from duotrack.runtime.openvino_pieces import behead, cut, sized
from small_net import BOTH, RGB, track


@pytest.fixture
def wide(monkeypatch):
    """Small networks' heads count as wide."""
    monkeypatch.setattr(openvino_pieces, "WIDE", 1)


@pytest.fixture
def graph(zoo, tmp_path):
    """Makes an exported graph of a small model, of one sample."""
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")

    def make(name: str, **options: object):
        return export_model(name, tmp_path / f"{name}.onnx", batch=0, **options).path

    return make


def answers(model, inputs):
    request = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    return list(request.infer(inputs).values())


@pytest.mark.parametrize("name", ["small", "ipl", "patrack"])
def test_body_and_head_are_the_whole(wide, graph, name):
    facts, model = read_graph(graph(name))

    def follow():
        return cut(sized(model.clone(), facts, batch=1), facts)["follow"]

    draw = np.random.default_rng(0)
    inputs = [draw.standard_normal(tuple(port.shape), dtype=np.float32) for port in follow().inputs]
    whole = answers(follow(), inputs)
    pieces = behead(follow())
    assert set(pieces) == {"follow", "head"}
    assert not any(op.get_type_name() == "MatMul" for op in pieces["head"].get_ops())
    assert len(pieces["follow"].outputs) == 1
    for ours, theirs in zip(answers(pieces["head"], answers(pieces["follow"], inputs)), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "small"], ids=["no products", "a narrow head"])
def test_others_stay_whole(graph, name):
    facts, model = read_graph(graph(name))
    whole = cut(sized(model, facts, batch=1), facts)["follow"]
    assert behead(whole) == {"follow": whole}


@pytest.mark.parametrize(("precision", "apart"), [("fp32", False), ("bf16", True)])
def test_only_graphs_in_16_bits_are_cut(wide, graph, precision, apart):
    session = OpenVINOSession(graph("small"), precision=precision, threads=1)
    inputs = track_inputs(session)
    tokens = session.remember(inputs[: len(session.facts.template)])
    maps = session.follow([*tokens, *inputs[len(session.facts.template) :]])
    assert [each.shape[1] for each in maps] == [1, 2, 2]
    assert (("head", 1) in session._requests) is apart


def track_inputs(session):
    return [torch.randn(shape) for name, shape in session.facts.input_shapes(1).items() if name != "present"] + (
        [torch.ones(1, 2)] if session.facts.masked else []
    )


def test_tracking_in_16_bits_follows_the_same_target(wide, graph):
    path = graph("small")
    there = [BOTH, BOTH, RGB]
    exact = track(duotrack.load_tracker("small", weights=path, backend="openvino"), there)
    ours = track(duotrack.load_tracker("small", weights=path, backend="openvino", precision="bf16"), there)
    for a, b in zip(ours, exact, strict=True):
        np.testing.assert_allclose(a.box, b.box, atol=2)
