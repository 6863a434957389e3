"""Files that are no export of ours, or pretend to be: one line each, before a library sees them."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

import duotrack
from duotrack.errors import InputError
from duotrack.runtime import graph_cache
from duotrack.runtime.backends import open_network
from duotrack.runtime.export import export_model
from duotrack.runtime.graph_facts import read_facts
from duotrack.runtime.onnx_file import KEY, check_onnx
from duotrack.runtime.seal import seal

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One good file of each kind."""
    from duotrack.runtime import export
    from small_net import SPEC, small_ckd

    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        from duotrack.models.zoo import MODELS

        patch.setitem(MODELS, "small", SPEC)
        patch.setattr(export, "build_net", lambda *args, **options: small_ckd())
        for name in ("net.onnx", "net.xml"):
            export_model("small", folder / name)
    return folder


def load(path):
    return duotrack.load_tracker("small", weights=path)


@pytest.fixture(autouse=True)
def _zoo(zoo):
    pass


def told(graph, changes):
    """The model with other metadata."""
    facts = json.loads(next(each.value for each in graph.metadata_props if each.key == KEY))
    onnx.helper.set_model_props(graph, {KEY: json.dumps({**facts, **changes})})
    return graph


CHANGES = [
    ({"format": 0}, "stale export"),
    ({"format": 99}, "stale export"),
    ({"format": "1"}, "damaged metadata"),
    ({"model": "ckd-base"}, "export of ckd-base, not of small"),
    ({"geometry": {"template_size": 10**9, "search_size": 64}}, "cannot be used"),
    ({"calibration": [1.0]}, "cannot be used"),
    ({"calibration": [1e400, 0]}, "cannot be used|damaged"),
    ({"extra": 1}, "cannot be used"),
    ({"search": ["rgb"]}, "another graph|contradict"),
    ({"search": ["aux", "rgb"], "masked": False}, "contradict"),
    ({"batch": 7}, "another graph"),
    ({"keeps": False}, "another graph"),
]


@pytest.mark.parametrize(("changes", "words"), CHANGES)
def test_metadata_that_lie(exported, tmp_path, changes, words):
    path = tmp_path / "net.onnx"
    onnx.save(told(onnx.load(exported / "net.onnx"), changes), path)
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(InputError, match=words):
            duotrack.load_tracker("small", weights=path, backend=backend)


def outside(model, where: str):
    """The model with one tensor that lies in another file, in a place of the graph where tensors may be."""
    tensor = onnx.TensorProto(name="stolen", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    if where == "initializer":
        model.graph.initializer.append(tensor)
    elif where == "attribute":
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("value", tensor))
    elif where == "subgraph":
        inner = onnx.GraphProto(name="inner")
        inner.initializer.append(tensor)
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", inner))
    elif where == "function":
        function = model.functions.add(name="f", domain="d")
        node = function.node.add(op_type="Constant")
        node.attribute.append(onnx.helper.make_attribute("value", tensor))
    return model


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph", "function"])
def test_no_file_reaches_outside_itself(exported, tmp_path, where):
    path = tmp_path / "net.onnx"
    path.write_bytes(outside(onnx.load(exported / "net.onnx"), where).SerializeToString())
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(InputError, match="refers to other files"):
            duotrack.load_tracker("small", weights=path, backend=backend)


def test_what_is_no_graph(exported, tmp_path):
    whole = (exported / "net.onnx").read_bytes()
    bad = {
        "empty": b"",
        "text": b"this is no network at all, only a line of text",
        "cut": whole[: len(whole) // 2],
        "nested": b"\x3a\xff\xff\xff\xff\x0f",
        "unending number": b"\xff" * 40,
        "foreign": onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])).SerializeToString(),
    }
    for name, data in bad.items():
        path = tmp_path / "bad.onnx"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"damaged|empty|no export|fit"):
            load(path)
        assert name
    with pytest.raises(InputError, match="no exported network"):
        load(tmp_path / "nothing.onnx")


def test_every_cut_is_refused_or_harmless(exported):
    """The scan never raises anything else, wherever a file breaks off or a byte is wrong."""
    whole = bytearray((exported / "net.onnx").read_bytes())
    path = exported / "mutant.onnx"
    for at in range(0, 400, 7):
        mutant = whole.copy()
        mutant[at] ^= 0x5A
        path.write_bytes(mutant[: len(whole) - 11 * at])
        try:
            check_onnx(path)
        except InputError:
            continue


