"""What stands in the tables of a report; every one states its protocol."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from duotrack.datasets.patterns import PATTERNS
from duotrack.evaluation.published import PublishedNumber
from duotrack.evaluation.statements import PUBLISHED_MASKS, longterm_protocol, partial, share, stated
from duotrack.evaluation.table import Cell, Column, Table

if TYPE_CHECKING:
    from duotrack.evaluation.compare import Floats
    from duotrack.evaluation.metrics import Rates, Score
    from duotrack.evaluation.timing import Speed

Metric = Literal["PR", "NPR", "SR"]
METRICS: tuple[Metric, ...] = ("PR", "NPR", "SR")


def ranked(scores: Sequence["Score"]) -> list["Score"]:
    """The scores by F where there is one, then success rate, then precision rate, then name."""
    return sorted(scores, key=lambda score: (-_key(_f(score)), -_key(score.SR), -_key(score.PR), score.tracker))


def overall_table(scores: Sequence["Score"], speeds: Mapping[str, "Speed"]) -> Table:
    """One row a tracker, best first."""
    metrics = _metrics(scores)
    long = any(score.longterm is not None for score in scores)
    columns = [Column("Tracker"), *(Column(name, "rate") for name in ("Pr", "Re", "F") if long)]
    columns += [Column(metric, "rate") for metric in metrics]
    columns += [Column("Sequences", "count"), Column("Frames", "count")]
    columns += [Column("FPS", "number")] if speeds else []
    columns.append(Column("Protocol", spare=True))
    columns += [Column("Long-term protocol", spare=True)] if long else []
    rows: list[tuple[Cell, ...]] = []
    for score in ranked(scores):
        found = score.longterm
        row: list[Cell] = [score.tracker]
        if long:
            row += [None] * 3 if found is None else [found.precision, found.recall, found.F]
        row += [*(known(score, metric) for metric in metrics), score.sequences, score.frames]
        if speeds:
            row.append(speeds[score.tracker].fps if score.tracker in speeds else None)
        row.append(score.protocol)
        if long:
            row.append(None if found is None else found.describe())
        rows.append(tuple(row))
    note = f"{longterm_protocol(scores)} {stated(scores)}".strip()
    return Table("overall", "Overall", tuple(columns), tuple(rows), note, best="column")


def attribute_table(scores: Sequence["Score"], metric: Metric) -> Table:
    """One row an attribute, one column a tracker."""
    ordered = ranked(scores)
    names = list(dict.fromkeys(name for score in ordered for name in score.attributes))
    columns = (Column("Attribute"), Column("Sequences", "count"), *(Column(s.tracker, "rate") for s in ordered))
    rows = []
    for name in names:
        found = [score.attributes.get(name) for score in ordered]
        rows.append((name, max(rates.n for rates in found if rates), *(known(rates, metric) for rates in found)))
    title = f"{metric} by attribute"
    return Table(f"attributes_{metric}", title, columns, tuple(rows), stated(scores), best="row")


def loss_table(scores: Sequence["Score"], metric: Metric, numbers: Sequence[PublishedNumber] = ()) -> Table:
    """One row a pattern and a ratio of missing modalities, one column a tracker, then published ones by pattern."""
    ordered = ranked(scores)
    quoted = [number for number in numbers if number.patterns and metric != "NPR"]
    columns = [Column("Lost"), Column("Sequences", "count"), *(Column(score.tracker, "rate") for score in ordered)]
    columns += [Column(f"{number.tracker} ({number.sources[0].name})", "rate") for number in quoted]
    rows: list[tuple[Cell, ...]] = []
    for kind, name in losses(scores):
        found = [score.groups.get(kind, {}).get(name) for score in ordered]
        published = [_of_pattern(number, name, metric) for number in quoted]
        most = max(rates.n for rates in found if rates)
        rows.append((loss_title(kind, name), most, *(known(rates, metric) for rates in found), *published))
    whole = [getattr(number, metric) for number in quoted]
    most = max(score.sequences for score in ordered)
    rows.append(("all", most, *(known(score, metric) for score in ordered), *whole))
    title = f"{metric} by pattern and ratio of missing modalities"
    note = f"{stated(scores)} {PUBLISHED_MASKS if quoted else ''}".strip()
    return Table(f"missing_{metric}", title, tuple(columns), tuple(rows), note, best="row")


def losses(scores: Sequence["Score"]) -> list[tuple[str, str]]:
    """(kind, group) of all groups of sequences that any tracker was scored on: patterns, then ratios, in order."""
    found = {(kind, name) for score in scores for kind, each in score.groups.items() for name in each}
    patterns = [("pattern", pattern) for pattern in PATTERNS if ("pattern", pattern) in found]
    return patterns + sorted(found.difference(patterns), key=lambda group: float(group[1]))


def loss_title(kind: str, name: str) -> str:
    """A pattern or ratio in words."""
    return name.replace("_", " ") if kind == "pattern" else f"{float(name):.0%} of frames"


def _of_pattern(number: PublishedNumber, name: str, metric: Metric) -> float | None:
    found = number.patterns.get(name)
    return None if found is None else float(getattr(found, metric))


def sequence_table(scores: Sequence["Score"], metric: Metric, *, baseline: str | None = None) -> Table:
    """One row a sequence: every tracker, the mean, and the largest difference between two trackers.

    With a `baseline` the last column is what the best of the others gains over it (negative: the baseline leads).
    """
    ordered = ranked(scores)
    names = sorted({name for score in ordered for name in score.per_sequence})
    columns = [Column("Sequence"), *(Column(score.tracker, "rate") for score in ordered)]
    if len(ordered) > 1:
        columns += [Column("Mean", "rate"), Column("Best"), Column("Worst"), Column("Largest difference", "rate")]
        columns += [Column(f"Best other less {baseline}", "rate")] if baseline else []
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        values = {score.tracker: known(score.per_sequence.get(name), metric) for score in ordered}
        row: list[Cell] = [name, *values.values()]
        if len(ordered) > 1:
            row += _comparison(values, baseline)
        rows.append(tuple(row))
    return Table(f"sequences_{metric}", f"{metric} by sequence", tuple(columns), tuple(rows), stated(scores))


def extremes(table: Table, count: int = 10) -> list[Table]:
    """The sequences with the highest and lowest mean and with the largest difference between two trackers.

    Of one tracker alone: its best and its worst sequences.
    """
    titles = [column.title for column in table.columns]
    several = len(titles) > 2
    keep = ("Mean", "Best", "Worst", "Largest difference") if several else (titles[1],)
    wanted = [0, *(_last(titles, title) for title in keep)]
    mean = wanted[1]
    pieces = [("easiest", "Highest mean", mean, True), ("hardest", "Lowest mean", mean, False)]
    if several:
        pieces.append(("disputed", "Largest difference between two trackers", wanted[-1], True))
    tables = []
    for name, title, by, descending in pieces:
        given = [row for row in table.rows if row[by] is not None]
        given.sort(key=lambda row: (-float(row[by] or 0) if descending else float(row[by] or 0), str(row[0])))
        rows = tuple(tuple(row[i] for i in wanted) for row in given[:count])
        columns = tuple(table.columns[i] for i in wanted)
        tables.append(Table(f"{table.name}_{name}", f"{table.title}: {title.lower()}", columns, rows, table.note))
    return tables


def sequence_list(scores: Sequence["Score"]) -> Table:
    """Every rate of every tracker on every sequence, one a row."""
    columns = (
        Column("Sequence"),
        Column("Tracker"),
        *(Column(m, "rate") for m in METRICS),
        Column("Protocol", spare=True),
    )
    rows = tuple(
        (name, score.tracker, *(known(rates, metric) for metric in METRICS), score.protocol)
        for score in ranked(scores)
        for name, rates in sorted(score.per_sequence.items())
    )
    return Table("sequences", "Every sequence", columns, rows, stated(scores))


def curve_list(scores: Sequence["Score"]) -> Table:
    """Every point of every curve, one a row."""
    columns = (
        Column("Tracker"),
        Column("Curve"),
        Column("Threshold", "number"),
        Column("Rate", "rate"),
        Column("Protocol", spare=True),
    )
    rows = tuple(
        (score.tracker, name, float(threshold), float(value), score.protocol)
        for score in ranked(scores)
        for name, thresholds, values in _lines(score)
        for threshold, value in zip(thresholds, values, strict=True)
    )
    return Table("curves", "Curves", columns, rows, stated(scores))


def _lines(score: "Score") -> list[tuple[str, "Floats", "Floats"]]:
    named = (("precision", score.precision), ("normalised", score.normalised), ("success", score.success))
    lines = [(name, curve.thresholds, curve.values) for name, curve in named if curve is not None]
    if score.longterm is not None:
        long = score.longterm
        lines += [("Pr by confidence", long.thresholds, long.precisions)]
        lines += [("Re by confidence", long.thresholds, long.recalls)]
    return lines


def speed_table(speeds: Mapping[str, "Speed"]) -> Table:
    """Frames per second of each tracker, from the times in its results folder."""
    columns = (Column("Tracker"), Column("FPS", "number"), Column("Frames", "count"), Column("Sequences", "count"))
    ordered = sorted(speeds.items(), key=lambda item: (-item[1].fps, item[0]))
    rows = tuple((name, speed.fps, speed.frames, speed.sequences) for name, speed in ordered)
    note = (
        "From the *_time.txt files beside the results: all frames over all seconds, the first frame of a sequence left "
        "out where there are more. Speeds compare only where the same machine made them."
    )
    return Table("speed", "Speed", columns, rows, note)


def count_table(scores: Sequence["Score"]) -> Table | None:
    """What was counted while scoring (repaired rows, cut rows, absent frames ...); None where nothing was."""
    names = sorted({name for score in scores for name in score.counts})
    if not names:
        return None
    columns = (Column("Tracker"), *(Column(name.replace("_", " "), "count") for name in names))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (score.tracker, *(score.counts.get(name, 0) for name in names)) for score in ranked(scores)
    )
    return Table("counts", "What was met while scoring", columns, rows, stated(scores))


def placing_table(scores: Sequence["Score"], numbers: Sequence[PublishedNumber]) -> Table:
    """The measured trackers among the published ones, by success rate; those without one come last."""
    metrics = [
        m for m in METRICS if any(known(s, m) is not None for s in scores) or any(getattr(n, m) for n in numbers)
    ]
    columns = (Column("Place", "count"), Column("Tracker"), *(Column(metric, "rate") for metric in metrics))
    columns += (Column("FPS as published", "number"), Column("Source and protocol"))
    lines: list[tuple[float, float, bool, tuple[Cell, ...]]] = []
    for score in scores:
        rates = [known(score, metric) for metric in metrics]
        on = f" on {share(score)}" if partial(score) else ""
        row: tuple[Cell, ...] = (score.tracker, *rates, None, f"Measured here{on}. Protocol: {score.protocol}")
        lines.append((-_key(score.SR), -_key(score.PR), False, row))
    for number in numbers:
        row = (number.tracker, *(getattr(number, metric) for metric in metrics), number.fps, _said(number))
        lines.append((-_key(number.SR), -_key(number.PR), True, row))
    lines.sort(key=lambda line: (*line[:3], str(line[3][0])))
    rows = tuple((place if line[0] <= 0 else None, *line[3]) for place, line in enumerate(lines, start=1))
    marked = frozenset(i for i, line in enumerate(lines) if not line[2])
    note = (
        f"{stated(scores)} Published values are quoted as their sources print them, under the protocols of these "
        "sources; a tracker that sources report differently has a row for each. Places follow SR."
    )
    return Table("placing", "Among published numbers", columns, rows, note, best="column", marked=marked)


def source_table(numbers: Sequence[PublishedNumber]) -> Table:
    """The sources that the placing table cites."""
    sources = dict.fromkeys(source for number in numbers for source in number.sources)
    columns = tuple(Column(title) for title in ("Cited as", "Source", "Kind", "Address", "Remark"))
    rows = tuple((s.short, str(s), s.kind, s.link, s.remark) for s in sorted(sources, key=lambda source: source.short))
    note = "Kinds: paper, read in the paper; list, a community list; notes, second-hand; measured, from public boxes."
    return Table("sources", "Sources", columns, rows, note)


def _metrics(scores: Sequence["Score"]) -> list[Metric]:
    return [metric for metric in METRICS if any(known(score, metric) is not None for score in scores)]


def known(rates: "Rates | Score | None", metric: Metric) -> float | None:
    """The rate, or None where there is none or nothing was compared (nan)."""
    value = None if rates is None else getattr(rates, metric)
    return None if value is None or math.isnan(value) else float(value)


def _comparison(values: Mapping[str, float | None], baseline: str | None) -> list[Cell]:
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return [None] * (5 if baseline else 4)
    best, worst = max(given, key=given.__getitem__), min(given, key=given.__getitem__)
    mean = sum(given.values()) / len(given)
    cells: list[Cell] = [mean, best, worst, given[best] - given[worst]]
    if baseline:
        others = [value for name, value in given.items() if name != baseline]
        cells.append(max(others) - given[baseline] if others and baseline in given else None)
    return cells


def _last(titles: Sequence[str], title: str) -> int:
    """Where `title` stands last: a tracker of the same name comes before it."""
    return len(titles) - 1 - titles[::-1].index(title)


def _said(number: PublishedNumber) -> str:
    cited = "; ".join(source.short for source in number.sources)
    return f"{cited} ({number.note})" if number.note else cited


def _f(score: "Score") -> float | None:
    return None if score.longterm is None else score.longterm.F


def _key(value: Cell) -> float:
    return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else -1.0
