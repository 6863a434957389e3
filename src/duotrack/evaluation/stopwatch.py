"""What one process measures of one configuration: stages, whole frames, memory, arithmetic.

A process holds one configuration only, so that memory is that configuration's own and libraries do not get into each
other's way.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from duotrack.errors import InputError
from duotrack.frames import FramePair, available_modalities
from duotrack.models.zoo import model_spec
from duotrack.runtime.backends import check_backend, facts_of, is_export
from duotrack.runtime.mapped import give_back
from duotrack.runtime.tile_library import tallied
from duotrack.tracking.load import load_tracker
from duotrack.tracking.tracker import Tracker
from duotrack.video import open_source

STAGES = ("decode", "crop", "network", "post")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A tracker as `load_tracker` makes it; None as there."""

    model: str
    weights: Path | None = None
    backend: str | None = None
    precision: str | None = None
    device: str = "auto"
    elimination: str | None = None

    def settled(self) -> "Configuration":
        """With back-end and precision spelt out.

        Raises:
            InputError: as `load_tracker`, of what can be told without loading.
        """
        model_spec(self.model)
        backend, precision = check_backend(self.backend, self.precision, self.weights)
        if precision is None and self.weights is not None:
            precision = facts_of(self.weights).precision
        return replace(self, backend=backend, precision=precision)

    def weights_of(self) -> tuple[str, Path | None]:
        """What is loaded, however it is computed."""
        return self.model, self.weights

    def eager(self) -> "Configuration":
        """The same network computed by torch in fp32, to count what it does; an exported one's values do not matter."""
        eager = replace(self, backend="torch", precision="fp32", device="cpu")
        if self.weights is not None and is_export(self.weights):
            return replace(eager, weights=None, elimination=facts_of(self.weights).elimination)
        return eager

    def load(self, prepare_for: tuple[str, ...]) -> Tracker:
        """The tracker, its network made ready for these modalities; a frame costs it one forward."""
        options = {("name" if k == "model" else k): v for k, v in vars(self).items()}
        return load_tracker(prepare_for=prepare_for, redetect=False, **options)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """What is tracked: the first `frames` frames of one or two videos from `box` on."""

    rgb: Path | None
    aux: Path | None
    box: tuple[float, float, float, float]
    frames: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of the videos that there are."""
        return available_modalities(self.rgb, self.aux)

    @contextmanager
    def pairs(self, *, prefetch: int) -> Iterator[Iterator[FramePair]]:
        """The frames, decoded `prefetch` frames ahead in a thread, or when they are asked for."""
        with open_source(self.rgb, self.aux, prefetch=prefetch, length_mismatch="shortest") as source:
            yield islice(source, self.frames)


@dataclass
class Round:
    """One round: seconds of each frame but the first by stage, and seconds a frame end to end."""

    stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STAGES})
    frame: float = 0.0


def measure_round(configuration: Configuration, clip: Clip) -> Round:
    """Track `clip` twice: by stage, then as `duotrack track` does, decoding ahead.

    Each frame is searched around the clip's box: nobody says what is in it, and a box that an untrained network lets
    grow to the whole frame makes crops that cost several times as much.

    Raises:
        InputError: the tracker cannot be made, or the clip has less than two frames that can be read.
    """
    tracker = ready(configuration, clip)
    give_back()  # decoders of earlier rounds leave behind what one run of a video never has
    measured = Round()
    with clip.pairs(prefetch=0) as pairs:
        _start(tracker, next(pairs, None), clip)
        before = time.perf_counter()
        for pair in pairs:
            marks = [before, time.perf_counter()]
            question = tracker.ask(pair.rgb, pair.aux)
            marks.append(_now(tracker))
            if question.available:
                maps = tracker.maps(question)
                marks.append(_now(tracker))
                tracker.answer(question, tracker.peaks(maps)[0])
                marks.append(_now(tracker))
                for name, begin, end in zip(STAGES, marks, marks[1:], strict=False):
                    measured.stages[name].append(end - begin)
            tracker.move(clip.box)
            before = time.perf_counter()
    give_back()
    with clip.pairs(prefetch=4) as pairs:
        _start(tracker, next(pairs, None), clip)
        count, began = 0, time.perf_counter()
        for count, pair in enumerate(pairs, start=1):  # noqa: B007 - the last count is wanted
            tracker.update(pair.rgb, pair.aux)
            tracker.move(clip.box)
        measured.frame = (time.perf_counter() - began) / max(count, 1)
    if not measured.stages["network"]:
        raise InputError("speed is measured from the second frame on: give a video with more frames that can be read")
    return measured


@cache
def ready(configuration: Configuration, clip: Clip) -> Tracker:
    """This process's tracker, warmed up; the peak of its memory counts from here on."""
    tracker = configuration.load(clip.modalities)
    with clip.pairs(prefetch=0) as pairs:
        first = next(pairs, None)
        _start(tracker, first, clip)
        assert first is not None, "_start refuses that"
        for pair in islice(pairs, 3):
            tracker.update(pair.rgb, pair.aux)
            tracker.move(clip.box)
    give_back()
    restart_memory_peak()
    if tracker.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(tracker.device)
    return tracker


