"""Results laid over ground truth: error and overlap of every frame, as a protocol sees it.

Vectorised over all frames of all sequences, float64. Source: docs/specs/evaluation.md, sections 1 and 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.ground_truth import GroundTruth
from duotrack.errors import InputError
from duotrack.evaluation.protocols import Protocol
from duotrack.evaluation.results import Results, to_ltwh

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frames:
    """Error and overlap of every compared frame, all sequences one after another.

    Attributes:
        names: the sequences.
        sequence: (F,) int64, which of them a frame belongs to.
        totals: (S,) how many frames each sequence is divided by.
        error: (F,) centre error in pixels; -1 where a frame counts as a hit whatever it is, inf as a miss.
        normalised: (F,) the same divided by the target's size.
        overlap: (F,) intersection over union; -1 where a frame counts as a miss whatever it is.
        counts: as in `Score`.
    """

    names: tuple[str, ...]
    sequence: NDArray[np.int64]
    totals: NDArray[np.int64]
    error: Floats
    normalised: Floats
    overlap: Floats
    counts: dict[str, int]


def compare(truths: Sequence[GroundTruth], results: Results, protocol: Protocol) -> Frames:
    """Error and overlap of every frame of `truths`, each of which has a result.

    Raises:
        InputError: a result is shorter than its ground truth and the protocol does not allow that.
    """
    counts = dict.fromkeys(("longer", "shorter", "sparse", "nan_or_inf", "non_positive", "repaired", "absent"), 0)
    picked = [_rows(truth, results, protocol, counts) for truth in truths]
    lengths = np.array([len(rows) for rows in picked], np.int64)
    sequence = np.repeat(np.arange(len(truths)), lengths)
    starts = np.cumsum(lengths) - lengths
    sides = [
        np.concatenate([truth.boxes[side][:length] for truth, length in zip(truths, lengths, strict=True)]).T.copy()
        for side in range(len(truths[0].boxes))
    ]
    boxes = _converted(np.concatenate(picked), results, protocol).T.copy()
    counts["nan_or_inf"] = int((~np.isfinite(boxes)).any(axis=0).sum())
    counts["non_positive"] = int(((boxes[2] <= 0) | (boxes[3] <= 0)).sum())
    if protocol.first_frame:
        boxes[:, starts] = sides[0][:, starts]
    if protocol.repair != "none":
        boxes, counts["repaired"] = _repaired(boxes, starts, nan=protocol.repair == "size or nan")
    error, normalised, overlap = (
        np.array(values) for values in zip(*(_frame_values(boxes, side) for side in sides), strict=True)
    )
    frames = Frames(
        tuple(truth.name for truth in truths),
        sequence,
        lengths,
        np.nan_to_num(error.min(axis=0), nan=np.inf, posinf=np.inf),
        np.nan_to_num(normalised.min(axis=0), nan=np.inf, posinf=np.inf),
        np.nan_to_num(overlap.max(axis=0), nan=-1.0),
        counts,
    )
    return _without_absent(frames, _absent(truths, sides, lengths, protocol), protocol)


def _rows(truth: GroundTruth, results: Results, protocol: Protocol, counts: dict[str, int]) -> Floats:
    """The rows of a result that belong to the annotated frames."""
    rows = results.boxes[truth.name]
    wanted = len(truth)
    if truth.frames[-1] != wanted - 1:  # annotated now and then
        if len(rows) == wanted:
            counts["sparse"] += 1
            return rows
        last, every = int(truth.frames[-1]), int(truth.frames[-1] - truth.frames[-2])
        counts["longer"] += len(rows) > last + every
        counts["shorter"] += len(rows) <= last
        return rows[truth.frames[truth.frames < len(rows)]]
    counts["longer"] += len(rows) > wanted
    counts["shorter"] += len(rows) < wanted
    if len(rows) < wanted and protocol.shorter == "fails":
        file = results.files.get(truth.name, truth.name)
        raise InputError(
            f"{file}: {len(rows)} rows for {wanted} frames of {truth.name}; {protocol.benchmark} needs a row for each"
        )
    return rows[:wanted]


def _converted(rows: Floats, results: Results, protocol: Protocol) -> Floats:
    corners = results.format in ("corner", "ltrb")
    if protocol.rounding == "columns":
        rows = np.rint(rows)
    boxes = to_ltwh(rows, results.format, plus_one=protocol.corner_plus_one)
    if protocol.rounding == "rectangle" and corners:  # MATLAB rounds halves away from zero
        boxes = np.copysign(np.floor(np.abs(boxes) + 0.5), boxes)
    return boxes


def _repaired(boxes: Floats, starts: NDArray[np.int64], *, nan: bool) -> tuple[Floats, int]:
    """(4, F) with invalid boxes replaced by the last valid one before; a sequence's first frame stays."""
    bad = (boxes[2] <= 0) | (boxes[3] <= 0)
    if nan:
        bad |= np.isnan(boxes).any(axis=0)
    bad[starts] = False
    source = np.maximum.accumulate(np.where(bad, 0, np.arange(boxes.shape[1])))
    return boxes[:, source], int(bad.sum())


def _frame_values(ours: Floats, truth: Floats) -> tuple[Floats, Floats, Floats]:
    """Centre error, normalised centre error and overlap of (4, F) boxes, frame by frame."""
    x1, y1, w1, h1 = ours
    x2, y2, w2, h2 = truth
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        dx, dy = (x1 + w1 / 2) - (x2 + w2 / 2), (y1 + h1 / 2) - (y2 + h2 / 2)
        width = np.minimum(x1 + w1, x2 + w2) - np.maximum(x1, x2)
        height = np.minimum(y1 + h1, y2 + h2) - np.maximum(y1, y2)
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        union = w1 * h1 + w2 * h2 - inter
        error = np.sqrt(dx * dx + dy * dy)
        normalised = np.sqrt((dx / (w2 + 1e-8)) ** 2 + (dy / (h2 + 1e-8)) ** 2)
        # of equal boxes with fractions the ratio may come out a hair above 1, and 1 is not above the threshold 1
        return error, normalised, np.minimum(inter / union, 1)


def _absent(
    truths: Sequence[GroundTruth], sides: list[Floats], lengths: NDArray[np.int64], protocol: Protocol
) -> NDArray[np.bool_]:
    """(F,) where the target is absent, as far as the protocol looks at that."""
    boxes = sides[0]
    if protocol.absent == "compared":
        return np.zeros(boxes.shape[1], np.bool_)
    if protocol.absent_by == "value":
        return np.asarray((boxes <= 0).any(axis=0), np.bool_)
    if protocol.absent_by == "label":
        flags = [truth.absent for truth in truths]
        return np.concatenate([f[:n] for f, n in zip(flags, lengths, strict=True) if f is not None])
    present = (boxes[2:] > 0).all(axis=0)  # nan compares false
    return np.asarray(~present, np.bool_)


def _without_absent(frames: Frames, absent: NDArray[np.bool_], protocol: Protocol) -> Frames:
    frames.counts["absent"] = int(absent.sum())
    if protocol.absent == "compared":
        return frames
    if protocol.absent == "left out":
        keep = ~absent
        sequence = frames.sequence[keep]
        return Frames(
            frames.names,
            sequence,
            np.bincount(sequence, minlength=len(frames.names)),
            frames.error[keep],
            frames.normalised[keep],
            frames.overlap[keep],
            frames.counts,
        )
    there = -1.0 if protocol.absent == "hit and miss" else np.inf
    frames.error[absent] = there
    frames.normalised[absent] = there
    frames.overlap[absent] = -1.0
    return frames
