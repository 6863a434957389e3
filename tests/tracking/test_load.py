"""From a name to a tracker, with the true networks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import duotrack
from duotrack.errors import InputError
from duotrack.models.zoo import MODELS
from duotrack.tracking.batch import MultiTracker
from duotrack.tracking.state import StateRule

BOX = (40.0, 30.0, 24.0, 16.0)


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 128, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def tiny():
    return duotrack.load_tracker("ckd-tiny", device="cpu")


AVAILABLE = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize("at_init", AVAILABLE[:3])
@pytest.mark.parametrize("later", AVAILABLE)
def test_no_missing_modality_stops_the_network(tiny, at_init, later):
    tracker = tiny.clone()
    tracker.init(*(frame(i) if there else None for i, there in enumerate(at_init)), BOX)
    result = tracker.update(*(frame(i + 2) if there else None for i, there in enumerate(later)))
    assert np.isfinite(result.box).all()
    assert 0 <= result.score <= 1
    assert result.available == tuple(name for name, there in zip(("rgb", "aux"), later, strict=True) if there)


def test_runs_are_repeatable(tiny):
    def run():
        tracker = tiny.clone()
        tracker.init(frame(0), frame(1), BOX)
        return [tracker.update(frame(i), frame(i + 1)).box for i in range(2, 5)]

    np.testing.assert_array_equal(run(), run())


def test_several_objects_share_the_network(tiny):
    many = MultiTracker(tiny)
    many.init(frame(0), frame(1), [BOX, (80, 50, 30, 30)])
    assert len(many.update(frame(2), frame(3))) == 2
    assert {id(tracker.net) for tracker in many._trackers} == {id(tiny.net)}


def test_settings_arrive():
    tracker = duotrack.load_tracker(
        "ckd-tiny",
        device="cpu",
        precision="bf16",
        elimination="mce",
        uncertain_below=0.3,
        lost_after=5,
        lost_below=None,
    )
    assert tracker.rule == StateRule(uncertain_below=0.3, lost_below=0.3, lost_after=5)  # below: the model's own
    assert tracker.geometry == MODELS["ckd-tiny"].geometry
    assert tracker.net.net.elimination == "mce"
    tracker.init(frame(0), frame(1), BOX)
    result = tracker.update(frame(2), frame(3))
    assert result.box.dtype == np.float64
    assert np.isfinite(result.box).all()


def test_numbers_may_be_those_of_numpy():
    tracker = duotrack.load_tracker("ckd-tiny", device="cpu", lost_after=np.int64(7), uncertain_below=np.float32(0.5))
    assert tracker.rule.lost_after == 7
    assert duotrack.load_tracker("ckd-tiny", device="cpu", redetect=np.False_).redetect is None


def test_a_device_may_be_that_of_torch():
    assert duotrack.load_tracker("ckd-tiny", device=torch.device("cpu")).device == torch.device("cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "ckd-tinny"}, "ckd-tiny"),
        ({"backend": "onnx"}, "onnxruntime"),
        ({"precision": "fp16", "device": "cpu"}, "bf16"),
        ({"backend": "compiled", "precision": "int8"}, "precision"),
        ({"device": "tpu"}, "device"),
        ({"elimination": "max"}, "elimination"),
        ({"weights": "/nowhere/at/all.safetensors"}, "/nowhere/at/all.safetensors"),
        ({"uncertain_bellow": 0.3}, "uncertain_below"),
        ({"uncertain_below": 0.1}, "lost_below"),
        ({"name": None}, "name is None: give the name of a model"),
        ({"weights": 5}, "weights is 5: give a path"),
        ({"device": 0}, "device is 0: give 'auto'"),
        ({"precision": 16}, "precision is 16: give 'fp32'"),
        ({"backend": True}, "backend is True: give 'torch'"),
        ({"missing": None}, "missing is None: give the name of a policy"),
        ({"modality": "thermla"}, "no modality is called 'thermla'; did you mean 'thermal'"),
        ({"depth_colours": 1}, "depth_colours is 1: give 'bgr'"),
        ({"prepare_for": 3}, "prepare_for is 3: give"),
        ({"templates": "fixed"}, "templates is 'fixed': give a TemplateRule"),
        ({"redetect": "yes"}, "redetect is 'yes': give True"),
        ({"lost_after": "3"}, "lost_after is '3': give a number"),
        ({"lost_after": True}, "lost_after is True: give a number"),
        ({"precison": "bf16"}, "takes no 'precison'; did you mean 'precision'"),
    ],
)
def test_what_cannot_be_loaded_is_refused(options, words):
    with pytest.raises((InputError, OSError), match=words):
        duotrack.load_tracker(**{"name": "ckd-tiny"} | options)


MEMORY = """
import numpy as np, duotrack, pathlib
frames = np.random.default_rng(0).integers(0, 256, (4, 480, 640, 3)).astype(np.uint8)
tracker = duotrack.load_tracker("ckd-base", device="cpu")
tracker.init(frames[0], frames[1], (300, 200, 60, 80))
print(tracker.update(frames[2], frames[3]).state)
print(next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the highest resident size is read from /proc")
def test_the_published_size_tracks_in_one_and_a_half_gigabytes():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=300, check=True)
    state, high = done.stdout.splitlines()
    assert state in ("tracking", "uncertain")
    assert int(high.split()[1]) * 1024 < 1.5e9


@pytest.mark.parametrize("backend", ["compiled", "onnxruntime", "openvino"])
def test_a_model_with_two_templates_runs_in_torch_only(backend: str) -> None:
    with pytest.raises(InputError, match=r"tpf-tiny takes two templates, which backend .* does not hand over"):
        duotrack.load_tracker("tpf-tiny", backend=backend)
