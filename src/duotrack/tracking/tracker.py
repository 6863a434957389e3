"""The online tracker (docs/specs/ckd.md, section 5)."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duotrack.boxes import clip_xywh
from duotrack.depth import Colours
from duotrack.errors import InputError
from duotrack.frames import Image, Kind, Modality, TrackResult, available_modalities
from duotrack.models.outputs import HeadMaps
from duotrack.models.zoo import Geometry
from duotrack.tracking.bias import NONE, Bias, measure, unbiased
from duotrack.tracking.crop import square_around
from duotrack.tracking.decode import Peak, find_peaks, hann_window, map_back
from duotrack.tracking.images import FrameCheck, check_box, frame_size
from duotrack.tracking.missing import Images, Past, Policy, remember, shown_instead
from duotrack.tracking.preprocess import fade_rim
from duotrack.tracking.question import Network, Pair, Question, default_stack, stacked_maps
from duotrack.tracking.redetect import Box, Hunt, Place, Redetection, held, pursue
from duotrack.tracking.state import Memory, StateRule, calibrate, step
from duotrack.tracking.template import Renewal, TemplateRule, cut_again, renew, usable
from duotrack.tracking.view import view, view_template

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Target:
    """What is known of the object that is being followed.

    `box` is where the network has it, and what is searched around; `reported` the same less the network's `bias`;
    `first`: the modalities of the frame it was shown in.
    """

    template: Any
    size: tuple[int, int]
    box: NDArray[np.float64]
    memory: Memory
    past: Past
    first: tuple[Modality, ...]
    renewal: Renewal
    hunt: Hunt
    reported: NDArray[np.float64]
    bias: Bias = NONE


class Tracker:
    """Follows one object through a pair of aligned videos: `init` once (or again, at any frame), then `update`.

    Args:
        net: the network, ready on `device` (`duotrack.runtime.prepare`).
        geometry: sizes and factors of its crops.
        calibration: (slope, intercept) from the raw score to the confidence; see `duotrack.tracking.state`.
        windowed_score: the raw score is taken times the window that chose the cell.
        rule: when the state changes.
        missing: what to do about a sensor that drops out; see `duotrack.tracking.missing`.
        templates: when the second template is renewed, with its theta; None never hands the network one.
        redetect: how to find a target again that the ordinary search lost; None: not at all, as published trackers.
        device: where crops are sent.
        kind: what aux shows: "thermal", "depth" ((H, W) uint16 millimetres, or rendered already) or "event".
        depth_colours: order of the channels of depth that is rendered here, see `duotrack.depth`.
    """

    def __init__(
        self,
        net: Network,
        *,
        geometry: Geometry,
        calibration: tuple[float, float] = (1.0, 0.0),
        windowed_score: bool = False,
        rule: StateRule | None = None,
        missing: Policy = "model",
        templates: TemplateRule | None = None,
        redetect: Redetection | None = None,
        device: torch.device | str = "cpu",
        kind: Kind = "thermal",
        depth_colours: Colours = "bgr",
    ) -> None:
        self.net = net
        self.geometry = geometry
        self.calibration = calibration
        self.windowed_score = windowed_score
        self.rule = rule or StateRule()
        self.missing: Policy = missing
        self.templates = templates
        self.redetect = redetect
        self.device = torch.device(device)
        self.kind: Kind = kind
        self.depth_colours: Colours = depth_colours
        self._check = FrameCheck(kind, depth_colours)
        self._window: Tensor | None = None
        self._target: _Target | None = None
        self._warned = False

    def clone(self) -> "Tracker":
        """Another tracker on the same network, without a target."""
        return Tracker(
            self.net,
            geometry=self.geometry,
            calibration=self.calibration,
            windowed_score=self.windowed_score,
            rule=self.rule,
            missing=self.missing,
            templates=self.templates,
            redetect=self.redetect,
            device=self.device,
            kind=self.kind,
            depth_colours=self.depth_colours,
        )

    @torch.inference_mode()
    def init(self, rgb: Image | None, aux: Image | None, box: ArrayLike) -> TrackResult:
        """Take the object in `box` as the target.

        Args:
            rgb, aux: (H, W, 3) uint8 in RGB order, or None where missing, not both; depth as `kind` says. A modality
                that is missing here may come later: it is then searched with the other's template.
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
        there = available_modalities(rgb, aux)
        past = remember(self.missing, (rgb, aux), Past())
        template = self._template(rgb, aux, start)
        bias = self._bias(Question(template, (None, None), 1.0, there, past), (rgb, aux), start)
        seen = start if bias is NONE else unbiased(start, bias, -1)
        self._target = _Target(template, size, start, Memory(), past, there, Renewal(), Hunt(seen), start, bias)
        return TrackResult(start.copy(), 1.0, "tracking", there)

    @torch.inference_mode()  # which takes tensors that want gradients, as `init` does
    def move(self, box: ArrayLike) -> None:
        """Search the next frame around another box, because somebody knows better: between two updates.

        What was learnt of how the target looks stays, a second template too; what is reported is the box as given, the
        state is "tracking" again, and re-detection begins anew, as after `init`.

        Args:
            box: x, y, w, h in pixels.

        Raises:
            InputError: called before `init`, or a box as `init` refuses it.
        """
        target = self._known("move(box)")
        start = check_box(box, *target.size)
        seen = start if target.bias is NONE else unbiased(start, target.bias, -1)
        self._target = replace(target, box=start, reported=start, memory=Memory(), hunt=Hunt(seen))

    def update(self, rgb: Image | None, aux: Image | None) -> TrackResult:
        """Find the target in the next frame.

        With one image missing it does what `missing` says; with both missing the box is held, the score is 0.

        Args:
            rgb, aux: as in `init`, of the same size as there.

        Raises:
            InputError: called before `init`, or images that cannot be used.
        """
        question = self.ask(rgb, aux)
        return self.answer(question, self.look(question) if question.available else None)

    def ask(self, rgb: Image | None, aux: Image | None) -> Question:
        """The first third of `update`: where to look in the next frame.

        Nothing of the target changes. `look` and `answer` are the others; `duotrack.tracking.batch` puts the questions
        of many trackers to the network at once.

        Raises:
            InputError: as `update`.
        """
        target = self._known("update")
        rgb, aux = self._check(rgb, aux)
        size = frame_size(rgb, aux)
        if size is not None and size != target.size:
            raise InputError(
                f"the frame is {size[1]}x{size[0]} pixels, the one at init was {target.size[1]}x{target.size[0]}: "
                "keep the size, or call init again"
            )
        shown = shown_instead(self.missing, (rgb, aux), target.past)
        search, resize_factor = self._crop(*shown, target.box, self.geometry.search_factor, self.geometry.search_size)
        past = remember(self.missing, (rgb, aux), target.past)
        question = Question(target.template, search, resize_factor, available_modalities(rgb, aux), past)
        if self.redetect is not None:
            question = replace(question, shown=shown)
        if self.templates is None:
            return question
        return replace(question, dynamic=target.renewal.template, images=(rgb, aux))

    @torch.inference_mode()
    def look(self, question: Question) -> Peak:
        """The second third of `update`: the network's answer to a question that has something to look at."""
        return self.peaks(self.maps(question))[0]

    @torch.inference_mode()
    def look_together(self, questions: list[Question], stack: int, *, near: bool = True) -> list[Peak]:
        """`look` at questions that have the same modalities, at most `stack`, in one forward of that many samples.

        A `stack` of 1 looks at one after the other. Without `near` no place in the search region is preferred.
        """
        if stack == 1:
            return [self.peaks(self.maps(question), near=near)[0] for question in questions]
        maps = stacked_maps(self.net, questions, stack, two_templates=self.templates is not None)
        return self.peaks(maps, near=near)[: len(questions)]

    @torch.inference_mode()
    def maps(self, question: Question) -> HeadMaps:
        """The network alone."""
        second = {} if self.templates is None else {"dynamic": question.dynamic}
        return self.net(template=question.template, search=question.search, available=question.available, **second)

    def peaks(self, maps: HeadMaps, *, near: bool = True) -> list[Peak]:
        """The best cell of each sample's maps under this tracker's window, or `near` False under none."""
        height, width = maps.score_map.shape[-2:]
        if self._window is None or self._window.shape != (height, width):
            self._window = (hann_window(height, width) ** self.geometry.window).to(maps.score_map.device)
        peaks = find_peaks(maps, self._window if near else torch.ones_like(self._window))
        if self.templates is None or not self.templates.reuse_crop:
            return peaks
        fused = maps.fused  # type: ignore[attr-defined]  # of networks that fuse pixels
        return [replace(peak, fused=fused[i : i + 1]) for i, peak in enumerate(peaks)]

    @torch.inference_mode()
    def answer(self, question: Question, peak: Peak | None) -> TrackResult:
        """The last third of `update`: follow what was found; the box is held where nothing was looked at."""
        target = self._target
        assert target is not None, "ask comes first"
        found = None if peak is None else self._found(target.box, question, peak)
        box, score, fresh = target.box, 0.0, found
        if peak is not None and found is not None:
            box, score = clip_xywh(found, *target.size), self._score(peak)
        memory, hunt, certain = target.memory, target.hunt, found
        if self.redetect is not None:
            look = partial(self._look_elsewhere, question)
            factor = self.geometry.search_factor
            hunt, elsewhere = pursue(self.redetect, hunt, box, score, images=question.shown, factor=factor, look=look)
            if elsewhere is not None:
                box, score = elsewhere
                memory, fresh = Memory(), box
            elif score < self.redetect.begin_below:
                box, fresh = clip_xywh(held(hunt, target.box), *target.size), None
            certain = found if elsewhere is None and score >= self.redetect.begin_below else None
        memory, state = step(self.rule, memory, score)
        renewal = target.renewal if self.templates is None else self._renewed(target, question, peak, certain, box)
        reported = self._reported(target, hunt, fresh) if self.geometry.unbias else box
        self._target = replace(
            target, box=box, memory=memory, past=question.past, renewal=renewal, hunt=hunt, reported=reported
        )
        return TrackResult(reported.copy(), score, state, question.present)

    def _known(self, wanted: str) -> _Target:
        if self._target is None:
            raise InputError(
                f"{wanted} was called before init: call init(rgb, aux, box) with the first frame and its box"
            )
        return self._target

    def _bias(self, question: Question, images: Images, start: Box) -> Bias:
        """What the network sees otherwise in the first frame; nothing is learnt of a box at the border, or tiny."""
        height, width = frame_size(*images) or (0, 0)
        if not self.geometry.unbias or not np.allclose(clip_xywh(start, height, width), start):
            return NONE
        search, factor = self._crop(*images, start, self.geometry.search_factor, self.geometry.search_size)
        question = replace(question, search=search, resize_factor=factor)
        seen = self._found(start, question, self.look(question))
        return NONE if seen is None else measure(seen, start)

    def _reported(self, target: _Target, hunt: Hunt, fresh: Box | None) -> Box:
        """A box that was found, less the bias; else the last one reported, in a hunt with the anchor's size."""
        share = self.geometry.unbias
        if fresh is not None:
            return clip_xywh(unbiased(fresh, target.bias, share), *target.size)
        if hunt.cursor is None:
            return target.reported
        sides = unbiased(hunt.anchor, target.bias, share)[2:]
        middle = target.reported[:2] + target.reported[2:] / 2
        return clip_xywh(np.concatenate([middle - sides / 2, sides]), *target.size)

    def _look_elsewhere(self, question: Question, places: Sequence[Place], near: bool) -> list[tuple[Box, float]]:
        """What the network finds in other squares of the frame of a question: boxes, clipped, and confidences."""
        target = self._target
        assert target is not None
        asked = []
        for around, factor in places:
            search, resize_factor = self._crop(*question.shown, around, factor, self.geometry.search_size)
            asked.append(replace(question, search=search, resize_factor=resize_factor))
        peaks = self.look_together(asked, default_stack(self.device, len(asked)), near=near)
        found = []
        for (around, _), each, peak in zip(places, asked, peaks, strict=True):
            box = self._found(around, each, peak)
            found.append((around, 0.0) if box is None else (clip_xywh(box, *target.size), self._score(peak)))
        return found

    def _score(self, peak: Peak) -> float:
        return calibrate(peak.windowed if self.windowed_score else peak.score, self.calibration)

    def _found(self, around: Box, question: Question, peak: Peak) -> Box | None:
        """The box in the frame, not clipped, of a question cut around a box; None where the answer makes no sense."""
        if not all(map(math.isfinite, (*peak.box.tolist(), peak.score))):
            if not self._warned:
                logger.warning("the network answered NaN: box held, score 0 (broken weights, or half precision?)")
                self._warned = True
            return None
        size = self.geometry.search_size
        return map_back(peak.box, around, size=size, resize_factor=question.resize_factor)

    def _renewed(
        self,
        target: _Target,
        question: Question,
        peak: Peak | None,
        found: NDArray[np.float64] | None,
        box: NDArray[np.float64],
    ) -> Renewal:
        """The second template after this frame, in which `found` was clipped to `box`."""
        assert self.templates is not None
        confidence = None
        if peak is not None and found is not None:
            whole = set(target.first) <= set(available_modalities(*question.images))
            confidence = peak.highest if whole and usable(found, *target.size) else None

        def take() -> Any:
            if peak is None or peak.fused is None:
                return self._template(*question.images, box)
            geometry = self.geometry
            before, now = (
                square_around(target.box, geometry.search_factor),
                square_around(box, geometry.template_factor),
            )
            cut = fade_rim(cut_again(peak.fused, before, now, geometry.template_size), box, now, geometry.rim)
            return self.net.remember_fused(cut)  # type: ignore[attr-defined]  # as every network that gives `fused`

        return renew(self.templates, target.renewal, confidence, take)

    def _template(self, rgb: Image | None, aux: Image | None, box: NDArray[np.float64]) -> Any:
        """What the network keeps of the object in `box`: its own memory of both crops, else the crops."""
        images = [image for image in (rgb, aux) if image is not None]
        seen, _ = view_template(images, box, self.geometry, self.device)
        pair = (None if rgb is None else seen[:1], None if aux is None else seen[-1:])
        memorise = getattr(self.net, "remember", None)
        return pair if memorise is None else memorise(pair)

    def _crop(
        self, rgb: Image | None, aux: Image | None, box: NDArray[np.float64], factor: float, size: int
    ) -> tuple[Pair, float]:
        """The same square of both images, and its resize factor; 1 where there is no image."""
        images = [image for image in (rgb, aux) if image is not None]
        if not images:
            return (None, None), 1.0
        seen, resize_factor = view(images, box, factor, size, self.device)
        return (None if rgb is None else seen[:1], None if aux is None else seen[-1:]), resize_factor
