"""What a run says of itself while it goes on."""

import io

import numpy as np
from rich.console import Console

from duotrack.evaluation.lockstep import Advanced, Failed, Tracked
from duotrack.evaluation.progress import shown
from duotrack.evaluation.run import Started


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def tracked(name: str) -> Tracked:
    return Tracked(name, np.zeros((1, 4)), np.zeros(1), np.zeros(1), ())


def test_plain_lines_now_and_then():
    text, clock = io.StringIO(), Clock()
    with shown(Console(file=text, width=80), clock=clock) as watch:
        watch(Started(sequences=4, frames=1000, done=2))
        for second in range(1, 61):
            clock.now = float(second)
            watch(Advanced(10))
            if second == 20:
                watch(tracked("a"))
            if second == 40:
                watch(Failed("b", "frame 3: the frame is [small]"))
    assert text.getvalue().splitlines() == [
        "2 sequences were finished before",
        "1 of 4 sequences, 300 of 1000 frames, 10.0 frames/s, 0:01:10 left",
        "b: frame 3: the frame is [small]",
        "2 of 4 sequences, 600 of 1000 frames, 10.0 frames/s, 0:00:40 left",
    ]


def test_a_bar_on_a_terminal():
    text, clock = io.StringIO(), Clock()
    with shown(Console(file=text, width=100, force_terminal=True), clock=clock) as watch:
        watch(Started(sequences=2, frames=100, done=0))
        clock.now = 5.0
        watch(Advanced(50))
        watch(tracked("a"))
        watch(Failed("b", "why [not]"))
    assert "2/2 sequences" in text.getvalue()
    assert "50/100" in text.getvalue()
    assert "10.0 FPS" in text.getvalue()
    assert "b: why [not]" in text.getvalue()
