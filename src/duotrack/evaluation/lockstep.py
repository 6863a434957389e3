"""One pass over many sequences, several of them advancing together (one-pass evaluation: no help after frame 0)."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.sequence import Sequence
from duotrack.errors import InputError
from duotrack.frames import FramePair, TrackResult
from duotrack.tracking.batch import answer_together
from duotrack.tracking.question import Question
from duotrack.tracking.tracker import Tracker

Read = Callable[[Sequence, int], Callable[[], FramePair]]
"""Starts reading a frame; what it gives waits for it."""


@dataclass(frozen=True)
class Advanced:
    """So many frames were tracked since the last event."""

    frames: int


@dataclass(frozen=True, eq=False)
class Tracked:
    """A sequence was tracked to its end.

    `boxes` (N, 4) float64 `xywh` and `scores` (N,), frame 0 included; `seconds` (N,) in the tracker, reading apart;
    `notes` remarks about frames ("frame 12: aux: cannot read ...").
    """

    name: str
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """A sequence that the tracker refused, and why; the others go on."""

    name: str
    reason: str


Event = Advanced | Tracked | Failed


def track_sequences(
    tracker: Tracker, sequences: Iterable[Sequence], *, batch: int = 1, stack: int = 1, readers: int = 0
) -> Iterator[Event]:
    """Track each sequence from its first box to its end.

    Where labels call the target absent at first (`Sequence.start`) the earlier frames are not looked at: they get the
    first box, score 0 and the mean time, so that rows and frames keep their numbers. A frame that cannot be read counts
    as missing and is noted. When a sequence ends, the next one takes its place.

    Args:
        tracker: gives the network and settings; its own target is not touched.
        batch: how many sequences advance together.
        stack: samples in one forward of the network, see `duotrack.tracking.batch`.
        readers: threads that read ahead, one frame a sequence; with 0 frames are read when they are needed.
    """
    waiting = deque(sequences)
    lanes: list[_Lane] = []
    with ExitStack() as context:
        read: Read = _direct
        if readers:
            pool = context.enter_context(ThreadPoolExecutor(readers))
            context.callback(pool.shutdown, wait=False, cancel_futures=True)
            read = _ahead(pool)
        while waiting or lanes:
            while waiting and len(lanes) < batch:
                lanes.append(_Lane(waiting.popleft(), tracker.clone(), read))
            yield from _step(lanes, stack)
            yield from (lane.tracked() for lane in lanes if lane.finished)
            lanes = [lane for lane in lanes if not lane.finished and lane.failure is None]


def _step(lanes: list["_Lane"], stack: int) -> Iterator[Event]:
    """One frame of every lane."""
    pairs = [lane.next() for lane in lanes]
    began = time.perf_counter()
    asked = [(lane, lane.ask(pair)) for lane, pair in zip(lanes, pairs, strict=True)]
    going = [(lane, question) for lane, question in asked if question is not None]
    results = answer_together([lane.tracker for lane, _ in going], [question for _, question in going], stack=stack)
    for (lane, _), result in zip(going, results, strict=True):
        lane.results.append(result)
    seconds = (time.perf_counter() - began) / len(lanes)
    for lane in lanes:
        lane.seconds.append(seconds)
        lane.started = True
        if lane.failure is not None:
            yield Failed(lane.sequence.name, lane.failure)
    yield Advanced(len(lanes))


class _Lane:
    """A sequence under way."""

    def __init__(self, sequence: Sequence, tracker: Tracker, read: Read) -> None:
        self.sequence = sequence
        self.tracker = tracker
        self.results: list[TrackResult] = []
        self.seconds: list[float] = []
        self.failure: str | None = None
        self.started = False
        self._notes: list[str] = []
        self._read = read
        self._pending = read(sequence, sequence.start)

    @property
    def finished(self) -> bool:
        return len(self.results) == len(self.sequence)

    def next(self) -> FramePair | None:
        """The frame that is due, while the one after it is being read; None where it cannot be used, which fails."""
        try:
            pair = self._pending()
        except InputError as error:
            self.failure = str(error)
            return None
        if pair.index + 1 < len(self.sequence):
            self._pending = self._read(self.sequence, pair.index + 1)
        self._notes += [f"frame {pair.index}: {note}" for note in pair.notes]
        return pair

    def ask(self, pair: FramePair | None) -> Question | None:
        """Take the first frame's box, or ask where the target is in a later frame."""
        if pair is None:
            return None
        try:
            if self.started:
                return self.tracker.ask(pair.rgb, pair.aux)
            first = self.tracker.init(pair.rgb, pair.aux, self.sequence.boxes[pair.index])
            self.results = [replace(first, score=0.0, state="lost", available=())] * pair.index + [first]
        except InputError as error:
            self.failure = f"frame {pair.index}: {error}"
        return None

    def tracked(self) -> Tracked:
        boxes = np.stack([result.box for result in self.results])
        scores = np.array([result.score for result in self.results])
        before = [float(np.mean(self.seconds))] * self.sequence.start
        return Tracked(self.sequence.name, boxes, scores, np.array(before + self.seconds), tuple(self._notes))


def _direct(sequence: Sequence, index: int) -> Callable[[], FramePair]:
    return lambda: sequence.read(index)


def _ahead(pool: ThreadPoolExecutor) -> Read:
    def read(sequence: Sequence, index: int) -> Callable[[], FramePair]:
        future: Future[FramePair] = pool.submit(sequence.read, index)
        return future.result

    return read
