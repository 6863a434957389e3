"""Writing a report: figures, tables and one page, of several trackers on one benchmark."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from duotrack.datasets.benchmarks import BENCHMARKS
from duotrack.errors import InputError, nearest
from duotrack.evaluation import plots
from duotrack.evaluation.figures import require_matplotlib
from duotrack.evaluation.html import Section, page
from duotrack.evaluation.published import PublishedNumber
from duotrack.evaluation.statements import (
    PUBLISHED_MASKS,
    benchmark_title,
    coverage,
    longterm_protocol,
    protocols,
    stated,
)
from duotrack.evaluation.table import Table, to_csv, to_latex
from duotrack.evaluation.tables import (
    METRICS,
    Metric,
    attribute_table,
    count_table,
    curve_list,
    extremes,
    known,
    loss_table,
    overall_table,
    placing_table,
    sequence_list,
    sequence_table,
    source_table,
    speed_table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from duotrack.evaluation.metrics import Score
    from duotrack.evaluation.timing import Speed

PAGE = "report.html"
FIGURES = "figures"
TABLES = "tables"


def write_report(
    out: Path,
    scores: Sequence["Score"],
    *,
    speeds: Mapping[str, "Speed"] | None = None,
    numbers: Sequence[PublishedNumber] = (),
    baseline: str | None = None,
    lost: str = "",
    overwrite: bool = False,
) -> Path:
    """Write the report of `scores` into the folder `out`, whole or not at all, and return the page's path.

    Args:
        scores: one a tracker, of the same benchmark.
        speeds: by tracker, of those of which times are known.
        numbers: published numbers to place the trackers among.
        baseline: a tracker that the others are compared with, sequence by sequence.
        lost: which modalities were missing, in words; "" where none were.
        overwrite: put the report into a folder that holds other things; these stay.

    Raises:
        InputError: the scores do not belong together, no tracker is called `baseline`, matplotlib is missing, or
            `out` cannot be used.
    """
    check_together(scores, baseline)
    check_out(out, overwrite=overwrite)
    require_matplotlib()
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another folder") from error
    try:
        folder.chmod(0o755)  # mkdtemp makes private folders; a report is an ordinary one
        _write(folder, scores, speeds or {}, numbers, baseline, lost)
        _move(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out / PAGE


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a file, and a folder that holds anything else than an earlier report unless `overwrite` is given.

    Raises:
        InputError: as above.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out is a folder, got the file {out}; choose another")
    others = (
        sorted(path.name for path in out.iterdir() if path.name not in (PAGE, FIGURES, TABLES)) if out.exists() else []
    )
    if others and not overwrite:
        raise InputError(f"{out} holds other things ({others[0]}); choose an empty folder or give --overwrite")


def check_together(scores: Sequence["Score"], baseline: str | None = None) -> None:
    """Refuse what cannot stand in one report.

    Raises:
        InputError: no score, two benchmarks, two trackers of one name, or an unknown baseline.
    """
    if not scores:
        raise InputError("a report needs the score of a tracker, got none; give a results folder")
    benchmarks = sorted({score.benchmark for score in scores})
    if len(benchmarks) > 1:
        raise InputError(f"a report is of one benchmark, got {' and '.join(benchmarks)}; write one for each")
    names = [score.tracker for score in scores]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"two results are called {twice[0]!r}; name them with --results NAME=DIR")
    if baseline is not None and baseline not in names:
        raise InputError(f"no tracker is called {baseline!r}{nearest(baseline, names)}")


def _write(
    folder: Path,
    scores: Sequence["Score"],
    speeds: Mapping[str, "Speed"],
    numbers: Sequence[PublishedNumber],
    baseline: str | None,
    lost: str,
) -> None:
    figures = _Figures(folder / FIGURES)
    tables: list[Table] = [sequence_list(scores), curve_list(scores)]
    sections = [_overall(scores, speeds, figures, tables)]
    if numbers:
        placing = placing_table(scores, numbers)
        caption = f"PR and SR among published numbers. {stated(scores)}"
        picture = figures.add("placing", caption, plots.placing_plot(scores, numbers))
        sections.append(
            Section(
                "Among published numbers", _remark(scores), (picture,), _kept(tables, placing, source_table(numbers))
            )
        )
    if any(score.attributes for score in scores):
        sections.append(_attributes(scores, figures, tables))
    if any(score.groups for score in scores):
        sections.append(_missing(scores, numbers, figures, tables))
    sections.append(_sequences(scores, baseline, tables))
    if speeds:
        picture = figures.add("speed", "Frames per second", plots.speed_plot(speeds))
        sections.append(Section("Speed", "", (picture,), _kept(tables, speed_table(speeds))))
    sections.append(_conduct(scores, tables))
    (folder / TABLES).mkdir()
    for table in tables:
        (folder / TABLES / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
        if not table.name.startswith(("sequences", "curves")):  # hundreds of rows are not for print
            (folder / TABLES / f"{table.name}.tex").write_text(to_latex(table), encoding="utf-8")
    trackers = "1 tracker" if len(scores) == 1 else f"{len(scores)} trackers"
    (folder / PAGE).write_text(
        page(f"{benchmark_title(scores[0].benchmark)}: {trackers}", _facts(scores, lost), sections), encoding="utf-8"
    )


_REMARK = (
    "Published values were made by their authors' own tools; differences of a few tenths of a percent between tools "
    "are common. Every row names its source."
)


def _remark(scores: Sequence["Score"]) -> str:
    which = BENCHMARKS.get(scores[0].benchmark)
    return f"{_REMARK} {PUBLISHED_MASKS}" if which is not None and which.base else _REMARK


class _Figures:
    """Saves figures into a folder and keeps what the page shows of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def add(self, name: str, caption: str, figure: "Figure") -> tuple[str, bytes]:
        return caption, plots.save(figure, self._folder / name)


