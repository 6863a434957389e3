"""When a tracker says that it is tracking, uncertain or lost.

The network's score of the chosen cell is made comparable between models by a logistic map (`calibrate`), then read with
hysteresis (`step`), so that one poor frame is not a loss and one good frame is not a recovery:

* tracking -> uncertain: one frame with a score below `uncertain_below`;
* any state -> lost: `lost_after` frames in a row with a score below `lost_below`;
* uncertain or lost -> tracking: `recover_after` frames in a row with a score of at least `tracking_above`.

A frame without any modality has the score 0, which is below every threshold: a blind tracker is uncertain at once and
lost after `lost_after` frames.
The state is a report: it changes neither the box nor where the tracker looks. (`duotrack.tracking.redetect` does, by
the same scores.)
"""

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any

from duotrack.errors import InputError, nearest
from duotrack.frames import State


@dataclass(frozen=True, kw_only=True)
class StateRule:
    """Thresholds on the calibrated score in [0, 1], and how many frames in a row they must hold.

    Raises:
        InputError: not 0 <= lost_below <= uncertain_below <= tracking_above <= 1, or a count that is not whole or
            below 1.
    """

    uncertain_below: float = 0.35
    """One frame below this ends `tracking`."""
    lost_below: float = 0.2
    """Frames below this count towards `lost`."""
    tracking_above: float = 0.5
    """Frames at or above this count towards `tracking`."""
    lost_after: int = 10
    """That many frames in a row below `lost_below` make `lost`."""
    recover_after: int = 3
    """That many frames in a row at or above `tracking_above` make `tracking` again."""

    def __post_init__(self) -> None:
        if not 0 <= self.lost_below <= self.uncertain_below <= self.tracking_above <= 1:
            got = f"{self.lost_below!s:.20}, {self.uncertain_below!s:.20}, {self.tracking_above!s:.20}"
            raise InputError(f"lost_below, uncertain_below, tracking_above are {got}: they must rise, between 0 and 1")
        if not all(_whole(count) and count >= 1 for count in (self.lost_after, self.recover_after)):
            got = f"{self.lost_after!s:.20}, {self.recover_after!s:.20}"
            raise InputError(f"lost_after, recover_after are {got}: each is a whole number of frames, 1 or more")


def _whole(count: Any) -> bool:
    return isinstance(count, Integral) or float(count).is_integer()


def state_rule(**thresholds: float | None) -> StateRule:
    """A `StateRule` from named fields, None meaning the default.

    Raises:
        InputError: an unknown field (names the nearest one), or values that `StateRule` refuses.
    """
    known = [field.name for field in fields(StateRule)]
    for name in thresholds:
        if name not in known:
            raise InputError(f"no threshold is called {name!r}{nearest(name, known)}")
    given: dict[str, Any] = {name: value for name, value in thresholds.items() if value is not None}
    return replace(StateRule(), **given)


@dataclass(frozen=True)
class Memory:
    """What the rule remembers from frame to frame: the state, and how many frames in a row were low or high."""

    state: State = "tracking"
    low: int = 0
    high: int = 0


def step(rule: StateRule, memory: Memory, score: float) -> tuple[Memory, State]:
    """Take one frame's calibrated score into account; a pure function."""
    low = memory.low + 1 if score < rule.lost_below or score <= 0 else 0
    high = memory.high + 1 if score >= rule.tracking_above else 0
    state = memory.state
    if low >= rule.lost_after:
        state = "lost"
    elif state != "tracking" and high >= rule.recover_after:
        state = "tracking"
    elif state == "tracking" and (score < rule.uncertain_below or score <= 0):
        state = "uncertain"
    return Memory(state, low, high), state


def calibrate(score: float, calibration: tuple[float, float]) -> float:
    """sigmoid(slope * logit(score) + intercept), in [0, 1]; (1, 0) changes nothing.

    `score` is the raw score map's value in the chosen cell: the window chose the cell but says nothing of the answer.
    """
    slope, intercept = calibration
    inside = min(max(score, 1e-6), 1 - 1e-6)
    exponent = slope * math.log(inside / (1 - inside)) + intercept
    return 1 / (1 + math.exp(-exponent)) if exponent > -700 else 0.0
