"""Whether a tracker knows that it lost its target: confidence, the state, absences, recovery, and how boxes grow.

Plain functions of what a run gave frame by frame. IoU is nan where the target is absent: there no box is right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duotrack.boxes import xywh_to_cxcywh
from duotrack.frames import State

Floats = NDArray[np.float64]
GOOD = 0.5
"""IoU from which a box counts as on the target."""
LEAST_ABSENT = 10
"""Frames without the target that make an absence."""


@dataclass(frozen=True, eq=False)
class Followed:
    """A run over one sequence, the first frame left out.

    `ious` (N,), nan where the target is absent; `confidences` (N,) in [0, 1]; `states` N of them; `sizes` (N,) side of
    the box over the true side (geometric means), nan where the target is absent.
    """

    name: str
    ious: Floats
    confidences: Floats
    states: tuple[State, ...]
    sizes: Floats


@dataclass(frozen=True)
class Reported:
    """How the state fared over some runs.

    `absences` and the share of them, `noticed`, in which `lost` was reported in time; `false_lost`: share of visible
    frames that are `lost`; `recovery`: frames from each return of the target to the first good box, None: not before
    the end or the next absence.
    """

    absences: int
    noticed: float
    false_lost: float
    recovery: tuple[int | None, ...]


@dataclass(frozen=True)
class Step:
    """One step of a reliability diagram: mean confidence of its frames, share of them with a good box, their number."""

    confidence: float
    good: float
    frames: int


def size_ratio(boxes: ArrayLike, truth: ArrayLike) -> Floats:
    """(N,) side of `xywh` boxes over the true side, geometric means; nan where the truth has no size."""
    ours, right = (np.asarray(each, np.float64)[..., 2:].prod(axis=-1) for each in (boxes, truth))
    return np.asarray(np.sqrt(np.divide(ours, right, out=np.full_like(ours, np.nan), where=right > 0)))


def fit_calibration(confidence: ArrayLike, good: ArrayLike, present: tuple[float, float]) -> tuple[float, float]:
    """Logistic regression of `good` on the logit of the raw score: (slope, intercept) for `ModelSpec.calibration`.

    Args:
        confidence: (N,) scores that went through `present`; the fit on top of it is put together with it.
        good: (N,) whether the box was right.
        present: (slope, intercept) in use.
    """
    clipped = np.clip(np.asarray(confidence, np.float64), 1e-6, 1 - 1e-6)
    x = np.stack([np.log(clipped / (1 - clipped)), np.ones_like(clipped)], axis=1)
    target = np.asarray(good, np.float64)
    beta = np.zeros(2)
    for _ in range(50):  # Newton's method; the small ridge keeps a perfect split from running away
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -50, 50)))
        beta += np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2), x.T @ (target - p) - 1e-3 * beta)
    return float(beta[0] * present[0]), float(beta[0] * present[1] + beta[1])


def recalibrated(confidence: ArrayLike, present: tuple[float, float], fitted: tuple[float, float]) -> Floats:
    """(N,) what confidences under `present` would be under `fitted`."""
    clipped = np.clip(np.asarray(confidence, np.float64), 1e-6, 1 - 1e-6)
    raw = (np.log(clipped / (1 - clipped)) - present[1]) / present[0]
    return np.asarray(1 / (1 + np.exp(-np.clip(fitted[0] * raw + fitted[1], -50, 50))))


def reliability(confidence: ArrayLike, good: ArrayLike, *, bins: int = 10) -> list[Step]:
    """Equal steps of confidence, empty ones left out."""
    values, right = np.asarray(confidence, np.float64), np.asarray(good, np.bool_)
    index = np.clip((values * bins).astype(int), 0, bins - 1)
    return [
        Step(float(values[here].mean()), float(right[here].mean()), int(here.sum()))
        for here in (index == each for each in range(bins))
        if here.any()
    ]


def calibration_error(steps: Iterable[Step]) -> float:
    """Mean distance of confidence and share of good boxes, weighed by frames."""
    known = list(steps)
    frames = sum(step.frames for step in known)
    return sum(abs(step.confidence - step.good) * step.frames for step in known) / frames if frames else float("nan")


def absences(visible: ArrayLike, *, least: int = LEAST_ABSENT) -> list[tuple[int, int]]:
    """Runs of at least `least` frames without the target: (first frame, frame after the last)."""
    seen = np.concatenate([[True], np.asarray(visible, np.bool_), [True]])
    edges = np.flatnonzero(np.diff(seen.astype(int)))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(start, end) for start, end in pairs if end - start >= least]


def reported(runs: Sequence[Followed], *, within: int = 10) -> Reported:
    """Whether `lost` came within so many frames of each absence, how often it was wrong, how long recovery took."""
    noticed: list[bool] = []
    recovery: list[int | None] = []
    visible = lost = 0
    for run in runs:
        seen = np.isfinite(run.ious)
        is_lost = np.array([state == "lost" for state in run.states], np.bool_)
        visible += int(seen.sum())
        lost += int((is_lost & seen).sum())
        gone = absences(seen)
        for number, (start, end) in enumerate(gone):
            noticed.append(bool(is_lost[start : min(end, start + within)].any()))
            until = gone[number + 1][0] if number + 1 < len(gone) else len(seen)
            good = np.flatnonzero(np.nan_to_num(run.ious[end:until]) > GOOD)
            if end < until:
                recovery.append(int(good[0]) if len(good) else None)
    share = float(np.mean(noticed)) if noticed else float("nan")
    return Reported(len(noticed), share, lost / visible if visible else float("nan"), tuple(recovery))


def jumps(boxes: ArrayLike, visible: ArrayLike, *, sides: float = 2.0) -> bool:
    """Whether the target ever moves by more than so many of its sides from one frame to the next: the video is cut."""
    where = np.asarray(boxes, np.float64)
    seen = np.asarray(visible, np.bool_)
    centres = xywh_to_cxcywh(where)[:, :2]
    with np.errstate(invalid="ignore"):
        step = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        side = np.sqrt(where[:-1, 2] * where[:-1, 3])
        return bool((step > sides * side)[seen[1:] & seen[:-1]].any())


def drift(runs: Sequence[Followed], *, every: int = 25) -> list[tuple[int, float, float, float]]:
    """How the size ratio goes on over a sequence: (first frame of a stretch, 10th, 50th, 90th percentile over runs).

    Each run gives the median of its boxes that touch the target, for where a box is lost its size says nothing; a
    stretch that fewer than three runs reach is left out.
    """
    longest = max((len(run.sizes) for run in runs), default=0)
    rows = []
    for start in range(0, longest, every):
        medians = []
        for run in runs:
            ratio = run.sizes[start : start + every][run.ious[start : start + every] > 0]
            medians += [float(np.median(ratio))] if len(ratio) else []
        if len(medians) >= 3:
            low, middle, high = np.quantile(medians, [0.1, 0.5, 0.9]).tolist()
            rows.append((start, low, middle, high))
    return rows
