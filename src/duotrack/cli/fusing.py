"""Running a fusion expert over a source into pictures or a cache: what `duotrack fuse` does."""

import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duotrack.cli.running import frames_left, interruptible, progress
from duotrack.errors import InputError
from duotrack.frames import FramePair, Image
from duotrack.fusion.cache import FrameCache
from duotrack.fusion.expert import Expert
from duotrack.video import PairedSource
from duotrack.video.overlay import draw_row
from duotrack.video.picture_sinks import PictureSink

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheSink:
    """Frames of one sequence going into a cache; those that it holds are left as they are unless `overwrite`."""

    cache: FrameCache
    dataset: str
    sequence: str
    overwrite: bool

    def holds(self, index: int) -> bool:
        """Whether the cache has this frame and may keep it."""
        return not self.overwrite and self.cache.path(self.dataset, self.sequence, index).is_file()

    def write(self, index: int, picture: Image) -> None:
        """Keep a frame."""
        self.cache.write(self.dataset, self.sequence, index, picture)


@dataclass
class Summary:
    """What happened in a run; `seconds` is spent in the expert, `elapsed` in all."""

    expert: str
    frames: int = 0
    fused: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    lacking: dict[str, int] = field(default_factory=dict)
    blank: int = 0
    kept: int = 0
    dropped: int = 0
    interrupted: bool = False
    out: str = ""

    def lines(self) -> list[str]:
        """The summary in words."""
        ended = ", ended early (Ctrl-C, SIGTERM)" if self.interrupted else ""
        rates = f"{self.frames / self.elapsed:.1f} frames/s" if self.elapsed else ""
        alone = f", {self.expert} alone {1000 * self.seconds / self.fused:.1f} ms a frame" if self.fused else ""
        lines = [f"{self.frames} frames{ended}: {rates}{alone}"]
        lines += [f"{n} frames lack {name}: the other image stands alone" for name, n in self.lacking.items() if n]
        lines += [f"{self.blank} frames have no image at all: black"] if self.blank else []
        lines += [f"{self.kept} frames were in the cache already"] if self.kept else []
        lines += [f"{self.dropped} frames were dropped to keep up"] if self.dropped else []
        return [*lines, f"out: {self.out}"]

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON would hold it."""
        return asdict(self)


def fuse_source(
    source: PairedSource,
    expert: Expert,
    sink: PictureSink | CacheSink,
    *,
    device: torch.device,
    start: int = 0,
    max_frames: int | None = None,
    side_by_side: bool = False,
) -> Summary:
    """Fuse every frame of `source` from `start` on into `sink`.

    Where one image is missing the other one takes its place, unfused; where both are, the picture is black. The first
    Ctrl-C or SIGTERM ends the run after the frame in hand, with whole files.

    Raises:
        InputError: the source ends before `start`, or the expert returns something that is no picture.
    """
    summary = Summary(expert.name, lacking=dict.fromkeys(source.sides, 0))
    frames = islice(source, start, None if max_frames is None else start + max_frames)
    began = time.perf_counter()
    with interruptible() as interrupt, progress("fusing", frames_left(source, start, max_frames)) as advance:
        first = next(frames, None)
        if first is None:
            raise InputError(f"the source ends before frame {start}: nothing to fuse; choose a smaller --start")
        with nullcontext() if isinstance(sink, CacheSink) else sink:
            for pair in interrupt.guard(_counted(chain([first], frames), summary)):
                if isinstance(sink, CacheSink) and sink.holds(pair.index):
                    summary.kept += 1
                else:
                    picture = _picture(pair, expert, device, source.size, summary)
                    if side_by_side:
                        images = {"rgb": pair.rgb, "aux": pair.aux, expert.name: picture}
                        picture = draw_row(images, (), size=source.size, index=pair.index)
                    sink.write(pair.index, picture)
                advance()
    summary.elapsed = time.perf_counter() - began
    summary.interrupted = interrupt.pressed
    summary.dropped = source.dropped
    summary.out = str(sink.cache.folder if isinstance(sink, CacheSink) else sink.path)
    return summary


def _counted(pairs: Iterator[FramePair], summary: Summary) -> Iterator[FramePair]:
    for pair in pairs:
        summary.frames += 1
        yield pair


def _picture(pair: FramePair, expert: Expert, device: torch.device, size: tuple[int, int], summary: Summary) -> Image:
    if pair.rgb is not None and pair.aux is not None:
        began = time.perf_counter()
        try:
            fused = to_image(expert(*(to_unit(image, device) for image in (pair.rgb, pair.aux))))
        except InputError as error:
            raise InputError(f"frame {pair.index}: {error}") from error
        summary.seconds += time.perf_counter() - began
        summary.fused += 1
        return fused
    only = pair.aux if pair.rgb is None else pair.rgb
    if only is None:
        summary.blank += 1
        return np.zeros((size[1], size[0], 3), np.uint8)
    lacks = "rgb" if pair.rgb is None else "aux"
    if not summary.lacking[lacks]:
        _log.warning(
            "frame %d has no %s image: the other one takes its place, here and wherever it is so", pair.index, lacks
        )
    summary.lacking[lacks] += 1
    return only


def to_unit(image: Image, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1] on `device`."""
    return torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255


def to_image(picture: Tensor) -> Image:
    """(1, 3, H, W) in [0, 1] -> (H, W, 3) uint8."""
    levels = (picture[0] * 255).round().byte().permute(1, 2, 0).cpu()
    return np.ascontiguousarray(levels.numpy())
