"""The network's bias in the first frame, and what is taken off the boxes that are reported."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.models.zoo import MODELS
from duotrack.tracking.bias import NONE, measure, unbiased
from duotrack.tracking.redetect import Redetection
from duotrack.tracking.tracker import Tracker
from scripted import CENTRE, GEOMETRY, ScriptedNet

BOX = np.array([60.0, 40.0, 20.0, 20.0])
"""In a 4x4 grid over 80 px the network's own answer is this box where its size is (0.25, 0.25)."""
GIVEN = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(10, 100), st.floats(10, 100))
NEAR = st.tuples(*[st.floats(-0.1, 0.1)] * 4)


def frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3)).astype(np.uint8)


def tracker(net: ScriptedNet, share: float = 0.5) -> Tracker:
    return Tracker(net, geometry=replace(GEOMETRY, unbias=share))


@given(GIVEN, NEAR)
def test_all_of_the_bias_gives_back_the_given_box(box: tuple[float, ...], lean: tuple[float, ...]):
    owner = np.array(box)
    seen = np.concatenate([owner[:2] + np.array(lean[:2]) * owner[2:], owner[2:] * np.exp(lean[2:])])
    bias = measure(seen, owner)
    np.testing.assert_allclose(unbiased(seen, bias, 0), seen, atol=1e-9)
    # a shift is told in the given size, and taken off in the seen one's
    whole = unbiased(seen, bias, 1)
    np.testing.assert_allclose(whole[2:], owner[2:])
    missed = np.abs((whole[:2] + whole[2:] / 2) - (owner[:2] + owner[2:] / 2))
    assert (missed <= 0.03 * owner[2:]).all()


@given(GIVEN, NEAR, st.floats(0.2, 5), st.floats(-100, 100))
def test_a_bias_knows_neither_place_nor_scale(box, lean, scale: float, move: float):
    owner = np.array(box)
    seen = np.concatenate([owner[:2] + np.array(lean[:2]) * owner[2:], owner[2:] * np.exp(lean[2:])])
    shift = np.array([move, -move, 0, 0])
    one, other = measure(seen, owner), measure(seen * scale + shift, owner * scale + shift)
    np.testing.assert_allclose(one.shift, other.shift, atol=1e-9)
    np.testing.assert_allclose(one.size, other.size, atol=1e-9)


@pytest.mark.parametrize(
    "seen",
    [(0, 0, 20, 20), (60, 40, 60, 60), (float("nan"), 40, 20, 20)],
    ids=["elsewhere", "far larger", "no number"],
)
def test_something_else_teaches_nothing(seen: tuple[float, ...]):
    assert measure(np.array(seen), BOX) is NONE


def test_a_bias_is_bounded():
    bias = measure(np.array([60.0, 40.0, 36.0, 20.0]), BOX)
    assert bias.size.tolist() == [0.25, 0.0]
    assert bias.shift == pytest.approx([0.25, 0.0])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_it_is_taken_off(share: float):
    """The network sees everything a quarter wider than the box that was given."""
    net = ScriptedNet(size=(0.3125, 0.25))
    t = tracker(net, share)
    assert t.init(frame(), frame(1), BOX).box.tolist() == BOX.tolist()
    assert len(net.calls) == (1 if share else 0)  # published models never look at the first frame
    for i in (2, 3):
        result = t.update(frame(i), frame(i))
        ratio = 1.25 ** (1 - share)
        # around its own box of 25x20 the network then sees one of 0.3125 and 0.25 of that region's side
        side = 80 if i == 2 else np.ceil(np.sqrt(25 * 20) * 4)
        np.testing.assert_allclose(result.box[2:], [0.25 * side * ratio, 0.25 * side])
        np.testing.assert_allclose(result.box[:2] + result.box[2:] / 2, [70, 50])


def test_what_is_reported_is_not_fed_back():
    """Where the next frame is searched depends on the network's own boxes alone."""
    seen = []
    for share in (0.0, 1.0):
        net = ScriptedNet(size=(0.3, 0.3))
        t = tracker(net, share)
        t.init(frame(), frame(1), BOX)
        for i in range(2, 6):
            t.update(frame(i), frame(i))
        seen.append([call["search"][0] for call in net.calls[-4:]])
    assert all((a == b).all() for a, b in zip(*seen, strict=True))


