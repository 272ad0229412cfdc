"""Tables and images as HTML, for the notebooks in which objects show themselves."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path


def table(rows: Iterable[Sequence[object]], heads: Sequence[object] = (), caption: str = "") -> str:
    """Rows of text as a table."""
    lines = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    lines += [_row("th", heads)] if heads else []
    return f"<table>{''.join([*lines, *(_row('td', row) for row in rows)])}</table>"


def image(path: str | Path) -> str:
    """A PNG file within the page; nothing where it has gone."""
    try:
        data = base64.b64encode(Path(path).read_bytes()).decode()
    except OSError:
        return ""
    return f'<img alt="{html.escape(Path(path).stem)}" src="data:image/png;base64,{data}">'


def _row(kind: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{kind}>{html.escape(str(cell))}</{kind}>' for cell in cells)}</tr>"
