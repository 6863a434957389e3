"""Scores made up for tests of reports: `from made_scores import made_score`."""

import numpy as np

from duotrack.evaluation.longterm import LongTerm
from duotrack.evaluation.metrics import Curve, Rates, Score

ATTRIBUTES = {"NO": 2, "PO": 3, "HO": 1, "TC": 2}
PROTOCOL = "toolkit: PR at <= 20 px, SR as mean over 0:0.05:1"


def made_score(
    tracker: str = "one",
    quality: float = 0.6,
    *,
    benchmark: str = "lasher",
    normalised: bool = True,
    sequences: dict[str, float] | None = None,
    attributes: dict[str, int] = ATTRIBUTES,
    protocol: str = PROTOCOL,
    notes: tuple[str, ...] = (),
    f: float | None = None,
    missing: int = 0,
) -> Score:
    """PR is `quality`, SR 0.8 and NPR 0.9 of it; `sequences` gives each its own quality; `f` is F, Pr and Re."""

    def rates(value: float, n: int) -> Rates:
        return Rates(PR=value, SR=0.8 * value, NPR=0.9 * value if normalised else None, n=n)

    pixels, shares, overlaps = np.arange(51.0), np.arange(51) / 100, np.arange(21) / 20
    per = sequences if sequences is not None else {"first": quality, "second": quality / 2, "third": 0.1}
    return Score(
        benchmark=benchmark,
        tracker=tracker,
        protocol=protocol,
        sequences=len(per),
        frames=100 * len(per),
        PR=quality,
        SR=0.8 * quality,
        NPR=0.9 * quality if normalised else None,
        precision=Curve(pixels, quality * np.minimum(1, pixels / 20)),
        normalised=Curve(shares, 0.9 * quality * np.minimum(1, shares / 0.2)) if normalised else None,
        success=Curve(overlaps, 1.6 * quality * (1 - overlaps)),
        per_sequence={name: rates(value, 1) for name, value in per.items()},
        attributes={name: rates(quality - 0.02 * i, n) for i, (name, n) in enumerate(attributes.items())},
        counts=({"repaired": 2} if notes else {}) | ({"missing": missing} if missing else {}),
        notes=notes,
        longterm=None if f is None else made_longterm(f),
    )


def made_longterm(f: float) -> LongTerm:
    """F, precision and recall are `f`."""
    thresholds = np.array([np.inf, 0.9, -np.inf])
    precisions, recalls = np.array([1, f, f / 2]), np.array([0, f, f])
    return LongTerm(f, f, f, 0.9, thresholds, precisions, recalls, clipped=False)
