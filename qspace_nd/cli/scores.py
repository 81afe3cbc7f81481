"""`qspace-nd scores`."""

from __future__ import annotations

import click

from qspace_nd.cli.options import common
from qspace_nd.progress import Progress


@click.command("scores", epilog="Example:  qspace-nd scores")
@common
def command(force: bool, device: str, seed: int, progress: Progress) -> None:
    """List every novelty score: its name, its symbol in the paper, its equation."""
    from rich.console import Console
    from rich.table import Table

    from qspace_nd.scores.catalogue import CATALOGUE

    table = Table("Name", "In the paper", "Definition", box=None, header_style="bold")
    for name, entry in CATALOGUE.items():
        table.add_row(name, entry.symbol, entry.equation)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
