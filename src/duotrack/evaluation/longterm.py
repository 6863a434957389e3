"""Long-term measures of RGB-D tracking: precision, recall and F over the confidences that a tracker reports.

Source: docs/specs/evaluation.md, section 4 (the VOT toolkit's stack `votrgbd2021`). The curves are those of vot-toolkit
0.7.4 on generated data (`tests/golden/longterm_vot.npz`), which showed what the specification does not say: the toolkit
compares boxes on the pixel grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duotrack.boxes import iou_xyxy, xywh_to_xyxy
from duotrack.datasets.ground_truth import GroundTruth
from duotrack.errors import InputError
from duotrack.evaluation.results import Results, to_ltwh

Floats = NDArray[np.float64]
_FINITE = 98


@dataclass(frozen=True, eq=False)
class LongTerm:
    """Precision, recall and F at the threshold where F is largest, and the curves over all thresholds, descending."""

    precision: float
    recall: float
    F: float
    threshold: float
    thresholds: Floats
    precisions: Floats
    recalls: Floats
    clipped: bool

    def describe(self) -> str:
        """One line that belongs beside these numbers: what was done where tools differ."""
        clipped = "clipped" if self.clipped else "not clipped (frames are not at hand)"
        return (
            "long-term: Pr and Re at the confidence threshold where F is largest, means over sequences, boxes "
            f"rounded to pixels, {clipped} to the image"
        )


def longterm(ground_truth: Sequence[GroundTruth], results: Results) -> LongTerm:
    """The long-term measures, a mean over the sequences that have a result.

    Per sequence and threshold: precision is the mean overlap of the frames at or above it (1 where there is none),
    recall the sum of those overlaps divided by the number of frames with a visible target. Left, top, width and height
    of boxes are rounded (half to even), and boxes are clipped to the image where its size is known. A frame without
    target, box or confidence has overlap 0 in the first two cases, and counts at the threshold -inf only in the last.

    The first frame counts as it is written: a hit in files of ours, which begin with the given box and confidence 1; a
    miss in the toolkit's own files, which hold neither there.

    Raises:
        InputError: a sequence has no confidences.
    """
    truths = [truth for truth in ground_truth if truth.name in results.boxes]
    lacking = [truth.name for truth in truths if truth.name not in results.confidences]
    if lacking:
        raise InputError(
            f"{results.tracker}: {len(lacking)} of {len(truths)} sequences have no confidence file, such as "
            f"{lacking[0]}_confidence.value; precision, recall and F need them: complete them, or remove the others"
        )
    pairs = [_sequence(truth, results) for truth in truths]
    thresholds = find_thresholds(np.concatenate([confidence for _, confidence in pairs]))
    precisions, recalls = np.empty((2, len(truths), len(thresholds)))
    for row, (truth, (overlap, confidence)) in enumerate(zip(truths, pairs, strict=True)):
        order = np.argsort(-confidence, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(overlap[order])])
        counted = np.searchsorted(-confidence[order], -thresholds, side="right")
        precisions[row] = np.where(counted > 0, sums[counted] / np.maximum(counted, 1), 1.0)
        visible = (truth.boxes[0][:, 2:] > 0).all(axis=1).sum()
        recalls[row] = sums[counted] / max(int(visible), 1)
    precision, recall = precisions.mean(axis=0), recalls.mean(axis=0)
    both = precision + recall
    f = np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), 0.0)
    best = int(f.argmax())
    return LongTerm(
        precision=float(precision[best]),
        recall=float(recall[best]),
        F=float(f[best]),
        threshold=float(thresholds[best]),
        thresholds=thresholds,
        precisions=precision,
        recalls=recall,
        clipped=all(truth.size is not None for truth in truths),
    )


def find_thresholds(confidences: Floats) -> Floats:
    """+inf, up to 98 of the finite confidences at evenly spaced ranks, -inf: descending.

    With n confidences the ranks run from n // 98 to n - n // 98, so that neither the first nor the last is taken.
    """
    finite = np.sort(confidences[np.isfinite(confidences)])[::-1]
    if len(finite) > _FINITE:
        step = len(finite) // _FINITE
        finite = finite[np.rint(np.linspace(step, len(finite) - step, _FINITE)).astype(np.int64)]
    return np.concatenate([[np.inf], finite, [-np.inf]])


def _sequence(truth: GroundTruth, results: Results) -> tuple[Floats, Floats]:
    """(N,) overlap and confidence of every frame of the ground truth."""
    count = len(truth)
    boxes = np.full((count, 4), np.nan)
    rows = to_ltwh(results.boxes[truth.name][:count], results.format)
    boxes[: len(rows)] = rows
    confidence = np.full(count, -np.inf)
    given = results.confidences[truth.name][: len(rows)]
    confidence[: len(given)] = np.where(np.isnan(given), -np.inf, given)
    ours, theirs = xywh_to_xyxy(np.rint(boxes)), xywh_to_xyxy(np.rint(truth.boxes[0]))
    if truth.size is not None:
        limit = np.array([*truth.size, *truth.size], np.float64)
        ours, theirs = np.clip(ours, 0, limit), np.clip(theirs, 0, limit)
    return np.clip(np.nan_to_num(iou_xyxy(ours, theirs)), 0, 1), confidence
