"""Precision, normalised precision and success of results under a protocol.

`compare` gives error and overlap of every frame; here they are counted against thresholds, all sequences in one go, and
rates are formed. Source: docs/specs/evaluation.md, sections 2 to 4. All arithmetic is float64.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.benchmarks import BENCHMARKS
from duotrack.datasets.ground_truth import GroundTruth
from duotrack.evaluation.compare import Floats, Frames, compare
from duotrack.evaluation.longterm import LongTerm, longterm
from duotrack.evaluation.protocols import Protocol
from duotrack.evaluation.results import Results


@dataclass(frozen=True, eq=False)
class Curve:
    """The rate, a fraction, at each threshold."""

    thresholds: Floats
    values: Floats


@dataclass(frozen=True, eq=False)
class Rates:
    """Rates of `n` sequences, fractions; nan where none of them counts."""

    PR: float
    SR: float
    NPR: float | None
    n: int


@dataclass(frozen=True, eq=False)
class Score:
    """The rates of one tracker on one benchmark.

    Attributes:
        benchmark, tracker: their names.
        protocol: the rules, in words.
        sequences, frames: how many were compared.
        PR, SR, NPR: fractions; NPR is None where the benchmark has none. MPR and MSR appear as PR and SR.
        precision, normalised, success: the curves that they come from.
        per_sequence: each sequence by itself.
        attributes: the same rates over the sequences that have an attribute.
        counts: what was irregular: missing sequences, rows too many or too few, nan or inf, boxes without size ...
        notes: what was decided, in words.
        longterm: precision, recall and F of RGB-D tracking, where the results come with confidences.
        groups: kind of group ("pattern", "ratio" of missing modalities) -> group -> the rates over its sequences.
    """

    benchmark: str
    tracker: str
    protocol: str
    sequences: int
    frames: int
    PR: float
    SR: float
    NPR: float | None
    precision: Curve
    normalised: Curve | None
    success: Curve
    per_sequence: dict[str, Rates]
    attributes: dict[str, Rates]
    counts: dict[str, int]
    notes: tuple[str, ...]
    longterm: LongTerm | None = None
    groups: dict[str, dict[str, Rates]] = field(default_factory=dict)


Groups = Mapping[str, Mapping[str, Set[str]]]
"""Kind of group -> group -> its sequences."""


def score(
    ground_truth: Sequence[GroundTruth], results: Results, protocol: Protocol, *, groups: Groups | None = None
) -> Score:
    """The rates of `results`, over the sequences that have one, and over `groups` of them.

    Raises:
        InputError: a result is shorter than its ground truth and the protocol does not allow that, or only some of
            the sequences of an RGB-D benchmark have confidences.
    """
    truths = [truth for truth in ground_truth if truth.name in results.boxes]
    return summarise(compare(truths, results, protocol), truths, results, protocol, groups=groups)


def summarise(
    frames: Frames,
    truths: Sequence[GroundTruth],
    results: Results,
    protocol: Protocol,
    *,
    groups: Groups | None = None,
) -> Score:
    """Rates from the values of every frame; those of subsets need no second look at frames."""
    precision = _Table(frames, frames.error, protocol.precision_thresholds, protocol, strict=protocol.strict)
    success = _Table(frames, -frames.overlap, -protocol.success_thresholds, protocol, strict=True)
    normalised = None
    if protocol.npr is not None:
        normalised = _Table(frames, frames.normalised, protocol.normalised_thresholds, protocol)
    per_pr, per_sr = _precise(precision.shares, protocol), _successful(success.shares, protocol)
    per_npr = None if normalised is None else _normalised(normalised.shares, protocol)

    def rates(subset: NDArray[np.bool_]) -> Rates:
        return Rates(
            float(_precise(precision.mean(subset), protocol)),
            float(_successful(success.mean(subset), protocol)),
            None if normalised is None else float(_normalised(normalised.mean(subset), protocol)),
            int(subset.sum()),
        )

    everything = np.ones(len(truths), np.bool_)
    whole = rates(everything)
    names = BENCHMARKS[protocol.benchmark].attribute_table
    depth = BENCHMARKS[protocol.benchmark].modality == "depth"
    subsets = {key: np.array([key in truth.attributes for truth in truths]) for key in names}
    parts = {
        kind: {key: np.array([truth.name in part for truth in truths]) for key, part in each.items()}
        for kind, each in (groups or {}).items()
    }
    return Score(
        benchmark=protocol.benchmark,
        tracker=results.tracker,
        protocol=protocol.describe(),
        sequences=len(truths),
        frames=int(frames.totals.sum()),
        PR=whole.PR,
        SR=whole.SR,
        NPR=whole.NPR,
        precision=Curve(precision.thresholds, precision.mean(everything)),
        normalised=None if normalised is None else Curve(normalised.thresholds, normalised.mean(everything)),
        success=Curve(-success.thresholds, success.mean(everything)),
        per_sequence={
            name: Rates(float(per_pr[i]), float(per_sr[i]), None if per_npr is None else float(per_npr[i]), 1)
            for i, name in enumerate(frames.names)
        },
        attributes={key: rates(subset) for key, subset in subsets.items() if subset.any()},
        counts={**frames.counts, "missing": len(results.missing), "blank_lines": results.blank},
        notes=_notes(results, protocol, len(truths)),
        longterm=longterm(truths, results) if depth and results.confidences else None,
        groups={kind: {key: rates(s) for key, s in each.items() if s.any()} for kind, each in parts.items()},
    )


class _Table:
    """How many frames of each sequence lie at or below each threshold, and means of their shares."""

    def __init__(
        self, frames: Frames, values: Floats, thresholds: Floats, protocol: Protocol, *, strict: bool = False
    ) -> None:
        self.thresholds = thresholds
        self._pooled, self._drop = protocol.pooled, protocol.drop_failures
        self._totals = frames.totals
        self._counts = _below(frames.sequence, len(frames.totals), values, thresholds, strict=strict)
        with np.errstate(invalid="ignore"):  # a sequence without any compared frame has no share
            self.shares = self._counts / self._totals[:, None]

    def mean(self, subset: NDArray[np.bool_]) -> Floats:
        """(K,) the curve of a subset of the sequences; nan where nothing is left of it."""
        rows = subset & (self._totals > 0)
        if self._drop:
            rows = rows & self._counts.any(axis=1)
        if not rows.any():
            return np.full(len(self.thresholds), np.nan)
        if self._pooled:
            return self._counts[rows].sum(axis=0) / self._totals[rows].sum()
        return self.shares[rows].mean(axis=0)


def _below(
    sequence: NDArray[np.int64], sequences: int, values: Floats, thresholds: Floats, *, strict: bool
) -> NDArray[np.int64]:
    """(S, K) how many values of each sequence are <= each threshold, or < where `strict`."""
    order = np.argsort(thresholds)
    # the first threshold that a value does not exceed: by a sorted search, then a histogram and its running sum
    first = np.searchsorted(thresholds[order], values, side="right" if strict else "left")
    bins = len(thresholds) + 1
    histogram = np.bincount(sequence * bins + first, minlength=sequences * bins).reshape(sequences, bins)
    counts = np.empty((sequences, len(thresholds)), np.int64)
    counts[:, order] = histogram.cumsum(axis=1)[:, :-1]
    return counts


def _precise(curve: Floats, protocol: Protocol) -> Floats:
    return np.asarray(curve[..., round(protocol.pixels / protocol.pixel_step)], np.float64)


def _normalised(curve: Floats, protocol: Protocol) -> Floats:
    return np.asarray(curve[..., 20], np.float64) if protocol.npr == "value" else _area(curve)  # thresholds are k/100


def _successful(curve: Floats, protocol: Protocol) -> Floats:
    return _area(curve) if protocol.area else np.asarray(curve.mean(axis=-1), np.float64)


def _area(curve: Floats) -> Floats:
    """Under the curve by the trapezoid rule, the range of its thresholds taken as 1."""
    return np.asarray((curve[..., 1:] + curve[..., :-1]).mean(axis=-1) / 2, np.float64)


def _notes(results: Results, protocol: Protocol, sequences: int) -> tuple[str, ...]:
    published = BENCHMARKS[protocol.benchmark].sequences
    if published is None or published == sequences:
        return results.notes
    return (*results.notes, f"{sequences} of the benchmark's {published} sequences are scored")
