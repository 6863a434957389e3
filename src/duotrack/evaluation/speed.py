"""Tracking speed by stage, and how near it is to what the machine can do.

Everything is measured in rounds that take turns (a configuration, the other one, the machine's matrix products, again),
so that medians and ratios within a round mean more than absolute figures. On a machine that others use they mislead too
(torch's threads wait for one another, and lose far more than their share where a core is taken).
"""

import logging
import multiprocessing
import signal
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

from duotrack.errors import InputError
from duotrack.evaluation.matmul import measure_peak
from duotrack.evaluation.stopwatch import (
    STAGES,
    Clip,
    Configuration,
    Round,
    count_flops,
    device_of,
    measure_round,
    memory_peak,
)
from duotrack.frames import MODALITIES
from duotrack.video import open_source
from duotrack.video.made import write_clip

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of what was measured."""

    median: float
    q1: float
    q3: float

    @property
    def width(self) -> float:
        """From the first to the third quartile."""
        return self.q3 - self.q1


@dataclass(frozen=True, kw_only=True)
class Report:
    """One configuration, measured.

    `stages` and `frame` in milliseconds (`frame` end to end, decoded ahead); `flops` of a frame in the network, two for
    a multiplication with its addition; `peak_flops` of this machine's matrix products a second and `peak_by` whose;
    `peak_share` of it that the network reaches, None where no library multiplies in that precision; `memory` in MB;
    `probed` what `measure` was asked for besides.
    """

    configuration: Configuration
    device: str
    stages: dict[str, Spread]
    frame: Spread
    flops: int
    flops_per_second: float
    peak_flops: float | None
    peak_by: str | None
    peak_share: float | None
    memory: dict[str, float]
    probed: Any = None

    @property
    def fps(self) -> float:
        """Frames a second end to end."""
        return 1000 / self.frame.median

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        configuration = {
            name: None if value is None else str(value) for name, value in vars(self.configuration).items()
        }
        return {
            **configuration,
            "device": self.device,
            "stages": {
                name: {"median_ms": s.median, "spread_ms": s.width, "q1_ms": s.q1, "q3_ms": s.q3}
                for name, s in self.stages.items()
            },
            "frame_ms": asdict(self.frame),
            "fps": self.fps,
            "gflop_per_frame": self.flops / 1e9,
            "gflops": self.flops_per_second / 1e9,
            "peak_gflops": None if self.peak_flops is None else self.peak_flops / 1e9,
            "peak_by": self.peak_by,
            "peak_share": self.peak_share,
            "peak_memory_mb": self.memory["resident"],
            "peak_device_memory_mb": self.memory.get("device"),
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How many times faster the second configuration is, round by round: the network alone, and end to end."""

    network: Spread
    frame: Spread


def measure(
    configurations: Sequence[Configuration],
    clip: Clip,
    *,
    rounds: int = 7,
    peak: bool = True,
    probe: Callable[[Configuration, Clip], Any] | None = None,
    refused: Callable[[Configuration, InputError], None] | None = None,
    watch: Callable[[], None] = lambda: None,
) -> tuple[list[Report], list[Comparison]]:
    """Measure configurations in rounds that take turns, each in a process of its own.

    Args:
        configurations: one or more.
        clip: what they track.
        rounds: how many; one more before them is not counted.
        peak: also measure this machine's matrix products; without, `peak_share` is None.
        probe: also called in each configuration's process at the end; must travel there, as functions of modules do.
        refused: is told of a configuration that cannot be loaded, and why; the others are measured.
        watch: called after every round.

    Returns:
        A report for each, and a comparison with the first for each of the others.

    Raises:
        InputError: a configuration cannot be loaded and nobody wants to be told, none can, or the clip not be read.
    """
    with ExitStack() as stack:
        counter = stack.enter_context(_process())
        _call(counter, _hush, "duotrack")  # it loads the networks that are measured: what is to be said, others say
        crew: list[_Member] = []
        for each in configurations:
            try:
                each = each.settled()
                worker = stack.enter_context(_process())
                if any(each.weights_of() == member.configuration.weights_of() for member in crew):
                    _call(worker, _hush, "duotrack.weights")
                crew.append(_Member(each, worker, _call(worker, device_of, each, clip)))
            except InputError as error:
                if refused is None or len(configurations) == 1:
                    raise
                refused(each, error)
        if not crew:
            raise InputError("none of the configurations can be loaded here")
        counts = {eager: _call(counter, count_flops, eager, clip) for eager in {m.configuration.eager() for m in crew}}
        ceilings: dict[tuple[str, str], list[dict[str, float]]] = {m.ceiling: [] for m in crew} if peak else {}
        for number in range(rounds + 1):
            for member in crew:
                measured = _call(member.worker, measure_round, member.configuration, clip)
                member.rounds += [measured] if number else []
            for key, figures in ceilings.items():
                found = _call(counter, measure_peak, *key)
                figures += [found] if number else []
            watch()
        reports = []
        for member in crew:
            report = report_of(
                member.configuration,
                member.device,
                member.rounds,
                flops=counts[member.configuration.eager()],
                peaks=ceilings.get(member.ceiling, []),
                memory=_call(member.worker, memory_peak, member.configuration, clip),
            )
            asked = None if probe is None else _call(member.worker, probe, member.configuration, clip)
            reports.append(replace(report, probed=asked))
    return reports, [compared(crew[0].rounds, member.rounds) for member in crew[1:]]


