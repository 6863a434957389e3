"""The report as one HTML page that loads nothing: pictures inside, tables that sort by a click, light and dark."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from duotrack.evaluation.table import Table


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, a paragraph, pictures (caption, PNG bytes), tables."""

    title: str
    text: str = ""
    pictures: tuple[tuple[str, bytes], ...] = ()
    tables: tuple[Table, ...] = ()


_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --ground: #fff; --line: #d0d7de; --mark: #ddf4ff; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --soft: #9da7b3; --ground: #12161c; --line: #30363d; --mark: #12304f; }
}
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 0; } p, figcaption, dd { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; }
img { width: 100%; background: #fff; border-radius: 6px; border: 1px solid var(--line); }
figcaption, .soft { color: var(--soft); font-size: .85rem; margin: 0; }
.wide { overflow: auto; margin: .4rem 0 1rem; } .long { max-height: 44rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
thead th { position: sticky; top: 0; background: var(--ground); vertical-align: bottom; }
.text { text-align: left; max-width: 32rem; overflow-wrap: break-word; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--ground); }
thead th:first-child { z-index: 1; } .best { font-weight: 700; }
tr.mark td { background: var(--mark); }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
"""

_SCRIPT = """
document.querySelectorAll("th button").forEach(button => button.onclick = () => {
  const head = button.parentNode, body = head.closest("table").tBodies[0], column = head.cellIndex;
  const down = head.getAttribute("aria-sort") !== "descending", numeric = !head.classList.contains("text");
  const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
  const order = (a, b) => key(a) === "" ? 1 : key(b) === "" ? -1 :
    (numeric ? key(a) - key(b) : key(a).localeCompare(key(b))) * (down ? -1 : 1);
  body.append(...[...body.rows].sort(order));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
});
"""


def page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The whole page. Every name and text is escaped, and the page allows no script but its own."""
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'"
    lines = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n<dl>",
        *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts),
        "</dl>",
        *(_section(section) for section in sections),
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(lines)


def _section(section: Section) -> str:
    lines = [f"<section>\n<h2>{escape(section.title)}</h2>"]
    if section.text:
        lines.append(f"<p>{escape(section.text)}</p>")
    if section.pictures:
        pictures = "".join(_picture(*picture) for picture in section.pictures)
        lines.append(f'<div class="pictures">{pictures}</div>')
    tables = "\n".join(_table(table) for table in section.tables)
    return "\n".join([*lines, tables, "</section>"])


def _picture(caption: str, data: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    return f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>'


def _table(table: Table) -> str:
    best = table.best_cells()
    head = "".join(
        f'<th scope="col"{_kind(column.kind)}><button type="button">{escape(column.title)}</button></th>'
        for column in table.columns
        if not column.spare
    )
    rows = []
    for r, row in enumerate(table.rows):
        cells = []
        for c, cell in enumerate(row):
            column = table.columns[c]
            if column.spare:
                continue
            exact = f' data-v="{cell!r}"' if isinstance(cell, (int, float)) else ""
            text = escape(table.shown(r, c))
            cells.append(f"<td{_kind(column.kind, best=(r, c) in best)}{exact}>{text}</td>")
        mark = ' class="mark"' if r in table.marked else ""
        rows.append(f"<tr{mark}>{''.join(cells)}</tr>")
    body = "\n".join(rows)
    long = " long" * (len(table.rows) > 60)
    rows_of = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    head_line = f'<h3>{escape(table.title)}</h3>\n<p class="soft">{escape(f"{_unit(table)} {table.note}".strip())}</p>'
    return f'{head_line}\n<div class="wide{long}"><table>{rows_of}</table></div>'


def _unit(table: Table) -> str:
    return "Rates in percent." if any(column.kind == "rate" for column in table.columns) else ""


def _kind(kind: str, *, best: bool = False) -> str:
    classes = " ".join(["text"] * (kind == "text") + ["best"] * best)
    return f' class="{classes}"' if classes else ""


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
