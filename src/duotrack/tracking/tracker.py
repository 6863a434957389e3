"""The online tracker (docs/specs/ckd.md, section 5)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duotrack.boxes import clip_xywh
from duotrack.errors import InputError
from duotrack.frames import Image, Modality, TrackResult, available_modalities
from duotrack.models.outputs import HeadMaps
from duotrack.models.zoo import Geometry
from duotrack.tracking.decode import Peak, find_peaks, hann_window, map_back
from duotrack.tracking.images import FrameCheck, check_box, frame_size
from duotrack.tracking.state import Memory, StateRule, calibrate, step
from duotrack.tracking.view import view

logger = logging.getLogger(__name__)

Pair = tuple[Tensor | None, Tensor | None]


class Network(Protocol):
    """What the tracker asks of a network: any module of `duotrack.models`, or a stand-in."""

    def __call__(self, *, template: Pair, search: Pair, available: tuple[str, ...]) -> HeadMaps:
        """Normalised template and search crops (1, 3, S, S), None where missing, to the maps of a centre head."""
        ...


@dataclass(frozen=True, eq=False)
class Question:
    """What a tracker asks its network about one frame that has at least one image.

    `template` and `search` as the network reads them, (1, 3, S, S) on its device, (rgb, aux), None where that one is
    missing; `resize_factor` of the search crops.
    """

    template: Pair
    search: Pair
    resize_factor: float

    @property
    def available(self) -> tuple[Modality, ...]:
        """The modalities that the search region has."""
        return available_modalities(*self.search)


@dataclass(frozen=True, eq=False)
class _Target:
    """What is known of the object that is being followed."""

    template: Pair
    size: tuple[int, int]
    box: NDArray[np.float64]
    memory: Memory


class Tracker:
    """Follows one object through a pair of aligned videos: `init` once (or again, at any frame), then `update`.

    Args:
        net: the network, ready on `device` (`duotrack.runtime.prepare`).
        geometry: sizes and factors of its crops.
        calibration: (slope, intercept) from the raw score to the confidence; see `duotrack.tracking.state`.
        rule: when the state changes.
        device: where crops are sent.
    """

    def __init__(
        self,
        net: Network,
        *,
        geometry: Geometry,
        calibration: tuple[float, float] = (1.0, 0.0),
        rule: StateRule | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.net = net
        self.geometry = geometry
        self.calibration = calibration
        self.rule = rule or StateRule()
        self.device = torch.device(device)
        self._check = FrameCheck()
        self._window: Tensor | None = None
        self._target: _Target | None = None
        self._warned = False

    def clone(self) -> "Tracker":
        """Another tracker on the same network, without a target."""
        return Tracker(
            self.net, geometry=self.geometry, calibration=self.calibration, rule=self.rule, device=self.device
        )

    @torch.inference_mode()
    def init(self, rgb: Image | None, aux: Image | None, box: ArrayLike) -> TrackResult:
        """Take the object in `box` as the target.

        Args:
            rgb, aux: (H, W, 3) uint8 in RGB order, or None where missing, not both. A modality that is missing here may
                come later: it is then searched with the other's template.
            box: x, y, w, h in pixels.

        Returns:
            The result of this frame: the box as given, score 1, state "tracking".

        Raises:
            InputError: both images missing, images of different size or of a type that cannot be converted, a box that
                is not finite, has no size or lies outside.
        """
        self._check.restart()
        rgb, aux = self._check(rgb, aux)
        size = frame_size(rgb, aux)
        if size is None:
            raise InputError("both images are missing (None): the first frame needs rgb, aux or both")
        start = check_box(box, *size)
        template, _ = self._crop(rgb, aux, start, self.geometry.template_factor, self.geometry.template_size)
        self._target = _Target(template, size, start, Memory())
        return TrackResult(start.copy(), 1.0, "tracking", available_modalities(rgb, aux))

    def update(self, rgb: Image | None, aux: Image | None) -> TrackResult:
        """Find the target in the next frame.

        With one image missing the network works with the other; with both missing the box is held, the score is 0.

        Args:
            rgb, aux: as in `init`, of the same size as there.

        Raises:
            InputError: called before `init`, or images that cannot be used.
        """
        question = self.ask(rgb, aux)
        return self.answer(question, None if question is None else self.look(question))

    def ask(self, rgb: Image | None, aux: Image | None) -> Question | None:
        """The first third of `update`: where to look in the next frame; None when both images are missing.

        Nothing of the target changes. `look` and `answer` are the others; `duotrack.tracking.batch` puts the questions
        of many trackers to the network at once.

        Raises:
            InputError: as `update`.
        """
        if self._target is None:
            raise InputError("update was called before init: call init(rgb, aux, box) with the first frame and its box")
        target = self._target
        rgb, aux = self._check(rgb, aux)
        size = frame_size(rgb, aux)
        if size is None:
            return None
        if size != target.size:
            raise InputError(
                f"the frame is {size[1]}x{size[0]} pixels, the one at init was {target.size[1]}x{target.size[0]}: "
                "keep the size, or call init again"
            )
        search, resize_factor = self._crop(rgb, aux, target.box, self.geometry.search_factor, self.geometry.search_size)
        return Question(target.template, search, resize_factor)

    @torch.inference_mode()
    def look(self, question: Question) -> Peak:
        """The second third of `update`: the network's answer."""
        return self.peaks(self.maps(question))[0]

    @torch.inference_mode()
    def maps(self, question: Question) -> HeadMaps:
        """The network alone."""
        return self.net(template=question.template, search=question.search, available=question.available)

    def peaks(self, maps: HeadMaps) -> list[Peak]:
        """The best cell of each sample's maps under this tracker's window."""
        height, width = maps.score_map.shape[-2:]
        if self._window is None or self._window.shape != (height, width):
            self._window = hann_window(height, width).to(maps.score_map.device)
        return find_peaks(maps, self._window)

    def answer(self, question: Question | None, peak: Peak | None) -> TrackResult:
        """The last third of `update`: follow what was found; the box is held where there was no question."""
        target = self._target
        assert target is not None, "ask comes first"
        box, score = (target.box, 0.0) if question is None or peak is None else self._found(target, question, peak)
        memory, state = step(self.rule, target.memory, score)
        self._target = _Target(target.template, target.size, box, memory)
        return TrackResult(box.copy(), score, state, () if question is None else question.available)

    def _found(self, target: _Target, question: Question, peak: Peak) -> tuple[NDArray[np.float64], float]:
        """Box in the frame and calibrated score."""
        if not np.isfinite([*peak.box, peak.score]).all():
            if not self._warned:
                logger.warning("the network answered NaN: box held, score 0 (broken weights, or half precision?)")
                self._warned = True
            return target.box, 0.0
        size = self.geometry.search_size
        found = map_back(peak.box, target.box, size=size, resize_factor=question.resize_factor)
        return clip_xywh(found, *target.size), calibrate(peak.score, self.calibration)

    def _crop(
        self, rgb: Image | None, aux: Image | None, box: NDArray[np.float64], factor: float, size: int
    ) -> tuple[Pair, float]:
        """The same square of both images, and its resize factor."""
        images = [image for image in (rgb, aux) if image is not None]
        seen, resize_factor = view(images, box, factor, size, self.device)
        return (None if rgb is None else seen[:1], None if aux is None else seen[-1:]), resize_factor


class MultiTracker:
    """Follows several objects through one video: frames are checked and decoded once, the network is shared.

    Args:
        tracker: gives the network and settings; its own target is not touched.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._prototype = tracker
        self._check = FrameCheck()
        self._trackers: list[Tracker] = []

    def init(self, rgb: Image | None, aux: Image | None, boxes: Sequence[ArrayLike]) -> list[TrackResult]:
        """Take one target a box; see `Tracker.init`. Also starts anew, at any frame."""
        if len(boxes) == 0:
            raise InputError("no box was given: tracking needs at least one x, y, w, h")
        self._check.restart()
        images = self._check(rgb, aux)
        trackers = [self._prototype.clone() for _ in boxes]
        results = [tracker.init(*images, box) for tracker, box in zip(trackers, boxes, strict=True)]
        self._trackers = trackers
        return results

    def update(self, rgb: Image | None, aux: Image | None) -> list[TrackResult]:
        """Find every target in the next frame, in the order of the boxes; see `Tracker.update`."""
        if not self._trackers:
            raise InputError("update was called before init: call init(rgb, aux, boxes) with the first frame")
        images = self._check(rgb, aux)
        return [tracker.update(*images) for tracker in self._trackers]
