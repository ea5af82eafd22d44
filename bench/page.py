"""The report as one HTML file: tables, and plots to zoom, hover and switch, without a network.

Python computes what is drawn, as a list of panels; `page.js` draws them with plotly.js (out of the plotly package, inlined)
in the colours of the reader's light or dark theme.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from pathlib import Path

from plotly.offline import get_plotlyjs

from . import report
from .goals import all_rows
from .panels import COLOURS, WIDE, panels
from .summary import Results

FOLDER = Path(__file__).parent


def text(results: Results) -> str:
    """The whole file."""
    machine = results.document["machine"]
    drawn = list(panels(results))
    parts = {
        "TITLE": html.escape(f"shmring bench: {machine['cpu']}"),
        "CIRCUMSTANCES": "".join(f"<li>{html.escape(line)}</li>" for line in report.circumstances(results)),
        "GOALS": _goals(results),
        "TABLES": "".join(_details(*each) for each in report.shape_tables(results)),
        "ABSENT": "".join(f"<li>{html.escape(line)}</li>" for line in report.missing_contenders(results)),
        "METHOD": html.escape(report.METHOD.read_text(encoding="utf-8")),
        "STYLE": (FOLDER / "page.css").read_text(encoding="utf-8"),
        "PANELS": _script({"panels": drawn, "colours": COLOURS, "wide": WIDE}),
        "PLOTLY": get_plotlyjs(),
        "SCRIPT": (FOLDER / "page.js").read_text(encoding="utf-8"),
    }
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part)
    return page


def _script(value: object) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, separators=(",", ":")).replace("</", "<\\/")


def _table(titles: list[str], lines: Iterable[list[str]]) -> str:
    def row(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell.replace('**', ''))}</{tag}>" for cell in cells) + "</tr>"

    return f"<div class=wide><table>{row(titles, 'th')}{''.join(row(line, 'td') for line in lines)}</table></div>"


def _goals(results: Results) -> str:
    rows = all_rows(results)
    if not rows:
        return "<p>None of the goals is judged by what was measured.</p>"
    return _table(list(report.ROW_TITLES), [list(vars(row).values()) for row in rows])


def _details(heading: str, titles: list[str], lines: list[list[str]], remarks: list[str]) -> str:
    notes = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    return f"<details><summary>{html.escape(heading)}</summary>{_table(titles, lines)}<ul>{notes}</ul></details>"
