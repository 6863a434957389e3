"""Exported graphs against their networks, in every format, and through the tracker."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import duotrack
from duotrack.errors import InputError
from duotrack.frames import FramePair
from duotrack.runtime.export import export_model
from duotrack.runtime.graph_facts import Wanted
from duotrack.tracking.calibration import calibration_views
from duotrack.tracking.tracker import Tracker
from small_net import AUX, BOTH, GEOMETRY, NONE, RGB, frame, same, small_ckd, track

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_file_tracks_as_its_network_does(zoo, tmp_path, suffix, batch):
    done = export_model("small", tmp_path / f"small{suffix}", batch=batch)
    assert max(value for each in done.differences.values() for value in each.values()) < 1e-4
    assert "openvino" in done.trusted
    there = [BOTH, BOTH, RGB, NONE, AUX, BOTH]
    expected = track(duotrack.load_tracker("small", device="cpu"), there)
    for backend in done.trusted:
        tracker = duotrack.load_tracker("small", weights=done.path, backend=backend)
        assert (tracker.geometry, tracker.calibration) == (GEOMETRY, (1.5, 0.25))
        assert tracker.net.elimination == "mce"
        same(track(tracker, there), expected)
        assert len(tracker.net.sessions) == 1
        # a target first seen by one camera alone, and the other one later
        same(track(tracker.clone(), [AUX, AUX, BOTH]), track(duotrack.load_tracker("small"), [AUX, AUX, BOTH]))


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="the system does not say which cores a process may use"
)
def test_openvino_leaves_its_caller_all_cores(zoo, tmp_path):
    """Pinned to the first core, the processes of an evaluation would share that one."""
    done = export_model("small", tmp_path / "net.xml", wanted=Wanted(("rgb",), ("rgb",)))
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    try:
        torch.set_num_threads(1)
        track(duotrack.load_tracker("small", weights=done.path, backend="openvino"), [RGB] * 3)
        assert os.sched_getaffinity(0) == cores
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("fails", ["comparing", "renaming"])
def test_an_export_that_fails_leaves_both_files_of_the_old_one(zoo, tmp_path, monkeypatch, fails):
    from duotrack.runtime import export

    one = Wanted(("rgb",), ("rgb",))
    export_model("small", tmp_path / "net.xml", wanted=one)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"net.xml", "net.bin"}
    monkeypatch.setattr(export, "build_net", lambda *args, **options: small_ckd(shared=True))
    rename = Path.replace

    def refuse(*given):
        if fails == "renaming" and Path(given[1]).name != "net.xml":
            return rename(*given)
        raise InputError("no")

    if fails == "renaming":
        monkeypatch.setattr(Path, "replace", refuse)
    else:
        monkeypatch.setattr(export, "check", refuse)
    with pytest.raises(InputError, match="no"):
        export_model("small", tmp_path / "net.xml", wanted=one)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["rgb", "aux"])
def test_a_file_for_one_modality(zoo, tmp_path, name):
    done = export_model("small", tmp_path / "one.xml", wanted=Wanted((name,), (name,)))
    there = [RGB if name == "rgb" else AUX] * 3
    tracker = duotrack.load_tracker("small", weights=done.path)
    same(track(tracker, there), track(duotrack.load_tracker("small"), there))
    with pytest.raises(InputError, match=f"looks at {name}.*--modalities both"):
        track(tracker, [there[0], BOTH])


def test_a_shared_backbone_serves_either_modality(zoo, tmp_path, monkeypatch):
    from duotrack.runtime import export

    monkeypatch.setattr(export, "build_net", lambda *args, **options: small_ckd(shared=True))
    done = export_model("small", tmp_path / "one.xml", wanted=Wanted(("rgb",), ("rgb",)))
    assert done.facts.either
    net = small_ckd(shared=True)
    for there in ([RGB] * 3, [AUX] * 3, [AUX, RGB, AUX]):
        tracker = duotrack.load_tracker("small", weights=done.path)
        same(track(tracker, there), track(Tracker(net, geometry=GEOMETRY, calibration=(1.5, 0.25)), there))
    with pytest.raises(InputError, match="either modality alone"):
        track(duotrack.load_tracker("small", weights=done.path), [RGB, BOTH])


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_network_without_a_form_of_its_own(zoo, tmp_path, suffix):
    done = export_model("plain", tmp_path / f"plain{suffix}", batch=0)
    assert not done.facts.keeps
    assert not done.facts.masked
    expected = track(duotrack.load_tracker("plain"), [BOTH] * 4)
    for backend in done.trusted:
        tracker = duotrack.load_tracker("plain", weights=done.path, backend=backend)
        same(track(tracker, [BOTH] * 4), expected)
        with pytest.raises(InputError, match="cannot answer a frame without aux"):
            track(tracker, [BOTH, RGB])


@pytest.mark.parametrize("name", ["small", "plain"])
@pytest.mark.parametrize(("suffix", "precision"), [(".onnx", "fp16"), (".xml", "bf16")])
def test_half_precision(zoo, tmp_path, name, suffix, precision):
    whole = export_model(name, tmp_path / f"whole{suffix}")
    done = export_model(name, tmp_path / f"half{suffix}", precision=precision)
    assert done.size < whole.size
    found = next(iter(done.differences.values()))
    assert 1e-5 < max(found.values()) < 0.1
    results = track(duotrack.load_tracker(name, weights=done.path), [BOTH, BOTH])
    np.testing.assert_allclose(results[0].box, track(duotrack.load_tracker(name), [BOTH, BOTH])[0].box, atol=2)


def test_what_cannot_be_exported_is_refused(zoo, tmp_path):
    out = tmp_path / "net.onnx"
    for options, words in (
        ({"precision": "bf16"}, "onnx has no precision bf16"),
        ({"format": "openvino"}, "is called .xml"),
        ({"format": "tflite"}, "no format"),
        ({"precision": "int8"}, "--frames"),
        ({"samples": []}, "only int8"),
        ({"precision": "int4"}, "onnx has no precision int4"),
        ({"elimination": "best"}, "elimination"),
        ({"batch": -1}, "batch -1"),
    ):
        with pytest.raises(InputError, match=words):
            export_model("small", out, **options)
    with pytest.raises(InputError, match=r"\.onnx or \.xml"):
        export_model("small", tmp_path / "net.pt")
    with pytest.raises(InputError, match="at least 8 views"):
        export_model("small", out, precision="int8", samples=[])
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_kept(zoo, tmp_path, monkeypatch):
    from duotrack.runtime import export

    monkeypatch.setattr(export, "differences", lambda *args: dict.fromkeys(("score_map", "size_map"), float("nan")))
    for name in ("net.onnx", "net.xml"):
        with pytest.raises(InputError, match="differs too much from torch"):
            export_model("small", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_stack_of_targets_equals_one_by_one(zoo, tmp_path):
    from duotrack.tracking.batch import update_together

    done = export_model("small", tmp_path / "small.xml", batch=0)
    first = duotrack.load_tracker("small", weights=done.path)
    trackers = [first, *(first.clone() for _ in range(4))]
    alone = [first.clone() for _ in trackers]
    boxes = [(10.0 + 15 * i, 30.0, 24.0, 16.0 + i) for i in range(5)]
    for tracker, single, box in zip(trackers, alone, boxes, strict=True):
        tracker.init(frame(0), frame(1), box)
        single.init(frame(0), frame(1), box)
    for step in range(1, 4):
        there = [(frame(2 * step), None if i == step else frame(2 * step + 1)) for i in range(5)]
        same(
            update_together(trackers, there, stack=3),
            [single.update(*images) for single, images in zip(alone, there, strict=True)],
        )


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_eight_bits(zoo, tmp_path, suffix, caplog):
    pytest.importorskip("nncf")
    pairs = [FramePair(i, frame(2 * i), None if i % 3 == 1 else frame(2 * i + 1)) for i in range(5)]
    views = calibration_views(pairs, GEOMETRY, ("rgb", "aux"), count=12)
    assert [tuple(each.shape) for each in views[0]] == [(1, 3, 32, 32)] * 2 + [(1, 3, 64, 64)] * 2
    assert all(
        torch.equal(a, b)
        for a, b in zip(views[3], calibration_views(pairs, GEOMETRY, ("rgb", "aux"), count=12)[3], strict=True)
    )
    handler, before = logging.StreamHandler(), logging.getLoggerClass()  # pytest hangs its own on NNCF's logger as well
    logging.getLogger("nncf").addHandler(handler)
    done = export_model("small", tmp_path / f"eight{suffix}", precision="int8", samples=views)
    assert (handler.level, logging.getLoggerClass()) == (logging.NOTSET, before)
    logging.getLogger("nncf").removeHandler(handler)
    logging.getLogger("duotrack.runtime").warning("still heard")
    assert "still heard" in caplog.text
    found = next(iter(done.differences.values()))
    assert 1e-5 < max(found.values()) < 0.3
    tracker = duotrack.load_tracker("small", weights=done.path)
    assert all(np.isfinite(result.box).all() for result in track(tracker, [BOTH, BOTH, RGB]))
    with pytest.raises(InputError, match="exported in int8, not fp32"):
        duotrack.load_tracker("small", weights=done.path, precision="fp32")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_clones_may_be_in_threads_of_their_own(zoo, tmp_path, backend):
    suffix = {"onnxruntime": ".onnx", "openvino": ".xml"}[backend]
    tracker = duotrack.load_tracker("small", weights=export_model("small", tmp_path / f"small{suffix}").path)
    expected = track(tracker.clone(), [BOTH] * 12)
    with ThreadPoolExecutor(3) as pool:
        for found in list(pool.map(lambda _: track(tracker.clone(), [BOTH] * 12), range(3))):
            same(found, expected)
