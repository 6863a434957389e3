"""Running over a source of frames: how many are left, a progress bar, and ending well on Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from duotrack.frames import FramePair
from duotrack.video import PairedSource


def frames_left(source: PairedSource, start: int, max_frames: int | None) -> int | None:
    """How many frames there will be, None where nobody knows."""
    if source.length is None:
        return max_frames
    left = max(0, source.length - start)
    return left if max_frames is None else min(left, max_frames)


@contextmanager
def progress(doing: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error where that is a terminal; gives what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda: bar.advance(task)


class Interrupt:
    """Ctrl-C, or SIGTERM as service managers send it: a wish to end.

    At once while waiting for a frame, else after the frame in hand.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.pressed or self._waiting:
            self.pressed = True
            raise KeyboardInterrupt
        self.pressed = True

    def guard(self, pairs: Iterator[FramePair]) -> Iterator[FramePair]:
        """The same frames until Ctrl-C."""
        while not self.pressed:
            self._waiting = True
            try:
                pair = next(pairs, None)
            except KeyboardInterrupt:
                return
            finally:
                self._waiting = False
            if pair is None:
                return
            yield pair


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Ctrl-C and SIGTERM as a wish while the block runs."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only there may signals be handled
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
