"""Running a tracker over a source into result files: what `track` and `demo` share."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Any

from duotrack.cli.running import frames_left, interruptible, progress
from duotrack.errors import InputError
from duotrack.frames import FramePair, TrackResult
from duotrack.tracking.batch import MultiTracker
from duotrack.tracking.tracker import Tracker
from duotrack.video import PairedSource
from duotrack.video.sinks import Sinks

Watch = Callable[[FramePair, Sequence[TrackResult]], None]
Sift = Callable[[Iterator[FramePair]], Iterator[FramePair]]


@dataclass
class Summary:
    """What happened in a run; `seconds` is spent in the tracker, `elapsed` in all."""

    objects: int
    frames: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    states: list[dict[str, int]] = field(default_factory=list)
    lacking: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    interrupted: bool = False
    files: dict[str, str] = field(default_factory=dict)

    def count(self, pair: FramePair, results: Sequence[TrackResult], seconds: float) -> None:
        """Add one frame."""
        self.frames += 1
        self.seconds += seconds
        for counts, result in zip(self.states, results, strict=True):
            counts[result.state] += 1
        for name in self.lacking:
            self.lacking[name] += name not in pair.available

    def lines(self) -> list[str]:
        """The summary in words."""
        ended = ", ended early (Ctrl-C, SIGTERM)" if self.interrupted else ""
        objects = "1 object" if self.objects == 1 else f"{self.objects} objects"
        rates = f"{self.frames / self.elapsed:.1f} frames/s, tracking alone {self.frames / self.seconds:.1f}"
        lines = [f"{self.frames} frames, {objects}{ended}: {rates}"]
        for number, counts in enumerate(self.states, start=1):
            which = f"object {number}: " if self.objects > 1 else ""
            lines.append(which + ", ".join(f"{state} {count}" for state, count in counts.items()))
        lines += [f"{count} frames lack {name}" for name, count in self.lacking.items() if count]
        lines += [f"{self.dropped} frames were dropped to keep up"] if self.dropped else []
        return lines + [f"{name}: {path}" for name, path in self.files.items()]

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON would hold it."""
        return asdict(self)


def follow(
    source: PairedSource,
    tracker: Tracker,
    boxes: Sequence[Sequence[float]],
    sinks: Sinks,
    *,
    start: int = 0,
    max_frames: int | None = None,
    sift: Sift = iter,
    watch: Watch | None = None,
) -> Summary:
    """Track `boxes` through `source` from frame `start` on; the files appear when it ends well.

    The first Ctrl-C or SIGTERM ends the run there, with whole files; a second one, while they are written, ends the
    process.

    Args:
        max_frames: how many frames at most, the first included.
        sift: takes images out of the frames, from frame `start` on; what it leaves is what the tracker has.
        watch: is shown every frame and its results.

    Raises:
        InputError: the source ends before `start`, or the tracker refuses the first frame or its boxes.
    """
    summary = Summary(objects=len(boxes))
    summary.states = [dict.fromkeys(("tracking", "uncertain", "lost"), 0) for _ in boxes]
    summary.lacking = dict.fromkeys(source.sides, 0)
    many = MultiTracker(tracker)
    frames = islice(sift(islice(source, start, None)), max_frames)
    began = time.perf_counter()
    with interruptible() as interrupt, progress("tracking", frames_left(source, start, max_frames)) as advance:
        first = next(frames, None)
        if first is None:
            raise InputError(f"the source ends before frame {start}: nothing to track; choose a smaller --start")
        if not first.available:
            why = f" ({'; '.join(first.notes)})" if first.notes else ""
            raise InputError(f"frame {first.index} has no image that can be used{why}; begin at another one (--start)")
        results, seconds = _timed(many.init, first.rgb, first.aux, boxes)
        with sinks:
            for pair in chain([first], interrupt.guard(frames)):  # the first is done: it is written in any case
                if pair is not first:
                    results, seconds = _timed(many.update, pair.rgb, pair.aux)
                summary.count(pair, results, seconds)
                sinks.write(pair, results, seconds)
                if watch is not None:
                    watch(pair, results)
                advance()
    summary.elapsed = time.perf_counter() - began
    summary.interrupted = interrupt.pressed
    summary.dropped = source.dropped
    summary.files = {name: str(path) for name, path in sinks.paths.items()}
    return summary


def _timed(call: Callable[..., list[TrackResult]], *args: Any) -> tuple[list[TrackResult], float]:
    began = time.perf_counter()
    return call(*args), time.perf_counter() - began
