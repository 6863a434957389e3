"""What cannot be is said before a network is built or a library opened."""

import sys

import pytest

import duotrack
from duotrack.errors import InputError
from duotrack.runtime import backends, export


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch):
    def loaded(*args: object, **options: object) -> None:
        raise AssertionError("something heavy was loaded")

    for module in (export, backends):
        monkeypatch.setattr(module, "build_net", loaded)
        monkeypatch.setattr(module, "require", loaded)
        monkeypatch.setattr(module, "open_session", loaded)


@pytest.mark.parametrize(
    ("model", "out", "options", "words"),
    [
        ("ckd-tinny", "net.onnx", {}, "did you mean 'ckd-tiny'"),
        ("tpf-tiny", "net.onnx", {}, "two templates"),
        ("ckd-tiny", "net.pt", {}, r"\.onnx or \.xml"),
        ("ckd-tiny", "net.onnx", {"format": "onxx"}, "did you mean 'onnx'"),
        ("ckd-tiny", "net.onnx", {"format": "openvino"}, r"is called \.xml"),
        ("ckd-tiny", "net.xml", {"precision": "fp16"}, "openvino has no precision fp16"),
        ("ckd-tiny", "net.xml", {"precision": "int8"}, "--frames"),
        ("ckd-tiny", "net.xml", {"samples": []}, "only int8"),
        ("ckd-tiny", "net.xml", {"batch": 5000}, "batch 5000"),
        ("ckd-tiny", "net.xml", {"elimination": "best"}, "elimination"),
    ],
)
def test_exports(tmp_path, model, out, options, words):
    with pytest.raises(InputError, match=words):
        export.export_model(model, tmp_path / out, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("ckd-tinny", {"backend": "openvino"}, "did you mean 'ckd-tiny'"),
        ("ckd-tiny", {"backend": "openvin"}, "did you mean 'openvino'"),
        ("ckd-tiny", {"precision": "int4"}, "no precision is called 'int4'"),
        ("ckd-tiny", {"backend": "openvino", "precision": "int8"}, "duotrack export"),
        ("tpf-tiny", {"backend": "onnxruntime"}, "two templates"),
        ("ckd-tiny", {"backend": "openvino", "prepare_for": ("aux", "rgb")}, "prepare_for"),
        ("ckd-tiny", {"backend": "openvino", "prepare_for": "aux"}, "prepare_for is 'aux'"),
    ],
)
def test_trackers(model, options, words):
    with pytest.raises(InputError, match=words):
        duotrack.load_tracker(model, **options)


@pytest.mark.parametrize(
    ("library", "options", "words"),
    [
        ("nncf", {"precision": "int8", "samples": []}, r"duotrack\[int8\]"),
        ("onnxscript", {}, r"duotrack\[export\]"),
        ("onnx", {}, r"duotrack\[export\]"),
    ],
)
def test_libraries_that_are_not_there(monkeypatch, tmp_path, library, options, words):
    pytest.importorskip("onnxscript")
    pytest.importorskip("nncf")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=words):
        export.export_model("ckd-tiny", tmp_path / "net.onnx", **options)


def test_the_onnx_backend_needs_what_makes_its_graphs(monkeypatch):
    monkeypatch.setattr(backends, "require", lambda backend: None)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"duotrack\[export\]"):
        duotrack.load_tracker("ckd-tiny", backend="onnxruntime", device="cpu")
