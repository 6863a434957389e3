"""Tracking speed from the `<sequence>_time.txt` files that trackers write beside their results."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from duotrack.datasets.tree import open_tree
from duotrack.errors import InputError

SUFFIX = "_time.txt"


@dataclass(frozen=True)
class Speed:
    """Frames timed, the seconds they took, and the number of sequences they belong to."""

    frames: int
    seconds: float
    sequences: int

    @property
    def fps(self) -> float:
        """Frames per second over everything."""
        return self.frames / self.seconds


def read_speed(results: Path) -> Speed | None:
    """The speed of the tracker whose results lie in `results`, a folder or a zip file; None where it holds no times.

    A file holds seconds a frame. The first one of each sequence, in which a tracker is set up, is left out where
    there are more.

    Raises:
        InputError: a file cannot be read or holds something else than positive numbers; names file and line.
    """
    frames, seconds, sequences = 0, 0.0, 0
    for name, text in _texts(results):
        times = _times(name, text)
        counted = times[1:] if len(times) > 1 else times
        frames += len(counted)
        seconds += sum(counted)
        sequences += bool(counted)
    return Speed(frames, seconds, sequences) if frames else None


def _texts(results: Path) -> Iterator[tuple[str, str]]:
    with open_tree(results) as tree:
        for name in tree.files():
            if name.endswith(SUFFIX):
                yield tree.at(name), tree.read(name).decode("utf-8", errors="replace")


def _times(name: str, text: str) -> list[float]:
    times = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in re.split(r"[,;\s]+", line.strip()):
            if not word:
                continue
            try:
                value = float(word)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise InputError(
                    f"{name}, line {number}: a time is a positive number of seconds, got {word[:40]!r}; "
                    "mend or remove the file"
                )
            times.append(value)
    return times
