"""How far a run is: a bar on a terminal, else a plain line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from duotrack.evaluation.lockstep import Advanced, Event, Failed, Tracked
from duotrack.evaluation.run import Started

_LINE_EVERY = 30.0
"""Seconds between two plain lines."""


class Tally:
    """Counts of a run, from its events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.started = Started(0, 0, 0)
        self.frames = 0
        self.sequences = 0

    def __call__(self, event: Started | Event) -> None:
        """Take an event into account."""
        if isinstance(event, Started):
            self.started = event
            self._began = self._clock()
        elif isinstance(event, Advanced):
            self.frames += event.frames
        else:
            self.sequences += 1

    @property
    def rate(self) -> float:
        """Frames a second so far, reading included."""
        return self.frames / max(self._clock() - self._began, 1e-9)

    def line(self) -> str:
        """The counts in words."""
        left = "?"
        if self.frames:
            seconds = round((self.started.frames - self.frames) / self.rate)
            left = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        total = self.started
        return (
            f"{self.sequences} of {total.sequences} sequences, {self.frames} of {total.frames} frames, "
            f"{self.rate:.1f} frames/s, {left} left"
        )


@contextmanager
def shown(
    console: Console, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Started | Event], None]]:
    """What `run_benchmark` is to tell its events: they are shown on `console`."""
    tally = Tally(clock)
    if console.is_terminal:
        yield from _bar(console, tally)
    else:
        yield _lines(console, tally, clock)


def _bar(console: Console, tally: Tally) -> Iterator[Callable[[Started | Event], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} FPS"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task: TaskID = progress.add_task("tracking", total=None, rate=0.0)

        def watch(event: Started | Event) -> None:
            tally(event)
            if isinstance(event, Failed):
                progress.console.print(f"{event.name}: {event.reason}", markup=False, highlight=False)
            total = tally.started
            progress.update(
                task,
                description=f"{tally.sequences}/{total.sequences} sequences",
                total=total.frames,
                completed=tally.frames,
                rate=tally.rate,
            )

        yield watch


def _lines(console: Console, tally: Tally, clock: Callable[[], float]) -> Callable[[Started | Event], None]:
    due = clock() + _LINE_EVERY

    def watch(event: Started | Event) -> None:
        nonlocal due
        tally(event)
        if isinstance(event, Started) and event.done:
            console.print(f"{event.done} sequences were finished before", highlight=False)
        if isinstance(event, Failed):
            console.print(f"{event.name}: {event.reason}", markup=False, highlight=False, soft_wrap=True)
        if clock() >= due and isinstance(event, Advanced | Tracked):
            due = clock() + _LINE_EVERY
            console.print(tally.line(), highlight=False, soft_wrap=True)

    return watch
