"""Re-detection: where it looks, what it believes, what it costs; with a network that finds the brightest thing."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import duotrack
from duotrack.boxes import iou_xywh
from duotrack.errors import InputError
from duotrack.models.outputs import HeadMaps
from duotrack.models.zoo import MODELS
from duotrack.tracking.batch import update_together
from duotrack.tracking.redetect import Hunt, Redetection, held, is_cut, places, pursue, thumbnail, tiles
from duotrack.tracking.state import StateRule
from duotrack.tracking.tracker import MultiTracker, Tracker
from scripted import GEOMETRY

HEIGHT, WIDTH = 240, 320
RULE = Redetection()
START = (60.0, 60.0, 16.0, 16.0)


@dataclass
class BrightestNet:
    """Finds the brightest square of a search image; its brightness is the score, on an 8x8 grid.

    Where there is none its box is `idle` times the search region. `asked` counts samples, `stacks` has the size of each
    forward.
    """

    broken: bool = False
    idle: float = 1.0
    stacks: list[int] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return sum(self.stacks)

    def __call__(self, *, template, search, available, **_) -> HeadMaps:
        images = next(image for image in search if image is not None)
        self.stacks.append(len(images))
        score, size, offset = (torch.zeros(len(images), n, 8, 8) for n in (1, 2, 2))
        for i, image in enumerate(images):
            grey = image[0] * 0.229 + 0.485
            top = float(grey.max())
            rows, columns = torch.where(grey > top - 0.05)
            if top < 0.3 or len(rows) > 2000:
                size[i] = self.idle
                score[i, 0, 4, 4] = 0.02
                continue
            middle = [(float(axis.min()) + float(axis.max()) + 1) / 2 / 64 * 8 for axis in (columns, rows)]
            column, row = (min(int(value), 7) for value in middle)
            score[i, 0, row, column] = float("nan") if self.broken else top * 0.95
            offset[i, :, row, column] = torch.tensor([middle[0] - column, middle[1] - row])
            sides = [(float(axis.max()) - float(axis.min()) + 1) / 64 for axis in (columns, rows)]
            size[i, :, row, column] = torch.tensor(sides)
        return HeadMaps(score_map=score, size_map=size, offset_map=offset)


def scene(box=None, *, level: int = 255, other=None, other_level: int = 150, seed: int = 0) -> np.ndarray:
    """A dim landscape, another one for another seed, with the target in `box` and something else in `other`."""
    coarse = np.random.default_rng(seed).integers(0, 60, (6, 8)).astype(np.uint8)
    image = np.repeat(np.repeat(coarse, HEIGHT // 6, axis=0), WIDTH // 8, axis=1)
    for place, brightness in ((other, other_level), (box, level)):
        if place is not None:
            x, y, w, h = (round(value) for value in place)
            image[y : y + h, x : x + w] = brightness
    return np.stack([image] * 3, axis=2)


def tracker(net: BrightestNet, **options: object) -> Tracker:
    settings = {"geometry": replace(GEOMETRY, stride=8), "redetect": RULE, "rule": StateRule(lost_after=6)} | options
    return Tracker(net, **settings)  # type: ignore[arg-type]


def moved(step: int) -> tuple[float, float, float, float]:
    return (START[0] + step, START[1], START[2], START[3])


def follow(t: Tracker, frames: list[np.ndarray]):
    return [t.update(image, None) for image in frames]


def overlap(result, box) -> float:
    return float(iou_xywh(result.box, np.array(box)))


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


# the rules by themselves

SIDES = st.floats(4, 400)


@given(st.integers(32, 2000), st.integers(32, 2000), SIDES, SIDES, st.floats(2, 12), st.integers(1, 40), st.data())
def test_tiles_show_a_target_wherever_it_is(height, width, w, h, factor, limit, data):
    anchor = np.array([width / 3, height / 3, w, h])
    found = tiles(anchor, (height, width), factor, limit=limit)
    assert 1 <= len(found) <= limit
    middle = anchor[:2] + anchor[2:] / 2
    squares = [(box[:2] + box[2:] / 2, np.sqrt(box[2] * box[3]) * each) for box, each in found]
    distances = [float(np.hypot(*(centre - middle))) for centre, _ in squares]
    assert distances == sorted(distances)
    side = np.sqrt(w * h)
    if side < min(width, height):
        corner = np.array([data.draw(st.floats(0, width - side)), data.draw(st.floats(0, height - side))])
        inside = [(abs(corner + side / 2 - centre) <= square / 2 - side / 2 + 1e-6).all() for centre, square in squares]
        assert any(inside)


def test_places_begin_round_the_last_reliable_box_and_cover_every_scale():
    anchor = np.array([100.0, 80.0, 20.0, 20.0])
    order, once = places(RULE, anchor, (256, 320), 4.0)
    assert once == 2 + len(tiles(anchor, (256, 320), 6.0, limit=RULE.tiles))
    assert [factor for _, factor in order[:2]] == [8.0, 2.4]
    assert {round(factor, 3) for _, factor in order[2:]} >= {6.0, 12.0}
    assert len(order) <= 2 + 3 * RULE.tiles


@pytest.mark.parametrize(
    ("side", "size", "sweeps"),
    [
        (60, (512, 640), [4, 12, 1]),
        (20, (720, 1280), [24]),  # tiles of 234, 244 and 240 px: the same sweep three times
        (16, (480, 640), [20, 12]),  # 1.5 and 1 grew to the same
        (60, (240, 320), [1, 2, 1]),
    ],
)
def test_no_sweep_shows_what_an_earlier_one_showed(side, size, sweeps):
    order, once = places(RULE, np.array([100.0, 80.0, side, side]), size, 4.0)
    factors = [factor for _, factor in order[2:]]
    distinct = list(dict.fromkeys(factors))
    assert [factors.count(factor) for factor in distinct] == sweeps
    assert once == 2 + sweeps[0]
    for i, factor in enumerate(distinct):
        assert all(max(factor, other) / min(factor, other) > 1.25 for other in distinct[:i])


@given(st.floats(4, 400), st.integers(32, 2000), st.integers(32, 2000), st.floats(2, 12), st.integers(1, 40))
def test_sweeps_that_had_to_grow_are_one(side, height, width, factor, limit):
    rule = replace(RULE, tiles=limit)
    order, _ = places(rule, np.array([5.0, 5.0, side, side]), (height, width), factor)
    grown = {each for _, each in order[2:]} - {factor * wide for wide in rule.widths}
    assert len(grown) <= 1


@pytest.mark.parametrize(("cursor", "believed"), [(0, False), (5, False), (6, True), (19, True)])
def test_a_less_sure_find_counts_once_the_first_sweep_is_over(cursor, believed):
    """60 px in 640x512: two places nearby and a first sweep of four tiles, however many the rule allows."""
    start = np.array([300.0, 200, 60, 60])
    hunt, _ = pursue(
        RULE,
        Hunt(start, usual=0.9, cursor=cursor),
        start,
        0.1,
        images=(np.zeros((512, 640, 3), np.uint8), None),
        factor=4,
        look=lambda around, near: [(np.array([100.0, 100, 60, 60]), 0.6)] * len(around),
    )
    assert (hunt.find is not None) == believed


def test_a_cut_is_another_picture_and_neither_light_nor_shaking():
    first, second = scene(seed=1), scene(seed=2)
    a, b = (thumbnail(first), None), (thumbnail(second), None)
    assert is_cut(a, b, 0.0)[0]
    assert not is_cut(a, (thumbnail(first + 40), None), 0.0)[0]
    assert not is_cut(a, a, 0.0)[0]
    assert not is_cut((None, None), b, 0.0)[0]
    assert not is_cut((thumbnail(first),) * 2, (thumbnail(second), thumbnail(first)), 0.0)[0]
    assert is_cut((thumbnail(first),) * 2, (thumbnail(second),) * 2, 0.0)[0]
    unrest = 0.0
    for number in range(40):  # all the time another picture: not cuts, but how this camera is
        cut, unrest = is_cut((thumbnail(scene(seed=number)), None), (thumbnail(scene(seed=number + 1)), None), unrest)
    assert not cut


def test_a_frame_without_images_changes_nothing():
    hunt = Hunt(np.array(START), low=1)
    after, found = pursue(RULE, hunt, np.array(START), 0.0, images=(None, None), factor=4, look=lambda *_: [])
    assert after is hunt
    assert found is None


@pytest.mark.parametrize(("change", "believed"), [(2.0, True), (4.0, False), (0.2, False)])
def test_a_find_must_be_of_a_plausible_size(change, believed):
    side = 16 * change
    find = np.array([200.0, 100.0, side, side])
    hunt = Hunt(np.array(START), cursor=0)
    for _ in range(2):
        hunt, found = pursue(
            RULE,
            hunt,
            np.array(START),
            0.1,
            images=(scene(), None),
            factor=4,
            look=lambda around, near: [(find, 0.9)] * len(around),
        )
    assert (found is not None) == believed


def test_a_find_that_is_not_there_in_the_next_frame_is_dropped():
    answers = iter([0.9, 0.9, 0.9, 0.2, 0.0, 0.0])
    hunt = Hunt(np.array(START), cursor=0)
    for _ in range(2):
        hunt, found = pursue(
            RULE,
            hunt,
            np.array(START),
            0.1,
            images=(scene(), None),
            factor=4,
            look=lambda around, near: [(np.array([200.0, 100, 16, 16]), next(answers)) for _ in around],
        )
        assert found is None
    assert hunt.find is None


def test_the_box_is_held_where_the_network_is_not_sure():
    anchor, before = np.array([10.0, 10, 20, 20]), np.array([30.0, 30, 40, 40])
    assert held(Hunt(anchor), before) is before
    np.testing.assert_array_equal(held(Hunt(anchor, cursor=4), before), [40, 40, 20, 20])


def test_a_held_box_stays_in_the_frame():
    edge = (300.0, 60.0, 20.0, 60.0)
    t = tracker(BrightestNet())
    t.init(scene(edge), None, edge)
    for result in follow(t, [scene(edge)] * 3 + [scene()] * 20):
        x, y, w, h = result.box
        assert x >= 0
        assert y >= 0
        assert x + w <= WIDTH
        assert y + h <= HEIGHT


def test_a_budget_that_could_look_at_nothing_is_refused():
    with pytest.raises(InputError, match="budget is 1"):
        Redetection(budget=1)


def test_published_models_are_left_as_they_are():
    assert {name for name, spec in MODELS.items() if spec.redetect} == {"ckd-tiny"}
    assert duotrack.load_tracker("ckd-tiny", device="cpu").redetect == Redetection()
    assert duotrack.load_tracker("ckd-tiny", device="cpu", redetect=False).redetect is None
    assert duotrack.load_tracker("ipl-tiny", device="cpu").redetect is None
    assert duotrack.load_tracker("ipl-tiny", device="cpu", redetect=True).redetect == Redetection()