def device_of(configuration: Configuration, clip: Clip) -> str:
    """Where this process's tracker computes."""
    return str(ready(configuration, clip).device)


def _start(tracker: Tracker, first: FramePair | None, clip: Clip) -> None:
    if first is None or not first.available:
        raise InputError("the first frame of the video cannot be read: speed cannot be measured on it")
    tracker.init(first.rgb, first.aux, clip.box)


def _now(tracker: Tracker) -> float:
    """The time when the device has done all it was told: stages would otherwise count where they wait."""
    if tracker.device.type == "cuda":
        torch.cuda.synchronize(tracker.device)
    return time.perf_counter()


def count_flops(configuration: Configuration, clip: Clip) -> int:
    """Operations of one frame in the network, a multiplication and an addition counted as two.

    Counted by torch as it runs, elimination at work, so the configuration is one that torch computes eagerly
    (`Configuration.eager`); other back-ends compute the same.
    """
    tracker = configuration.load(clip.modalities)
    with clip.pairs(prefetch=0) as pairs:
        first = next(pairs, None)
        _start(tracker, first, clip)
        assert first is not None, "_start refuses that"
        question = tracker.ask(first.rgb, first.aux)
        return counted(lambda: tracker.maps(question))


def counted(run: Callable[[], object]) -> int:
    """Operations of the products, convolutions and attentions that torch executes in `run`."""
    own = {  # those that torch does not count itself
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        torch.ops.mkldnn._linear_pointwise: _packed_flops,
        torch.ops.mkldnn._convolution_pointwise: _packed_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=own) as counter, tallied() as tally:
        run()
    return int(counter.get_total_flops()) + sum(tally)


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    batch, heads, rows, width = query  # shapes
    return int(2 * batch * heads * rows * key[-2] * (width + value[-1]))


def _packed_flops(_: Any, weight: Any, *__: Any, out_shape: Any, **___: Any) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[1:])  # outputs come first in shapes of weights


def memory_peak(configuration: Configuration, clip: Clip) -> dict[str, float]:
    """Megabytes at most since `ready`: `resident` of this process, `device` of the GPU's memory where it is used."""
    tracker = ready(configuration, clip)
    peaks = {"resident": _resident_peak()}
    if tracker.device.type == "cuda":
        # what is reserved: the memory of a captured graph counts as free between replays
        peaks["device"] = torch.cuda.max_memory_reserved(tracker.device) / 1e6
    return peaks


def restart_memory_peak() -> None:
    """Forget the peak so far, where the system can (Linux); elsewhere peaks count from the process's start."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident_peak() -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6
