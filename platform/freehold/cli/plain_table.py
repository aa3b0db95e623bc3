"""Tables as this project prints them: no lines, figures to the right."""

from __future__ import annotations

from rich.table import Table


def plain_table(*headings: str, numbers: int = 0) -> Table:
    """A plain table; the last `numbers` columns are figures."""
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        is_number = place >= len(headings) - numbers
        table.add_column(heading, justify="right" if is_number else "left")
    return table