def test_a_held_box_is_the_last_one_reported():
    net = ScriptedNet(answers=[(2, 3, 0.0, 0.0), CENTRE], size=(0.3, 0.25))
    t = tracker(net)
    t.init(frame(), frame(1), BOX)
    held = t.update(None, None)
    assert held.box.tolist() == BOX.tolist()  # as given
    found = t.update(frame(2), frame(3))
    assert t.update(None, None).box.tolist() == found.box.tolist() != BOX.tolist()


def low(t: Tracker, frames: int) -> list[np.ndarray]:
    """Boxes of frames in which the network is not sure."""
    return [t.update(frame(i), frame(i)).box for i in range(2, 2 + frames)]


def test_a_given_box_that_is_held_at_once_is_not_corrected():
    """Its owner's box has no bias, and a fraction of a pixel must not make it another."""
    given_box = np.array([60.3, 40.7, 20.1, 20.6])
    net = ScriptedNet(scores=[0.9, 0.05], size=(0.3, 0.25))
    t = Tracker(net, geometry=replace(GEOMETRY, unbias=0.5), redetect=Redetection())
    t.init(frame(), frame(1), given_box)
    assert low(t, 1)[0].tolist() == given_box.tolist()


def test_a_hunt_before_anything_was_reliable_holds_a_size_between_both():
    """The network sees 25 px where its owner said 20: neither the one nor the other, and never less than 20."""
    net = ScriptedNet(scores=[0.9, 0.6] + [0.05] * 40, size=(0.3125, 0.25))
    t = Tracker(net, geometry=replace(GEOMETRY, unbias=0.5), redetect=Redetection())
    t.init(frame(), frame(1), BOX)
    widths = [box[2] for box in low(t, 6)]
    assert widths[-1] == pytest.approx(np.sqrt(20 * 25))


@pytest.mark.parametrize(
    "start",
    [(-10, 40, 40, 40), (140, 90, 40, 40), (60, 40, 8, 8)],
    ids=["over the left edge", "over the corner", "smaller than boxes become"],
)
def test_clipping_teaches_nothing(start: tuple[float, ...]):
    """The network sees 30 px where 25 are right; what clipping does to the box is not its bias."""
    net = ScriptedNet(size=(0.3, 0.3))
    plain, ours = tracker(ScriptedNet(size=(0.3, 0.3)), 0.0), tracker(net)
    for each in (plain, ours):
        each.init(frame(), frame(1), start)
    np.testing.assert_allclose(low(ours, 3), low(plain, 3))


def test_a_shift_is_taken_off_too():
    """A network that sees every target 5 px to the right: 20 px a cell, the size 20 px."""
    net = ScriptedNet(answers=[(2, 2, 0.25, 0.0), (2, 2, 0.25, 0.0)])
    t = tracker(net, 1.0)
    t.init(frame(), frame(1), BOX)
    np.testing.assert_allclose(low(t, 1)[0], BOX)


def test_a_box_at_the_border_stays_there():
    """What is reported is corrected before it is clipped."""
    net = ScriptedNet(answers=[CENTRE, (2, 0, 0.0, 0.0)], size=(0.4, 0.25))
    t = tracker(net)
    t.init(frame(), frame(1), (10.0, 40.0, 20.0, 20.0))
    assert low(t, 1)[0][0] == 0.0


def test_a_first_frame_of_one_modality_is_enough():
    net = ScriptedNet(size=(0.3, 0.25))
    t = tracker(net)
    t.init(None, frame(1), BOX)
    assert net.calls[0]["available"] == ("aux",)
    assert t.update(frame(2), frame(3)).box[2] == pytest.approx(0.3 * 80 / np.sqrt(1.2))


def test_only_ckd_tiny_takes_it_off():
    assert {name: spec.geometry.unbias for name, spec in MODELS.items() if spec.geometry.unbias} == {"ckd-tiny": 0.5}
