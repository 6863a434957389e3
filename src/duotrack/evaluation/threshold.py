"""From which confidence a frame may give the second template: fitted on sequences with ground truth.

The rule, ours (docs/specs/tpf.md, section 6): the smallest theta such that boxes found with a confidence of at least
theta overlap the truth by `least` on average. It depends on how a head was trained: every set of weights has its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duotrack.boxes import iou_xywh
from duotrack.datasets.sequence import Sequence
from duotrack.errors import InputError
from duotrack.tracking.tracker import Tracker

LEAST_IOU = 0.7
BINS = 20


@dataclass(frozen=True, eq=False)
class Confidences:
    """What a tracker said and did: `confidence` (N,) maximum of the raw score map, `iou` (N,) of box and truth.

    A frame without a visible target has an IoU of 0: its template would show something else.
    """

    confidence: NDArray[np.float64]
    iou: NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """A fitted `theta`; of the `frames` the share `kept` has at least that confidence, and `iou` on average."""

    theta: float
    kept: float
    iou: float
    frames: int


def confidences(
    tracker: Tracker, sequences: Iterable[Sequence], *, watch: Callable[[Sequence], None] = lambda sequence: None
) -> Confidences:
    """Track each sequence from its first box to its end, comparing all other frames with the truth.

    Frames without any image are left out; annotation has to be of every frame.

    Args:
        tracker: gives the network and settings; renewal of templates should be off, so that no theta decides what is
            measured.
        watch: is told every sequence that was tracked.

    Raises:
        InputError: a sequence's first frame cannot be used.
    """
    said: list[float] = []
    overlap: list[float] = []
    for sequence in sequences:
        one = tracker.clone()
        for index in range(len(sequence)):
            pair = sequence.read(index)
            if index == 0:
                try:
                    one.init(pair.rgb, pair.aux, sequence.boxes[0])
                except InputError as error:
                    raise InputError(f"{sequence.name}, frame 0: {error}") from error
                continue
            question = one.ask(pair.rgb, pair.aux)
            if not question.available:
                one.answer(question, None)
                continue
            peak = one.look(question)
            box = one.answer(question, peak).box
            said.append(peak.highest)
            overlap.append(float(iou_xywh(box, sequence.boxes[index])) if sequence.visible[index] else 0.0)
        watch(sequence)
    return Confidences(np.array(said), np.array(overlap))


def fit_theta(measured: Confidences, *, least: float = LEAST_IOU) -> Threshold:
    """The smallest observed confidence above which, itself included, boxes overlap the truth by `least` on average.

    Raises:
        InputError: nothing was measured, or no threshold gets there.
    """
    order = np.argsort(-measured.confidence, kind="stable")
    order = order[np.isfinite(measured.confidence[order])]
    if len(order) == 0:
        raise InputError("no frame to fit a threshold on: the sequences have no frame after the first that can be read")
    sorted_confidence = measured.confidence[order]
    mean = np.cumsum(measured.iou[order]) / np.arange(1, len(order) + 1)
    last = np.append(sorted_confidence[1:] != sorted_confidence[:-1], True)  # equal confidences pass together
    good = np.flatnonzero(last & (mean >= least))
    if len(good) == 0:
        raise InputError(
            f"no threshold: whatever is left out of {len(order)} boxes, the rest overlaps the truth by "
            f"{mean[last].max():.3f} at best, {least:g} is wanted; train longer, or take a smaller --least-iou"
        )
    at = int(good[-1])
    return Threshold(float(sorted_confidence[at]), (at + 1) / len(order), float(mean[at]), len(order))


def curve(measured: Confidences) -> list[tuple[float, float, int]]:
    """Mean IoU in `BINS` equal steps of confidence: (middle of the step, mean, frames); empty steps are left out."""
    step = np.clip((measured.confidence * BINS).astype(int), 0, BINS - 1)
    rows = [(bin, measured.iou[step == bin]) for bin in range(BINS)]
    return [((bin + 0.5) / BINS, float(iou.mean()), len(iou)) for bin, iou in rows if len(iou)]
