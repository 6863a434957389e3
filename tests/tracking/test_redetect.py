"""Re-detection: where it looks, what it believes, what it costs; with a network that finds the brightest thing."""

from dataclasses import replace

import numpy as np
import pytest

from brightest import RULE, START, BrightestNet, follow, moved, overlap, scene, tracker
from duotrack.tracking.batch import MultiTracker, update_together


def test_a_target_that_jumps_is_found_again():
    net = BrightestNet()
    t = tracker(net)
    t.init(scene(START), None, START)
    follow(t, [scene(moved(i)) for i in range(1, 6)])
    far = (270.0, 200.0, 16.0, 16.0)
    results = follow(t, [scene(far) for _ in range(30)])
    assert overlap(results[0], far) == 0
    first = next(i for i, result in enumerate(results) if overlap(result, far) > 0.7)
    assert first <= 15
    for result in results[first:]:
        assert overlap(result, far) > 0.7
        assert result.state == "tracking"
        assert result.score > 0.9
    without = tracker(BrightestNet(idle=0.25), redetect=None)
    without.init(scene(START), None, START)
    assert overlap(follow(without, [scene(far) for _ in range(30)])[-1], far) == 0


def test_a_cut_is_answered_at_once():
    """A small frame of few tiles: found in the very next frames, long before the state could be lost."""
    t = tracker(BrightestNet())
    large = (60.0, 60.0, 40.0, 40.0)
    t.init(scene(large), None, large)
    follow(t, [scene(large) for _ in range(3)])
    far = (250.0, 180.0, 40.0, 40.0)
    results = follow(t, [scene(far, seed=9) for _ in range(6)])
    assert [overlap(result, far) > 0.7 for result in results[3:]] == [True] * 3
    assert "lost" not in [result.state for result in results]


def test_absence_is_lost_then_the_target_is_found_where_it_comes_back():
    t = tracker(BrightestNet())
    t.init(scene(START), None, START)
    follow(t, [scene(START)] * 5)
    absent = follow(t, [scene()] * 40)
    assert [result.state for result in absent[5:]] == ["lost"] * 35
    for result in absent:  # the box neither runs away nor grows, though the network says that it fills the region
        np.testing.assert_allclose(result.box[2:], START[2:], atol=1)
        assert overlap(result, START) > 0.7
    back = (200.0, 40.0, 20.0, 20.0)
    results = follow(t, [scene(back) for _ in range(30)])
    assert overlap(results[-1], back) > 0.7
    assert results[-1].state == "tracking"


def test_without_redetection_the_box_runs_away():
    """What holding it is for."""
    t = tracker(BrightestNet(), redetect=None)
    t.init(scene(START), None, START)
    assert follow(t, [scene()] * 20)[-1].box[2] > 5 * START[2]


def test_a_target_that_is_tracked_is_never_left():
    """Something that the network likes better stands elsewhere: nobody looks there, and nothing is different."""
    frames = [scene(moved(i), level=170, other=(250, 180, 16, 16), other_level=255) for i in range(1, 30)]
    runs = []
    for rule in (RULE, None):
        net = BrightestNet()
        t = tracker(net, redetect=rule)
        t.init(frames[0], None, START)
        runs.append([(r.box.tobytes(), r.score, r.state) for r in follow(t, frames)])
        assert net.asked == len(frames)
    assert runs[0] == runs[1]


def test_a_cut_does_not_take_a_target_away_that_is_still_there():
    t = tracker(BrightestNet())
    t.init(scene(START), None, START)
    follow(t, [scene(START)] * 5)
    results = follow(t, [scene(START, seed=4, other=(250, 180, 16, 16), other_level=250)] * 20)
    assert min(overlap(result, START) for result in results) > 0.7


def test_a_faint_likeness_is_not_believed_while_the_track_is_remembered_as_sure():
    """In the first sweep a find needs nearly the usual confidence; what is left over is taken later."""
    like = (250.0, 180.0, 16.0, 16.0)
    t = tracker(BrightestNet(), redetect=replace(RULE, sure=0.9, tiles=12))
    t.init(scene(START), None, START)
    follow(t, [scene(START)] * 10)
    results = follow(t, [scene(other=like, other_level=170)] * 40)
    assert max(overlap(result, like) for result in results[:6]) == 0
    assert overlap(results[-1], like) > 0.7


