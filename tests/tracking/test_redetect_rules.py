"""The rules of re-detection by themselves: where they look, what they believe, when a picture is cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import duotrack
from brightest import HEIGHT, RULE, START, WIDTH, BrightestNet, follow, scene, tracker
from duotrack.errors import InputError
from duotrack.models.zoo import MODELS
from duotrack.tracking.redetect import Hunt, Redetection, held, is_cut, places, pursue, thumbnail, tiles

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


def hunted(look):
    """Hunt, find after the first and the second frame of a hunt in which `look` answers."""
    hunt, steps = Hunt(np.array(START), cursor=0), []
    for _ in range(2):
        hunt, found = pursue(RULE, hunt, np.array(START), 0.1, images=(scene(), None), factor=4, look=look)
        steps.append((hunt, found))
    return steps


@pytest.mark.parametrize(("change", "believed"), [(2.0, True), (4.0, False), (0.2, False)])
def test_a_find_must_be_of_a_plausible_size(change, believed):
    side = 16 * change
    find = np.array([200.0, 100.0, side, side])
    found = hunted(lambda around, near: [(find, 0.9)] * len(around))[-1][1]
    assert (found is not None) == believed


def test_a_find_that_is_not_there_in_the_next_frame_is_dropped():
    answers = iter([0.9, 0.9, 0.9, 0.2, 0.0, 0.0])
    steps = hunted(lambda around, near: [(np.array([200.0, 100, 16, 16]), next(answers)) for _ in around])
    assert [found for _, found in steps] == [None, None]
    assert steps[-1][0].find is None


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
