"""Trackers that are handed depth or event frames, and which model is for which."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import duotrack
from duotrack.depth import colour_depth
from duotrack.errors import InputError
from duotrack.frames import KINDS
from duotrack.models.zoo import MODELS, model_spec
from duotrack.tracking.batch import MultiTracker
from duotrack.tracking.crop import crop_square
from duotrack.tracking.images import FrameCheck
from duotrack.tracking.preprocess import to_tensor
from duotrack.tracking.tracker import Tracker
from duotrack.weights.safetensor import save_weights
from duotrack.weights.task import settle_kind, stated_kind
from kinds import depth_map, event_picture
from scripted import GEOMETRY, ScriptedNet
from sequences import box, scene

RGB = scene(0, "visible")


@pytest.mark.parametrize("colours", ["bgr", "rgb"])
def test_depth_in_millimetres_is_rendered(colours):
    net = ScriptedNet()
    tracker = Tracker(net, geometry=GEOMETRY, kind="depth", depth_colours=colours)
    several = MultiTracker(tracker)
    several.init(RGB, depth_map(0), [box(0)])
    several.update(RGB, depth_map(1)[:, :, None])
    expected = to_tensor(crop_square(colour_depth(depth_map(0), colours=colours), np.array(box(0)), 2, 32).image)
    torch.testing.assert_close(net.calls[0]["template"][1], expected)


def test_what_is_rendered_already_is_left_alone():
    picture = colour_depth(depth_map(0), colours="rgb")
    _, aux = FrameCheck("depth")(None, picture)
    np.testing.assert_array_equal(aux, picture)


def test_depth_of_all_zeros_is_a_missing_image(caplog):
    check = FrameCheck("depth")
    empty = np.zeros_like(depth_map(0))
    assert check(RGB, empty)[1] is None
    assert check(RGB, empty)[1] is None
    assert [message for message in caplog.messages if "all zero" in message] == [
        "aux has an empty frame: nothing was measured (all zero), the frame counts as missing"
    ]
    tracker = Tracker(ScriptedNet(), geometry=GEOMETRY, kind="depth")
    with pytest.raises(InputError, match="both images are missing"):
        tracker.init(None, empty, box(0))
    tracker.init(RGB, empty, box(0))
    assert tracker.update(RGB, depth_map(1)).available == ("rgb", "aux")
    assert tracker.update(RGB, empty).available == ("rgb",)


BAD = [
    ("depth", depth_map(0).astype(np.float32) / 1000, "aux: pixels are float32, depth comes as 16-bit"),
    ("depth", (depth_map(0) >> 8).astype(np.uint8), "aux: pixels have 8 bits, depth comes as 16-bit"),
    ("depth", "d.png", "aux is a str"),
    ("event", depth_map(0), "aux has 16 bits: event frames are pictures of 8 bits"),
]


@pytest.mark.parametrize(("kind", "image", "words"), BAD)
def test_other_pixels_are_refused(kind, image, words):
    with pytest.raises(InputError, match=words):
        FrameCheck(kind)(RGB, image)


def test_visible_depth_is_nothing_special():
    """16 bits of rgb and of thermal aux stay what they were: percentiles."""
    rgb, aux = FrameCheck("thermal")(depth_map(0), depth_map(0))
    np.testing.assert_array_equal(rgb, aux)
    assert not np.array_equal(aux, colour_depth(depth_map(0)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str | None, Path]:
    """Weights of ckd-tiny that say what they were trained on, and some that do not."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    net = MODELS["ckd-tiny"].build()
    made: dict[str | None, Path] = {}
    for task in (None, "thermal", "depth", "event", "sonar"):
        made[task] = folder / f"{task}.safetensors"
        extra = {} if task is None else {"task": task}
        save_weights(made[task], net, model="ckd-tiny", elimination="none", dtype="fp16", extra=extra)
    made["rgb"] = folder / "rgb.safetensors"
    extra = {"task": "depth", "depth_colours": "rgb"}
    save_weights(made["rgb"], net, model="ckd-tiny", elimination="none", dtype="fp16", extra=extra)
    return made


def test_weights_say_what_they_are_for(weights):
    assert [stated_kind(weights[task]) for task in (None, "thermal", "depth")] == [None, "thermal", "depth"]
    with pytest.raises(InputError, match="the task 'sonar': modality 'sonar' is not one of thermal, depth, event"):
        stated_kind(weights["sonar"])


def test_no_safetensors_say_nothing(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"net": {"a": torch.zeros(1)}}, path)
    assert stated_kind(path) is None
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{ damaged")
    assert stated_kind(path) is None


@pytest.mark.parametrize("task", ["thermal", "depth", "event"])
@pytest.mark.parametrize("wanted", ["thermal", "depth", "event"])
@pytest.mark.parametrize("kinds", [("thermal",), ("thermal", "depth", "event")], ids=["thermal model", "one a kind"])
def test_a_mismatch_is_refused_but_for_thermal_models(weights, task, wanted, kinds, caplog):
    spec = replace(model_spec("ckd-tiny"), kinds=kinds)
    if task == wanted or (task == "thermal" and kinds == ("thermal",)):
        assert settle_kind(spec, weights[task], wanted) == wanted
        assert len(caplog.messages) == (task != wanted)
        return
    with pytest.raises(InputError, match=rf"was trained on RGB and {task}, the auxiliary frames are {wanted}; give"):
        settle_kind(spec, weights[task], wanted)


def test_weights_that_say_nothing_of_a_model_for_each_kind(weights, caplog):
    spec = replace(model_spec("ckd-tiny"), kinds=("thermal", "depth", "event"))
    assert [settle_kind(spec, weights[None], kind) for kind in KINDS] == list(KINDS)
    assert caplog.messages == []


def test_depth_is_rendered_as_in_training(weights):
    """Weights that were trained on the map turned to RGB."""
    load = partial(duotrack.load_tracker, "ckd-tiny", weights=weights["rgb"], device="cpu")
    assert load(depth_colours="rgb").kind == "depth"
    with pytest.raises(
        InputError, match="trained on depth with depth_colours 'rgb', not 'bgr'; say --depth-colours rgb"
    ):
        load()


def test_what_nobody_asks_for_comes_from_the_weights(weights):
    assert duotrack.load_tracker("ckd-tiny", weights=weights["depth"], device="cpu").kind == "depth"
    assert settle_kind(model_spec("ckd-tiny"), weights[None], None) == "thermal"


@pytest.mark.parametrize("wanted", ["depth", "event"])
def test_a_thermal_model_with_other_frames_is_warned_of(weights, wanted, caplog):
    caplog.set_level(logging.WARNING)
    assert settle_kind(model_spec("ckd-tiny"), weights[None], wanted) == wanted
    assert caplog.messages == [
        f"ckd-tiny has seen RGB and thermal only: how well it tracks with {wanted} was not measured"
    ]
    caplog.clear()
    assert settle_kind(model_spec("ckd-tiny"), weights[None], "thermal") == "thermal"
    assert settle_kind(model_spec("ckd-tiny"), None, "thermal") == "thermal"
    assert caplog.messages == []


def test_event_pictures_reach_the_network_unchanged():
    np.testing.assert_array_equal(FrameCheck("event")(None, event_picture(0))[1], event_picture(0))