def _kept(tables: list[Table], *new: Table) -> tuple[Table, ...]:
    tables.extend(new)
    return new


def _overall(
    scores: Sequence["Score"], speeds: Mapping[str, "Speed"], figures: _Figures, tables: list[Table]
) -> Section:
    note, on, long = stated(scores), coverage(scores), longterm_protocol(scores)
    pictures = []
    if long:
        pictures.append(
            figures.add("longterm", f"Precision and recall. {long} {on}".strip(), plots.longterm_plot(scores))
        )
    pictures.append(figures.add("success", f"Success. {note}", plots.success_plot(scores)))
    pictures.append(figures.add("precision", f"Precision. {note}", plots.precision_plot(scores)))
    if any(score.normalised is not None for score in scores):
        caption = f"Normalised precision. {note}"
        pictures.append(figures.add("normalised_precision", caption, plots.normalised_plot(scores)))
    return Section("Overall", on, tuple(pictures), _kept(tables, overall_table(scores, speeds)))


def _attributes(scores: Sequence["Score"], figures: _Figures, tables: list[Table]) -> Section:
    pictures, made = [], []
    for metric in _attribute_metrics(scores):
        caption = f"{metric} by attribute. {stated(scores)}"
        pictures.append(figures.add(f"attributes_{metric}", caption, plots.radar_plot(scores, metric)))
        made.append(attribute_table(scores, metric))
    return Section("Attributes", "", tuple(pictures), _kept(tables, *made))


def _missing(
    scores: Sequence["Score"], numbers: Sequence[PublishedNumber], figures: _Figures, tables: list[Table]
) -> Section:
    pictures, made = [], []
    metrics: tuple[Metric, ...] = ("PR", "SR")
    for metric in metrics:
        caption = f"{metric} by pattern and ratio of missing modalities. {stated(scores)}"
        pictures.append(figures.add(f"missing_{metric}", caption, plots.loss_plot(scores, metric, numbers)))
        made.append(loss_table(scores, metric, numbers))
    text = "Each sequence loses frames by one pattern and in one ratio; all its frames count."
    return Section("Missing modalities", text, tuple(pictures), _kept(tables, *made))


def _attribute_metrics(scores: Sequence["Score"]) -> list[Metric]:
    rates = [rates for score in scores for rates in score.attributes.values()]
    return [metric for metric in METRICS if any(known(rate, metric) is not None for rate in rates)]


def _sequences(scores: Sequence["Score"], baseline: str | None, tables: list[Table]) -> Section:
    table = sequence_table(scores, "SR", baseline=baseline)
    _kept(tables, table, sequence_table(scores, "PR", baseline=baseline))
    return Section("Sequences", "", (), (*extremes(table), table))


def _conduct(scores: Sequence["Score"], tables: list[Table]) -> Section:
    counts = count_table(scores)
    notes = "; ".join(f"{score.tracker}: {note}" for score in scores for note in score.notes)
    return Section("Notes", notes or "Nothing to remark.", (), _kept(tables, counts) if counts else ())


def _facts(scores: Sequence["Score"], lost: str) -> list[tuple[str, str]]:
    from duotrack import __version__

    sequences = sorted({score.sequences for score in scores})
    frames = sorted({score.frames for score in scores})
    return [
        ("Benchmark", benchmark_title(scores[0].benchmark)),
        ("Trackers", ", ".join(score.tracker for score in scores)),
        ("Sequences", coverage(scores) or " or ".join(map(str, sequences))),
        ("Frames", " or ".join(map(str, frames))),
        *([("Missing modalities", lost)] if lost else []),
        ("Protocol", protocols(scores).removeprefix("Protocol: ")),
        *([("Long-term", long.removeprefix("Protocol, long-term: "))] if (long := longterm_protocol(scores)) else []),
        ("Files", f"{FIGURES}/ holds the figures as PNG and PDF, {TABLES}/ the tables as CSV and LaTeX"),
        ("Made by", f"duotrack {__version__}"),
    ]


def _move(folder: Path, out: Path) -> None:
    """Put the finished folder in the place of `out`; things there that are not of a report stay."""
    held = {path.name for path in out.iterdir()} if out.exists() else set()
    if not held:
        folder.replace(out)
    elif held <= {PAGE, FIGURES, TABLES}:
        old = folder.with_name(f"{folder.name}-old")
        out.replace(old)
        folder.replace(out)
        shutil.rmtree(old)
    else:
        for name in (FIGURES, TABLES, PAGE):  # the page last: where it is new, all is
            if (out / name).is_dir() and not (out / name).is_symlink():
                shutil.rmtree(out / name)
            (folder / name).replace(out / name)
