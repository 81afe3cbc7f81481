"""`qspace-nd scores`."""

from __future__ import annotations

import click

from qspace_nd.cli.options import Command, talking
from qspace_nd.progress import Progress

_PLAIN_WIDTH = 180  # where there is no terminal: wide enough for every row


_HEADERS = ("Name", "In the paper", "Definition", "Family", "Cost")
_LAYOUTS = ((0, 1, 2, 3, 4), (0, 1, 2, 4), (0, 2, 4))
"""Columns, from the fullest layout: a narrow terminal shows fewer, and each whole."""


@click.command("scores", cls=Command, epilog="Example:  qspace-nd scores")
@talking
def command(progress: Progress) -> None:
    """List every novelty score: its name, its symbol in the paper, its equation, what it costs."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    from qspace_nd.scores.base import Cost
    from qspace_nd.scores.catalogue import CATALOGUE

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    rows = [
        [name, one.symbol, one.equation, one.family, one.cost.label]
        for name, one in CATALOGUE.items()
    ]
    for columns in _LAYOUTS:
        table = Table(box=None, header_style="bold")
        for column in columns:
            table.add_column(_HEADERS[column], no_wrap=_HEADERS[column] != "Definition")
        for row in rows:
            table.add_row(*(row[column] for column in columns))
        if Measurement.get(console, console.options.update(width=1000), table).maximum <= (
            console.width
        ):
            break
    console.print(table)
    console.print("\nFor min_y, Nearest takes the mean of the K least: map --neighbours K, or 10.")
    console.print("\nCost, for each voxel:")
    for cost in Cost:
        console.print(f"  {cost.label:8}{cost.meaning}")
