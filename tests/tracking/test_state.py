"""The rule that turns scores into tracking, uncertain and lost."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.errors import InputError
from duotrack.tracking.state import Memory, StateRule, calibrate, state_rule, step

RULE = StateRule(uncertain_below=0.4, lost_below=0.2, tracking_above=0.6, lost_after=3, recover_after=2)
LETTER = {"tracking": "t", "uncertain": "u", "lost": "l"}


def states(rule: StateRule, scores: list[float]) -> str:
    memory, letters = Memory(), ""
    for score in scores:
        memory, state = step(rule, memory, score)
        letters += LETTER[state]
    return letters


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.5, 0.4, 0.9], "tttt"),  # never below uncertain_below
        ([0.9, 0.39, 0.5, 0.5], "tuuu"),  # between the thresholds the state stays
        ([0.3, 0.6, 0.5, 0.6, 0.6], "uuuut"),  # two high frames in a row end it
        ([0.1, 0.1, 0.1], "uul"),  # three low frames in a row are a loss
        ([0.1, 0.1, 0.2, 0.1, 0.1, 0.1], "uuuuul"),  # a frame at the threshold starts the count again
        ([0.1, 0.1, 0.1, 0.5, 0.9, 0.5, 0.9, 0.9], "uulllllt"),  # lost until two high frames in a row
        ([0.0, 0.0, 0.0, 0.9, 0.9], "uullt"),  # blind, and back
    ],
)
def test_sequences(scores, expected):
    assert states(RULE, scores) == expected


def test_one_low_frame_can_be_a_loss():
    assert states(replace(RULE, lost_after=1), [0.9, 0.1]) == "tl"


def test_score_zero_counts_even_where_the_thresholds_are_zero():
    rule = StateRule(uncertain_below=0, lost_below=0, tracking_above=0, lost_after=2, recover_after=1)
    assert states(rule, [0.0, 0.0, 0.1]) == "ult"


scores_strategy = st.lists(st.floats(0, 1), max_size=60)


@given(scores_strategy)
def test_lost_needs_a_row_of_low_frames_and_return_a_row_of_high_ones(scores):
    letters = "t" + states(RULE, scores)
    for i, (before, after) in enumerate(pairwise(letters), start=1):
        recent = scores[:i]
        if before != "l" and after == "l":
            assert len(recent) >= 3
            assert all(score < 0.2 for score in recent[-3:])
        if before != "t" and after == "t":
            assert len(recent) >= 2
            assert all(score >= 0.6 for score in recent[-2:])
        if before == "t" and after != "t":
            assert recent[-1] < 0.4
        assert not (before == "l" and after == "u")


@given(scores_strategy, scores_strategy)
def test_a_step_depends_on_the_memory_alone(first, second):
    memory = Memory()
    for score in first:
        memory, _ = step(RULE, memory, score)
    kept, rest = memory, []
    for score in second:
        memory, state = step(RULE, memory, score)
        rest.append(LETTER[state])
    again = kept
    for score, letter in zip(second, rest, strict=True):
        again, state = step(RULE, again, score)
        assert LETTER[state] == letter
    assert states(RULE, first + second).endswith("".join(rest))


@given(st.lists(st.floats(0.6, 1), min_size=2, max_size=5), scores_strategy)
def test_enough_high_frames_always_bring_it_back(high, before):
    assert states(RULE, before + high).endswith("t")


@pytest.mark.parametrize(
    "wrong",
    [
        {"uncertain_below": 0.1},
        {"tracking_above": 0.3},
        {"tracking_above": 1.5},
        {"lost_below": -0.1},
        {"uncertain_below": math.nan},
        {"lost_after": 0},
        {"recover_after": 0},
        {"lost_after": 3.5},
        {"lost_below": 10**400},
        {"recover_after": math.inf},
        {"lost_after": math.nan},
    ],
)
def test_thresholds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match=r"lost_below|lost_after"):
        replace(RULE, **wrong)


def test_thresholds_by_name():
    assert state_rule(uncertain_below=0.3, lost_below=None) == StateRule(uncertain_below=0.3)
    with pytest.raises(InputError, match="uncertain_below"):
        state_rule(uncertain_bellow=0.3)


@given(st.floats(1e-4, 1 - 1e-4))
def test_identity_calibration_changes_nothing(score):
    assert calibrate(score, (1.0, 0.0)) == pytest.approx(score, abs=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 50), st.floats(-100, 100))
def test_calibration_rises_and_stays_in_range(one, other, slope, intercept):
    low, high = sorted((calibrate(min(one, other), (slope, intercept)), calibrate(max(one, other), (slope, intercept))))
    assert 0 <= calibrate(min(one, other), (slope, intercept)) == low <= high <= 1


def test_calibration_is_a_logistic_map():
    assert calibrate(0.5, (2.0, 1.0)) == pytest.approx(1 / (1 + math.exp(-1)))
    assert calibrate(0.5, (1.0, -1e9)) == 0.0
