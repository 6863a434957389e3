"""A table of a report, and writing it as CSV and LaTeX.

Rates are fractions in the table and in CSV (full precision), percent with one decimal in LaTeX and on the page.
"""

import csv
import io
import math
import re
from dataclasses import dataclass
from typing import Literal

Cell = str | float | int | None


@dataclass(frozen=True)
class Column:
    """A heading and what stands below: words, a fraction, a whole number or a number with one decimal.

    A `spare` column says what the table's note says already; only CSV has it.
    """

    title: str
    kind: Literal["text", "rate", "count", "number"] = "text"
    spare: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `name` is its file stem, `note` says by which protocol the numbers were made.

    `best` says along which direction the best rate is set off; `marked` rows are those measured here.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    best: Literal["column", "row", "none"] = "none"
    marked: frozenset[int] = frozenset()

    def shown(self, row: int, column: int) -> str:
        """The cell as a reader sees it."""
        return _shown(self.rows[row][column], self.columns[column].kind)

    def best_cells(self) -> frozenset[tuple[int, int]]:
        """(row, column) of every cell that holds the best rate of its column or row, by the digits that are shown."""
        if self.best == "none":
            return frozenset()
        rates = [i for i, column in enumerate(self.columns) if column.kind == "rate"]
        cells = [(r, c) for r in range(len(self.rows)) for c in rates if self.rows[r][c] is not None]
        line = 1 if self.best == "column" else 0
        top: dict[int, float] = {}
        for cell in cells:
            top[cell[line]] = max(top.get(cell[line], -1.0), float(self.shown(*cell)))
        return frozenset(cell for cell in cells if float(self.shown(*cell)) == top[cell[line]])


def to_csv(table: Table) -> str:
    """The table as CSV: a line of headings, numbers in full precision, empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.title for column in table.columns])
    writer.writerows(
        [
            ["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row]
            for row in table.rows
        ]
    )
    return text.getvalue()


def to_latex(table: Table) -> str:
    """The table as a booktabs tabular, the best rates in bold; the protocol stands in a comment above it."""
    columns = [i for i, column in enumerate(table.columns) if not column.spare]
    best = table.best_cells()
    head = " & ".join(latex(table.columns[i].title) for i in columns)
    lines = [f"% {_one_line(table.title)}: rates in percent. {_one_line(table.note)}".rstrip()]
    alignment = "".join(_alignment(table, i) for i in columns)
    lines += [f"\\begin{{tabular}}{{{alignment}}}", "\\toprule", f"{head} \\\\", "\\midrule"]
    for r in range(len(table.rows)):
        cells = []
        for c in columns:
            text = latex(table.shown(r, c)) or "--"
            cells.append(f"\\textbf{{{text}}}" if (r, c) in best else text)
        lines.append(f"{' & '.join(cells)} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _alignment(table: Table, column: int) -> str:
    if table.columns[column].kind != "text":
        return "r"
    longest = max((len(table.shown(row, column)) for row in range(len(table.rows))), default=0)
    return "l" if longest <= 60 else r"p{0.4\linewidth}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


def latex(text: str) -> str:
    """`text` with everything that LaTeX would act on made harmless."""
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text)


def _shown(cell: Cell, kind: str) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    if kind == "rate":
        return f"{100 * cell:.1f}"
    return f"{cell:.1f}" if kind == "number" else f"{cell}"