def test_openvino_files(exported, tmp_path):
    path = tmp_path / "net.xml"
    shutil.copy(exported / "net.xml", path)
    with pytest.raises(InputError, match="without its weights"):
        load(path)
    (tmp_path / "net.bin").write_bytes((exported / "net.bin").read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot read"):
        load(path)
    shutil.copy(exported / "net.bin", tmp_path / "net.bin")
    assert load(path).net.elimination == "mce"
    text = path.read_text()
    for old, new, words in (
        ("duotrack", "elsewhere", "no export of duotrack"),
        ("&quot;format&quot;:1", "&quot;format&quot;:7", "stale export"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=words):
            load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no element found"),
        ("this is no network at all", "syntax error"),
        ("<net", "unclosed token"),
        ("<net><rt_info>", "no element found"),
        ('<!DOCTYPE net [<!ENTITY a "b">]><net name="&a;"/>', "document type"),
        ("<net/>", "no export of duotrack"),
        ("<a><net><rt_info><duotrack><facts value='{}'/></duotrack></rt_info></net></a>", "no export of duotrack"),
        ("<net><rt_info><duotrack><facts/></duotrack></rt_info></net>", "no export of duotrack"),
        ("<net><rt_info><duotrack><facts value='{}'/></duotrack></rt_info></net>", "damaged metadata"),
    ],
)
def test_what_is_no_openvino_file_is_one_line_and_no_library_sees_it(tmp_path, capfd, monkeypatch, text, words):
    from openvino.frontend import FrontEndManager

    monkeypatch.setattr(FrontEndManager, "load_by_framework", None)
    path = tmp_path / "net.xml"
    path.write_text(text)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(InputError, match=words) as refusal:
        load(path)
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_only_the_reader_of_openvino_files_is_asked(exported, tmp_path, capfd):
    """OpenVINO would try all that it has, and each of them prints what it thinks of the file."""
    path = tmp_path / "net.xml"
    text = (exported / "net.xml").read_text()
    path.with_suffix(".bin").write_bytes(b"")
    for broken, words in ((text, "Incorrect weights"), (text.replace('type="MatMul"', 'type="Matmuul"'), "Matmuul")):
        path.write_text(broken)
        with pytest.raises(InputError, match=f"OpenVINO cannot read .*{words}") as refusal:
            load(path)
        assert "\n" not in str(refusal.value)
        shutil.copy(exported / "net.bin", tmp_path / "net.bin")
    assert capfd.readouterr() == ("", "")


def test_deep_metadata():
    with pytest.raises(InputError, match="damaged"):
        read_facts("[" * 90_000, "file")
    with pytest.raises(InputError, match="damaged"):
        read_facts('{"format": 1, "x": "' + "a" * 200_000 + '"}', "file")


def test_a_size_that_the_graph_leaves_open_but_cannot_take(exported, tmp_path):
    for name in ("net.xml", "net.bin"):
        shutil.copy(exported / name, tmp_path / name)
    path = tmp_path / "net.xml"
    text = path.read_text()
    assert "&quot;search_size&quot;:64" in text
    path.write_text(text.replace("&quot;search_size&quot;:64", "&quot;search_size&quot;:96"))
    numbers = path.with_suffix(".bin")
    os.truncate(numbers, numbers.stat().st_size - 80)
    seal(path)  # whoever writes such a file can do that as well
    frames = np.zeros((2, 80, 80, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"net\.xml holds another graph than its metadata say"):
        load(path).init(*frames, (20, 20, 30, 30))


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin"])
def test_a_kept_graph_that_was_damaged_is_made_anew(exported, tmp_path, monkeypatch, caplog, name):
    made = []

    def make(recipe, file):
        made.append(file)
        shutil.copy(exported / "net.xml", file)
        shutil.copy(exported / "net.bin", file.with_suffix(".bin"))

    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path))
    monkeypatch.setattr(graph_cache, "_build_apart", make)
    weights = tmp_path / "weights"
    weights.write_bytes(b"any")
    options = {"backend": "openvino", "precision": "fp32", "device": torch.device("cpu"), "elimination": None}
    for damage in (False, True, False):
        if damage:
            (file,) = tmp_path.glob(f"graphs/*/{name}")
            file.write_bytes(file.read_bytes()[:500])
        assert open_network("small", weights=weights, **options).elimination == "mce"
    assert len(made) == 2
    assert sum("damaged and made anew" in each.message for each in caplog.records) == 1
