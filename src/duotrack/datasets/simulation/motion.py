"""Paths with inertia: velocity is a slowly changing random process, and soft walls turn it round."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEP = 8
"""Frames between two knots of a path."""


@dataclass(frozen=True, eq=False)
class Path:
    """A smooth curve of several values over time; `knots` (K, C), one each `STEP` frames, the first at -`STEP`."""

    knots: Floats

    def at(self, time: float) -> Floats:
        """(C,) the values at `time`, in frames; with a continuous velocity (Catmull-Rom)."""
        place = min(max(time / STEP, 0.0), len(self.knots) - 3.001)
        first = int(place)
        t = place - first
        a, b, c, d = self.knots[first : first + 4]
        return 0.5 * (2 * b + t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))


def wander(
    rng: np.random.Generator, length: int, start: Floats, speed: Floats, low: Floats, high: Floats, inertia: float = 0.9
) -> Path:
    """A random path of C values from about `start`.

    Args:
        rng: draws it.
        length: frames, at least 1.
        start: (C,) values at time 0.
        speed: (C,) standard deviation of the change a frame.
        low, high: (C,) soft walls: beyond them a value is drawn back.
        inertia: how much of its velocity a value keeps over `STEP` frames, below 1.
    """
    count = (length + STEP - 1) // STEP + 4
    pushes = rng.standard_normal((count, len(start))) * (speed * STEP)
    fresh = np.sqrt(1 - inertia * inertia)
    knots = np.empty((count, len(start)))
    place, velocity = start, pushes[0]
    knots[0] = start - velocity
    for index in range(1, count):
        knots[index] = place
        beyond = place - np.minimum(np.maximum(place, low), high)
        velocity = inertia * velocity + fresh * pushes[index] - 0.5 * beyond
        place = place + velocity - 0.3 * beyond
    return Path(knots)


class Ways:
    """Starts, speeds and soft walls of the values of a path, as they are added."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, float]] = []

    def add(self, *rows: tuple[float, float, float, float]) -> int:
        """Add values (start, speed, low, high); gives the number of the first."""
        self.rows += rows
        return len(self.rows) - len(rows)

    def path(self, rng: np.random.Generator, length: int) -> Path:
        """A path of all of them."""
        start, speed, low, high = np.array(self.rows).T
        return wander(rng, length, start, speed, low, high)
