"""Choosing a back-end, and what is said where it is not to be had."""

import sys

import pytest
import torch

import duotrack
from duotrack.errors import InputError
from duotrack.runtime import native, torch_backend
from duotrack.runtime.backends import backend_device, check_backend
from duotrack.runtime.native import compiler
from small_net import AUX, BOTH, RGB, same, track


@pytest.mark.parametrize(
    ("asked", "settled"),
    [
        ((None, None, None), ("torch", "fp32")),
        (("openvino", "bf16", None), ("openvino", "bf16")),
        ((None, "int8", None), ("torch", "int8")),
        ((None, None, "net.onnx"), ("onnxruntime", None)),
        (("openvino", None, "net.onnx"), ("openvino", None)),
        ((None, "bf16", "net.xml"), ("openvino", "bf16")),
        ((None, None, "net.safetensors"), ("torch", "fp32")),
    ],
)
def test_what_is_meant(asked, settled):
    assert check_backend(*asked) == settled


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("openvin", None, None), "openvino"),
        ((None, "fp8", None), "fp16"),
        (("openvino", "fp16", None), "openvino has no precision fp16.*torch and compiled and onnxruntime"),
        (("onnxruntime", "bf16", None), "onnxruntime has no precision bf16"),
        (("openvino", "int8", None), "duotrack export MODEL --precision int8 --frames"),
        (("compiled", "int8", None), "torch and onnxruntime and openvino have it"),
        (("onnxruntime", "int8", None), "backend torch fits it as it goes"),
        (("torch", None, "net.onnx"), "onnxruntime or openvino runs it"),
        (("onnxruntime", None, "net.xml"), "openvino runs it"),
    ],
)
def test_what_cannot_be(asked, words):
    with pytest.raises(InputError, match=words):
        check_backend(*asked)


def test_graphs_of_openvino_stay_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch_backend.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_backend.torch.cuda, "device_count", lambda: 1)
    assert backend_device("openvino", "auto", "fp32") == torch.device("cpu")
    assert backend_device("compiled", "auto", "fp16") == torch.device("cuda")
    with pytest.raises(InputError, match="runs on the CPU here"):
        backend_device("openvino", "cuda", "fp32")


@pytest.mark.parametrize(
    ("backend", "library", "words"),
    [
        ("openvino", "openvino", r"duotrack\[openvino\]"),
        ("onnxruntime", "onnxruntime", r"duotrack\[export\]"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, tmp_path, backend, library, words):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=words):
        duotrack.load_tracker("ckd-tiny", backend=backend, device="cpu")


def test_a_missing_exporter_is_named_with_its_extra(monkeypatch, tmp_path, zoo):
    from duotrack.runtime.export import export_model

    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"duotrack\[export\]"):
        export_model("small", tmp_path / "net.onnx")


def test_a_missing_compiler_is_said_at_once(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"C\+\+ compiler"):
        duotrack.load_tracker("ckd-tiny", backend="compiled", device="cpu")


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")
@pytest.mark.slow
def test_compiled_answers_as_torch_does(zoo):
    there = [BOTH, BOTH, RGB, BOTH, AUX]
    same(
        track(duotrack.load_tracker("small", backend="compiled", device="cpu"), there),
        track(duotrack.load_tracker("small", device="cpu"), there),
    )