@dataclass
class _Member:
    """A configuration under way."""

    configuration: Configuration
    worker: ProcessPoolExecutor
    device: str
    rounds: list[Round] = field(default_factory=list)

    @property
    def ceiling(self) -> tuple[str, str]:
        """Which matrix products it is held against."""
        return str(self.configuration.precision), self.device


@contextmanager
def clip_of(sources: Sequence[Path], *, size: tuple[int, int], modalities: int, frames: int) -> Iterator[Clip]:
    """The clip to measure on: the user's videos, or a made-up one in a temporary folder.

    Args:
        sources: videos; none for a made-up clip, one or two as there are `modalities` (one serves both as well).
        size: width and height of a made-up clip.
        modalities: 1 (visible) or 2.
        frames: how many.

    Raises:
        InputError: more sources than modalities, or one that cannot be opened.
    """
    if len(sources) > modalities:
        words = "one" if modalities == 1 else "two"
        raise InputError(f"{len(sources)} sources for --modalities {words}: give one for each")
    with TemporaryDirectory(prefix="duotrack-") as folder:
        if sources:
            paths = [Path(source) for source in sources]
            with open_source(paths[0], None, prefetch=0) as source:
                width, height = source.size
            box = (width * 0.45, height * 0.45, width * 0.1, height * 0.1)
        else:
            paths = [Path(folder) / f"{name}.mp4" for name in MODALITIES[:modalities]]
            for path, name in zip(paths, MODALITIES, strict=False):
                box = write_clip(path, size=size, frames=frames, modality=name)
        yield Clip(rgb=paths[0], aux=paths[-1] if modalities == 2 else None, box=box, frames=frames)


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, q1, q3)


def report_of(
    configuration: Configuration,
    device: str,
    rounds: list[Round],
    flops: int,
    peaks: list[dict[str, float]],
    memory: dict[str, float],
) -> Report:
    stages = {name: spread([1000 * s for each in rounds for s in each.stages[name]]) for name in STAGES}
    network = [statistics.median(each.stages["network"]) for each in rounds]
    medians = {name: statistics.median([each[name] for each in peaks]) for name in (peaks[0] if peaks else {})}
    best = max(medians, key=medians.__getitem__, default=None)
    share = None
    if best is not None:  # a round's network against the products of the same round
        share = statistics.median([flops / took / each[best] for took, each in zip(network, peaks, strict=True)])
    return Report(
        configuration=configuration,
        device=device,
        stages=stages,
        frame=spread([1000 * each.frame for each in rounds]),
        flops=flops,
        flops_per_second=flops / statistics.median(network),
        peak_flops=None if best is None else medians[best],
        peak_by=best,
        peak_share=share,
        memory=memory,
    )


def compared(first: list[Round], other: list[Round]) -> Comparison:
    def network(each: Round) -> float:
        return statistics.median(each.stages["network"])

    pairs = list(zip(first, other, strict=True))
    return Comparison(
        network=spread([network(a) / network(b) for a, b in pairs]), frame=spread([a.frame / b.frame for a, b in pairs])
    )


def _hush(name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    # Ctrl-C reaches every process of a terminal: these just end, the one that asked says so
    executor = ProcessPoolExecutor(
        1, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)
    )
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _call(executor: ProcessPoolExecutor, task: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        return executor.submit(task, *args, **kwargs).result()
    except BrokenProcessPool as error:
        raise InputError("a measuring process ended from outside (out of memory?); measure a smaller model") from error
