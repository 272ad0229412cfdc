"""A measurement as a dict that shows itself in a notebook: its tables and its figures."""

from ddim.evaluation import report
from ddim.system import html


class Record(dict):
    """What a measuring function returns: the dict that its JSON file holds. In a notebook it is drawn."""

    def _repr_html_(self) -> str:
        parts = [html.table(rows[1:], rows[0]) for rows in self.tables()]
        return "".join([*parts, *map(html.image, self.get("figures") or [self.get("figure", "")])])

    def tables(self) -> list[list[list[str]]]:
        """Its tables as rows of text, the first of each their heads."""
        if "cells" in self:
            return [report.grid(self), report.details(self)]
        heads = list(self["rows"][0])
        return [[heads, *([_short(row[name]) for name in heads] for row in self["rows"])]]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