def test_no_frame_costs_more_than_the_budget():
    rng = np.random.default_rng(1)
    for budget in (2, 3, 5):
        net = BrightestNet()
        t = tracker(net, redetect=replace(RULE, budget=budget))
        t.init(scene(START), None, START)
        most = 0
        for number in range(60):
            before = net.asked
            places_now = [(*rng.integers([0, 0], [300, 220]), 16, 16) for _ in range(2)]
            gone = number % 7 == 3
            t.update(scene(None if gone else places_now[0], other=places_now[1], seed=number // 5), None)
            most = max(most, net.asked - before)
        assert most == budget + 1


@pytest.mark.parametrize("gone", [0, 1])
def test_one_modality_is_enough(gone):
    def pair(image):
        return (None, image) if gone == 0 else (image, None)

    t = tracker(BrightestNet())
    t.init(scene(START), scene(START), START)
    far = (270.0, 200.0, 16.0, 16.0)
    results = [t.update(*pair(scene(far))) for _ in range(30)]
    assert overlap(results[-1], far) > 0.7
    assert results[-1].available == (("aux",) if gone == 0 else ("rgb",))


def test_with_both_missing_nothing_is_looked_at():
    net = BrightestNet()
    t = tracker(net)
    t.init(scene(START), None, START)
    follow(t, [scene()] * 4)
    before = net.asked
    results = [t.update(None, None) for _ in range(10)]
    assert net.asked == before
    np.testing.assert_array_equal(results[0].box, results[-1].box)
    far = (270.0, 200.0, 16.0, 16.0)
    assert overlap(follow(t, [scene(far)] * 30)[-1], far) > 0.7


def test_hold_box_looks_at_nothing_where_a_sensor_is_gone():
    net = BrightestNet()
    t = tracker(net, missing="hold-box")
    t.init(scene(START), scene(START), START)
    for _ in range(10):
        t.update(scene((270, 200, 16, 16)), None)
    assert net.asked == 0


def test_nan_finds_nothing():
    net = BrightestNet(broken=True)
    t = tracker(net)
    t.init(scene(START), None, START)
    results = follow(t, [scene((270, 200, 16, 16))] * 20)
    assert max(result.score for result in results) < 0.1
    np.testing.assert_allclose(results[-1].box, START)


def test_init_again_forgets_the_hunt():
    net = BrightestNet()
    t = tracker(net)
    t.init(scene(START), None, START)
    follow(t, [scene()] * 10)
    t.init(scene(START), None, START)
    before = net.asked
    follow(t, [scene(START)] * 5)
    assert net.asked == before + 5


def test_clones_several_objects_and_lockstep_do_as_one_tracker_does():
    boxes = [START, (200.0, 100.0, 16.0, 16.0)]
    frames = [scene(START)] * 3 + [scene((270, 200, 16, 16))] * 15

    def alone(box):
        t = tracker(BrightestNet()).clone()
        t.init(frames[0], None, box)
        return [result.box.tobytes() for result in follow(t, frames)]

    expected = [alone(box) for box in boxes]
    many = MultiTracker(tracker(BrightestNet()))
    many.init(frames[0], None, boxes)
    rows = [many.update(image, None) for image in frames]
    assert [[row[i].box.tobytes() for row in rows] for i in range(2)] == expected
    for stack in (1, 2):
        prototype = tracker(BrightestNet())
        trackers = [prototype.clone() for _ in boxes]
        for each, box in zip(trackers, boxes, strict=True):
            each.init(frames[0], None, box)
        rows = [update_together(trackers, [(image, None)] * 2, stack=stack) for image in frames]
        assert [[row[i].box.tobytes() for row in rows] for i in range(2)] == expected


def test_places_go_into_one_forward_where_stacks_pay(monkeypatch):
    """On a GPU; the same is found."""
    finds = []
    for stacked in (False, True):
        net = BrightestNet()
        t = tracker(net, redetect=replace(RULE, budget=5))
        if stacked:
            monkeypatch.setattr("duotrack.tracking.tracker.default_stack", lambda device, batch: batch)
        t.init(scene(START), None, START)
        finds.append([r.box.tobytes() for r in follow(t, [scene((270, 200, 16, 16))] * 15)])
        assert max(net.stacks) == (4 if stacked else 1)
    assert finds[0] == finds[1]
