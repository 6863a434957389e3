"""Every method in every format, as exported and as tracking makes graphs by itself."""

import pytest
import torch

import duotrack
from duotrack.errors import InputError
from duotrack.runtime import graph_cache
from duotrack.runtime.export import export_model
from duotrack.runtime.graph_facts import Wanted
from duotrack.runtime.native import compiler
from small_net import AUX, BOTH, BOX, NONE, RGB, frame, same, track

SIDES = ("rgb", "aux")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("name", ["ipl", "patrack"])
def test_exports_track_as_their_networks_do(zoo, tmp_path, name, suffix):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    done = export_model(name, tmp_path / f"net{suffix}", batch=0)
    assert max(value for each in done.differences.values() for value in each.values()) < 1e-4
    assert "openvino" in done.trusted
    expected = track(duotrack.load_tracker(name, device="cpu"), [BOTH] * 3)
    for backend in done.trusted:
        tracker = duotrack.load_tracker(name, weights=done.path, backend=backend)
        same(track(tracker, [BOTH] * 3), expected)
        with pytest.raises(InputError, match=r"cannot answer a frame without aux.*missing: copy"):
            track(tracker, [BOTH, RGB])
        copying = duotrack.load_tracker(name, weights=done.path, backend=backend, missing="copy")
        same(
            track(copying, [BOTH, RGB, AUX, BOTH]),
            track(duotrack.load_tracker(name, missing="copy"), [BOTH, RGB, AUX, BOTH]),
        )


@pytest.mark.parametrize(("name", "suffix", "here"), [("ipl", ".onnx", "rgb"), ("patrack", ".xml", "aux")])
def test_a_template_that_is_not_looked_at_stays_an_input(zoo, tmp_path, name, suffix, here):
    """A camera that was there in the first frame and is not now."""
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    done = export_model(name, tmp_path / f"net{suffix}", batch=1, wanted=Wanted(SIDES, (here,)))
    assert max(value for each in done.differences.values() for value in each.values()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), [("small", "openvino"), ("ipl", "openvino"), ("patrack", "onnxruntime")])
def test_tracking_makes_its_graphs_while_sensors_come_and_go(zoo, tmp_path, monkeypatch, name, backend):
    pytest.importorskip(backend)
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path))
    made = []

    def build(recipe, file):
        made.append((recipe.template, recipe.search))
        graph_cache.build(recipe, file)

    monkeypatch.setattr(graph_cache, "_build_apart", build)
    there = [BOTH, BOTH, RGB, NONE, AUX, BOTH]
    expected = track(duotrack.load_tracker(name, device="cpu"), there)
    tracker = duotrack.load_tracker(name, backend=backend, device="cpu")
    same(track(tracker, there), expected)
    wanted = [(SIDES, SIDES), (SIDES, ("rgb",)), (SIDES, ("aux",))]
    assert made == (wanted[:1] if name == "small" else wanted)
    alone = duotrack.load_tracker(name, backend=backend, device="cpu", prepare_for=("aux",))
    assert made[-1] == (("aux",), ("aux",))
    same(track(alone, [AUX] * 3), track(duotrack.load_tracker(name, device="cpu"), [AUX] * 3))


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ipl", "patrack"])
def test_compiled_answers_as_torch_does(zoo, name):
    there = [BOTH, BOTH, RGB]
    ours = duotrack.load_tracker(name, backend="compiled", device="cpu")
    same(track(ours, there), track(duotrack.load_tracker(name, device="cpu"), there))


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ipl", "patrack"])
def test_compiled_is_no_further_off_in_bf16_than_torch(zoo, name):
    """One look each: rounding apart, boxes of a loop end where the loop takes them, not where the arithmetic does."""

    def looked(backend: str, precision: str) -> list[torch.Tensor]:
        tracker = duotrack.load_tracker(name, backend=backend, precision=precision, device="cpu")
        tracker.init(frame(0), frame(1), BOX)
        maps = tracker.maps(tracker.ask(frame(2), frame(3)))
        return [each.float() for each in (maps.score_map, maps.size_map, maps.offset_map)]

    exact, eager, ours = (looked(*each) for each in (("torch", "fp32"), ("torch", "bf16"), ("compiled", "bf16")))
    for true, rounded, other in zip(exact, eager, ours, strict=True):
        # root mean squares: the largest of so few numbers is one rounding more or less
        allowed, found = (float((each - true).square().mean().sqrt()) for each in (rounded, other))
        assert 0 < found <= 2 * allowed
