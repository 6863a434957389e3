"""Many targets in many videos, advanced in lockstep: one forward of the network a step.

The trackers are ordinary ones (`Tracker.clone` of one another); only the network's work is shared. A stack of samples
is always of the same size, the last one filled up by repetition, because how a matrix product rounds depends on how
many rows it has: so a target's boxes do not depend on which others happen to be beside it, nor on how many are left.
They still differ from one-by-one tracking by rounding, which tracking can blow up (a cell on the brink, a crop on the
brink of a pixel). A `stack` of 1 looks at one sample after the other: exactly the boxes of one-by-one tracking.
"""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from duotrack.errors import InputError
from duotrack.frames import Image, Modality, TrackResult
from duotrack.tracking.decode import Peak
from duotrack.tracking.images import FrameCheck
from duotrack.tracking.question import Question, default_stack
from duotrack.tracking.tracker import Tracker

Frame = tuple[Image | None, Image | None]


def update_together(trackers: Sequence[Tracker], frames: Sequence[Frame], *, stack: int) -> list[TrackResult]:
    """`Tracker.update` of each tracker with its frame (rgb, aux), the network's work done together.

    Args:
        trackers: clones of one another, each after `init`; frames and targets may have any size.
        frames: one a tracker; images may be missing.
        stack: samples in one forward; 1 gives exactly what one-by-one tracking gives.

    Raises:
        InputError: as `Tracker.update`; no tracker has then moved.
    """
    questions = [tracker.ask(*frame) for tracker, frame in zip(trackers, frames, strict=True)]
    return answer_together(trackers, questions, stack=stack)


def answer_together(trackers: Sequence[Tracker], questions: Sequence[Question], *, stack: int) -> list[TrackResult]:
    """The rest of `update_together` for questions that `Tracker.ask` gave."""
    peaks: list[Peak | None] = [None] * len(questions)
    groups: dict[tuple[Modality, ...], list[int]] = {}
    for index, question in enumerate(questions):
        if question.available:
            groups.setdefault(question.available, []).append(index)
    for indices in groups.values():  # samples that show the same modalities go together
        for chunk in (indices[start : start + stack] for start in range(0, len(indices), stack)):
            found = trackers[chunk[0]].look_together([questions[index] for index in chunk], stack)
            for index, peak in zip(chunk, found, strict=True):
                peaks[index] = peak
    triples = zip(trackers, questions, peaks, strict=True)
    return [tracker.answer(question, peak) for tracker, question, peak in triples]


class MultiTracker:
    """Follows several objects through one video: frames are checked and decoded once, the network is shared.

    On a GPU all targets of a frame are one forward, on the CPU one after the other (`default_stack`).

    Args:
        tracker: gives the network and settings; its own target is not touched.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._prototype = tracker
        self._check = FrameCheck(tracker.kind, tracker.depth_colours)
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
        stack = default_stack(self._prototype.device, len(self._trackers))
        return update_together(self._trackers, [images] * len(self._trackers), stack=stack)
