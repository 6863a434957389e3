"""Sensors that drop out: what the network is shown under each policy, what results say, and how tracking recovers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import duotrack
from duotrack.datasets.layouts import open_lasher
from duotrack.errors import InputError
from duotrack.evaluation.lockstep import Tracked, track_sequences
from duotrack.tracking.batch import MultiTracker, update_together
from duotrack.tracking.crop import crop_square
from duotrack.tracking.missing import POLICIES, missing_policy
from duotrack.tracking.preprocess import to_tensor
from duotrack.tracking.state import StateRule
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY, ScriptedNet
from sequences import write_sequence

BOX = (60.0, 40.0, 20.0, 20.0)
FILLING = ("zeros", "copy", "hold-frame")
SIDES = ("rgb", "aux")
MOVE = (2, 3, 0.0, 0.0)  # one cell, 20 px, to the right


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3)).astype(np.uint8)


def crop(image: np.ndarray, box=BOX) -> Tensor:
    return to_tensor(crop_square(image, box, GEOMETRY.search_factor, GEOMETRY.search_size).image)


def tracker(policy: str, net: ScriptedNet | None = None, **options: object) -> Tracker:
    return Tracker(net or ScriptedNet(), geometry=GEOMETRY, missing=missing_policy(policy), **options)  # type: ignore[arg-type]


def pair(side: str, here: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """A frame whose `side` is missing."""
    return (None, here) if side == "rgb" else (here, None)


@pytest.mark.parametrize("gone", SIDES)
@pytest.mark.parametrize("policy", FILLING)
def test_what_the_network_is_shown(policy, gone):
    net = ScriptedNet(answers=[MOVE])
    t = tracker(policy, net)
    first = frame(0), frame(1)
    seen = frame(2), frame(3)
    t.init(*first, BOX)
    before = t.update(*seen).box  # 20 px further right
    here = frame(4)
    result = t.update(*pair(gone, here))
    side = SIDES.index(gone)
    call = net.calls[-1]
    assert call["available"] == SIDES
    expected = {"zeros": np.zeros_like(here), "copy": here, "hold-frame": seen[side]}[policy]
    torch.testing.assert_close(call["search"][side], crop(expected, before))  # where the target is looked for now
    torch.testing.assert_close(call["search"][1 - side], crop(here, before))
    assert result.available == (SIDES[1 - side],)  # what the frame had, not what the network was shown
    for given, image in zip(call["template"], first, strict=True):  # real ones, both
        torch.testing.assert_close(given, to_tensor(crop_square(image, BOX, 2, 32).image))
    t.update(*seen)
    torch.testing.assert_close(net.calls[-1]["search"][side], crop(seen[side], before))  # it is back: nothing lingers


def test_the_held_frame_is_the_last_one_and_a_copy():
    net = ScriptedNet()
    t = tracker("hold-frame", net)
    buffer = frame(1)
    t.init(frame(0), buffer, BOX)
    last = frame(2)
    buffer[:] = last
    t.update(frame(3), buffer)
    buffer[:] = 0  # the caller decodes the next frame into the same array
    for seed in (4, 5):
        t.update(frame(seed), None)
        torch.testing.assert_close(net.calls[-1]["search"][1], crop(last))


@pytest.mark.parametrize("gone", SIDES)
def test_hold_box_waits_for_both(gone):
    net = ScriptedNet(answers=[MOVE])
    t = tracker("hold-box", net, rule=StateRule(lost_after=3, recover_after=2))
    t.init(frame(0), frame(1), BOX)
    moved = t.update(frame(2), frame(3)).box
    blind = [t.update(*pair(gone, frame(4))) for _ in range(4)]
    assert len(net.calls) == 1
    assert [r.state for r in blind] == ["uncertain", "uncertain", "lost", "lost"]
    for result in blind:
        assert (result.score, result.available) == (0.0, tuple(s for s in SIDES if s != gone))
        np.testing.assert_array_equal(result.box, moved)
    assert [t.update(frame(5), frame(6)).state for _ in range(2)] == ["lost", "tracking"]


@pytest.mark.parametrize("absent", SIDES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_sensor_that_never_was_there_has_not_dropped_out(policy, absent):
    net = ScriptedNet()
    t = tracker(policy, net)
    t.init(*pair(absent, frame(0)), BOX)
    result = t.update(*pair(absent, frame(1)))
    side = SIDES.index(absent)
    assert net.calls[0]["search"][side] is None
    assert net.calls[0]["available"] == result.available == (SIDES[1 - side],)
    t.update(frame(2), frame(3))  # it comes: from here on it can drop out
    result = t.update(*pair(absent, frame(4)))
    assert result.available == (SIDES[1 - side],)
    if policy == "hold-box":
        assert len(net.calls) == 2
    elif policy == "hold-frame":
        torch.testing.assert_close(net.calls[-1]["search"][side], crop(frame(2 + side)))
    else:
        assert (net.calls[-1]["search"][side] is None) == (policy == "model")


BACK = [(policy, back) for policy in POLICIES for back in (("rgb",), ("aux",), SIDES)]


@pytest.mark.parametrize(("policy", "back"), [(p, b) for p, b in BACK if p != "hold-box" or b == SIDES])
def test_both_missing_hold_the_box_and_either_sensor_brings_it_back(policy, back):
    net = ScriptedNet(answers=[MOVE])
    t = tracker(policy, net, rule=StateRule(lost_after=3, recover_after=2))
    t.init(frame(0), frame(1), BOX)
    moved = t.update(frame(2), frame(3)).box
    blind = [t.update(None, None) for _ in range(5)]
    assert [r.state for r in blind] == ["uncertain", "uncertain", "lost", "lost", "lost"]
    for result in blind:
        assert (result.score, result.available) == (0.0, ())
        np.testing.assert_array_equal(result.box, moved)
    assert len(net.calls) == 1
    net.answers += [MOVE]
    rgb, aux = (frame(4 + i) if side in back else None for i, side in enumerate(SIDES))
    seen = [t.update(rgb, aux) for _ in range(2)]
    assert [r.state for r in seen] == ["lost", "tracking"]
    assert all(r.available == back for r in seen)
    np.testing.assert_allclose(seen[0].box - moved, [20, 0, 0, 0])  # it follows again from the box that was held


def test_a_short_blindness_is_uncertain_not_lost():
    t = tracker("model", ScriptedNet(), rule=StateRule(lost_after=10, recover_after=3))
    t.init(frame(0), frame(1), BOX)
    assert {t.update(None, None).state for _ in range(9)} == {"uncertain"}
    assert [t.update(frame(2), None).state for _ in range(3)] == ["uncertain", "uncertain", "tracking"]


@pytest.mark.parametrize("policy", POLICIES)
def test_init_forgets_what_was_seen_before(policy):
    net = ScriptedNet()
    t = tracker(policy, net)
    t.init(frame(0), frame(1), BOX)
    t.init(frame(2), None, BOX)
    t.update(frame(3), None)
    assert net.calls[0]["search"][1] is None


@pytest.mark.parametrize("back", SIDES)
def test_evaluation_holds_and_recovers(back, tmp_path):
    """Real files under a mask: frames 3 to 7 have nothing, frames 8 to 10 one modality."""
    write_sequence(tmp_path, "blind", frames=11)
    mask = np.ones((11, 2), bool)
    mask[3:8] = False
    mask[8:, 1 - SIDES.index(back)] = False
    (sequence,) = (replace(each, mask=mask) for each in open_lasher(tmp_path))
    net = ScriptedNet(answers=[MOVE, MOVE, MOVE, MOVE, (2, 1, 0.0, 0.0)])
    clones: list[Tracker] = []

    class Kept(Tracker):
        def clone(self) -> Tracker:
            clones.append(super().clone())
            return clones[-1]

    prototype = Kept(net, geometry=GEOMETRY, rule=StateRule(lost_after=3, recover_after=4))
    (tracked,) = (event for event in track_sequences(prototype, [sequence]) if isinstance(event, Tracked))
    centres = tracked.boxes[:, 0] + tracked.boxes[:, 2] / 2
    np.testing.assert_allclose(centres, [28, 42, 56, 56, 56, 56, 56, 56, 70, 84, 70])  # a cell is 14 px
    np.testing.assert_allclose(tracked.scores, [1, 0.9, 0.9, 0, 0, 0, 0, 0, 0.9, 0.9, 0.9], atol=1e-6)
    assert [call["available"] for call in net.calls] == [SIDES] * 2 + [(back,)] * 3
    image = sequence.read(0).rgb
    assert clones[0].update(image, image).state == "tracking"  # three good frames before it: lost until now


@pytest.mark.parametrize("policy", POLICIES)
def test_several_objects_and_lockstep_follow_the_same_policy(policy):
    alone = tracker(policy)
    alone.init(frame(0), frame(1), BOX)
    expected = alone.update(None, frame(2))
    many = MultiTracker(tracker(policy))
    many.init(frame(0), frame(1), [BOX])
    (among,) = many.update(None, frame(2))
    beside = tracker(policy)
    beside.init(frame(0), frame(1), BOX)
    (together,) = update_together([beside], [(None, frame(2))], stack=1)
    for result in (among, together):
        np.testing.assert_array_equal(result.box, expected.box)
        assert (result.score, result.available) == (expected.score, expected.available)


def test_the_true_network_under_every_policy():
    images = [frame(seed) for seed in range(4)]
    boxes = {}
    for policy in POLICIES:
        t = duotrack.load_tracker("ckd-tiny", device="cpu", missing=policy, redetect=False)
        assert t.missing == policy
        t.init(images[0], images[1], BOX)
        t.update(images[2], images[3])
        result = t.update(images[3], None)
        assert np.isfinite(result.box).all()
        assert result.available == ("rgb",)
        boxes[policy] = result.box
    assert len({box.tobytes() for box in boxes.values()}) >= 4  # each does something else


def test_an_unknown_policy_is_refused():
    with pytest.raises(InputError, match="did you mean 'hold-frame'"):
        duotrack.load_tracker("ckd-tiny", missing="hold-frames")
    with pytest.raises(InputError, match="known: copy, hold-box, hold-frame, model, zeros"):
        missing_policy("xyz")
