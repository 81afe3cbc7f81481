"""`qspace-nd scores`."""

from __future__ import annotations

import click

from qspace_nd.cli.options import Command, talking
from qspace_nd.progress import Progress

_PLAIN_WIDTH = 140  # where there is no terminal: wide enough for every row


@click.command("scores", cls=Command, epilog="Example:  qspace-nd scores")
@talking
def command(progress: Progress) -> None:
    """List every novelty score: its name, its symbol in the paper, its equation, what it costs."""
    from rich.console import Console
    from rich.table import Table

    from qspace_nd.scores.base import Cost
    from qspace_nd.scores.catalogue import CATALOGUE

    table = Table(
        "Name", "In the paper", "Definition", "Family", "Cost", box=None, header_style="bold"
    )
    for name, entry in CATALOGUE.items():
        table.add_row(name, entry.symbol, entry.equation, entry.family, entry.cost.label)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table)
    console.print("\nFor min_y, Nearest takes the mean of the K least: map --neighbours K, or 10.")
    console.print("\nCost, for each voxel:")
    for cost in Cost:
        console.print(f"  {cost.label:8}{cost.meaning}")
