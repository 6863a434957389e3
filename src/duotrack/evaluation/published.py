"""Published numbers as data: what papers and public lists report, each number with its source.

One YAML file a source lies in `published_numbers`; values are in percent there, as printed. Where two sources give the
same values for a tracker they become one number with both sources; where they differ, each stays with its own.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from duotrack.datasets.patterns import Pattern
from duotrack.errors import InputError

FOLDER = Path(__file__).with_name("published_numbers")

Percent = Annotated[float, Field(ge=0, le=100)]
BenchmarkName = Literal[
    "gtot", "rgbt210", "rgbt234", "lasher", "vtuav-st", "vtuav-lt", "visevent", "depthtrack", "rgbd1k",
    "rgbt234-miss", "lasher245-miss", "vtuav176-miss",
]  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Where a number was read."""

    name: str = Field(min_length=1, description="Short, for a table.")
    title: str = Field(min_length=1, description="The paper, list or tool.")
    where: str = Field(min_length=1, description="The table or place in it.")
    kind: Literal["paper", "list", "notes", "measured"] = Field(
        description="Read in the paper; a community list; second-hand notes; measured from published boxes."
    )
    link: str = Field(default="", description="Address without a scheme.")
    remark: str = Field(default="", description="What a reader must know of the whole source.")

    @property
    def short(self) -> str:
        """Name and place, as a row of a table cites it."""
        return f"{self.name}, {self.where}"

    def __str__(self) -> str:
        return f"{self.title}, {self.where}"


class PatternNumber(_Frozen):
    """Rates over the sequences that lose frames by one pattern; fractions."""

    PR: float
    SR: float


class PublishedNumber(_Frozen):
    """What is reported of one tracker on one benchmark; fractions in [0, 1], None where the source gives no value."""

    tracker: str
    benchmark: BenchmarkName
    PR: float | None
    NPR: float | None
    SR: float | None
    sources: tuple[Source, ...]
    note: str = Field(default="", description="What a reader must know of this number.")
    venue: str = ""
    backbone: str = ""
    fps: float | None = Field(default=None, description="As the source states it, on its own hardware.")
    patterns: Mapping[str, PatternNumber] = Field(default={}, description="By pattern of missing modalities.")

    @property
    def source(self) -> str:
        """Every source in words."""
        return "; ".join(str(source) for source in self.sources)


class _Pattern(_Frozen):
    PR: Percent
    SR: Percent


class _Numbers(_Frozen):
    PR: Percent | None = None
    NPR: Percent | None = None
    SR: Percent | None = None
    note: str = ""
    patterns: Mapping[Pattern, _Pattern] = Field(default={})

    @field_validator("SR")
    @classmethod
    def _not_a_fraction(cls, value: float | None) -> float | None:
        if value is not None and 0 < value <= 1:
            raise ValueError("values are in percent, this looks like a fraction")
        return value


class _Row(_Frozen):
    tracker: str = Field(min_length=1)
    venue: str = ""
    backbone: str = ""
    fps: float | None = Field(default=None, gt=0)
    scores: Mapping[BenchmarkName, _Numbers] = Field(min_length=1)


class _File(_Frozen):
    source: Source
    rows: tuple[_Row, ...] = Field(min_length=1)


def read_source(path: Path) -> list[PublishedNumber]:
    """Every number of one source file.

    Raises:
        InputError: the file is not YAML, or a key or value in it is not as it must be.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML file: {' '.join(str(error).split())}; mend it") from error
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {key}: {first['msg']}, got {str(first['input'])[:60]}; mend it") from error
    return [_number(row, benchmark, file.source) for row in file.rows for benchmark in row.scores]


def published(benchmark: str) -> list[PublishedNumber]:
    """The published numbers of `benchmark`, best success rate first; an empty list where none are known."""
    return [number for number in _all() if number.benchmark == benchmark]


def published_benchmarks() -> tuple[str, ...]:
    """The benchmarks of which numbers are known, by name."""
    return tuple(sorted({number.benchmark for number in _all()}))


@cache
def _all() -> tuple[PublishedNumber, ...]:
    merged: dict[tuple[object, ...], PublishedNumber] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        for number in read_source(path):
            key = (number.tracker.casefold(), number.benchmark, number.PR, number.NPR, number.SR)
            merged[key] = _merge(merged[key], number) if key in merged else number
    return tuple(sorted(merged.values(), key=lambda number: (-(number.SR or 0), -(number.PR or 0), number.tracker)))


def _number(row: _Row, benchmark: BenchmarkName, source: Source) -> PublishedNumber:
    given = row.scores[benchmark]
    return PublishedNumber(
        tracker=row.tracker,
        benchmark=benchmark,
        PR=_fraction(given.PR),
        NPR=_fraction(given.NPR),
        SR=_fraction(given.SR),
        sources=(source,),
        note=given.note,
        venue=row.venue,
        backbone=row.backbone,
        fps=row.fps,
        patterns={
            pattern: PatternNumber(PR=round(each.PR / 100, 6), SR=round(each.SR / 100, 6))
            for pattern, each in given.patterns.items()
        },
    )


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)  # 0.732, not 0.7320000000000001


def _merge(first: PublishedNumber, second: PublishedNumber) -> PublishedNumber:
    """One number of two sources that agree in every value."""
    notes = dict.fromkeys(note for note in (first.note, second.note) if note)
    return first.model_copy(
        update={
            "sources": (*first.sources, *(source for source in second.sources if source not in first.sources)),
            "note": "; ".join(notes),
            "venue": first.venue or second.venue,
            "backbone": first.backbone or second.backbone,
            "fps": first.fps if first.fps is not None else second.fps,
            "patterns": first.patterns or second.patterns,
        }
    )
