"""`qspace-nd check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import (
    NETWORK,
    OUTPUT,
    Command,
    FindScans,
    option,
    overwriting,
    scan_reading,
    scans,
    talking,
    threads,
)
from qspace_nd.cli.values import PATH
from qspace_nd.progress import Progress

_PLAIN_WIDTH = 80  # where there is no terminal


@click.command(
    "check", cls=Command, epilog="Example:  qspace-nd check healthy/*.nii.gz patient.nii.gz"
)
@scans
@scan_reading
@option(
    "--model",
    heading=NETWORK,
    type=PATH,
    metavar="FOLDER",
    help="Model that the scans are to fit.  [default: what most of the scans are like]",
)
@option(
    "-o",
    "--output",
    heading=OUTPUT,
    type=PATH,
    metavar="FILE.tsv",
    help="Write the table of the scans' quality to a file.",
)
@overwriting
@threads
@talking
def command(
    scans: FindScans,
    model: Path | None,
    options: Any,
    output: Path | None,
    force: bool,
    nthreads: int | None,
    progress: Progress,
) -> None:
    """Say what is wrong with scans, and with each beside the others; map nothing.

    Reads every scan as `fit` and `map` do, and compares it with the model, or with what most of the
    scans are like. A table has a line for each; with -q, what is well goes without saying. The exit
    status is 0 where all can be used, 2 where one cannot.
    """
    from qspace_nd.cli.console import wrapped
    from qspace_nd.workflows.check import check_scans
    from qspace_nd.workflows.quality_table import protocol_sentence

    checked = check_scans(
        scans(), model, options=options, output=output, force=force, progress=progress
    )
    quiet = click.get_current_context().params["quiet"]
    for one in checked:
        if quiet and one.problem is None and not one.warnings:
            continue
        click.echo(f"{one.image}: {'OK' if one.problem is None else 'cannot be used'}")
        for line in one.lines()[len(one.facts) if quiet else 0 :]:
            click.echo(wrapped(line, sys.stdout, indent=4))
    if not quiet:
        _show(checked)
    unlike = protocol_sentence(checked, model=model is not None)
    if unlike is not None:
        click.echo(wrapped(unlike, sys.stdout))
    bad = sum(one.problem is not None for one in checked)
    if bad or not quiet:
        click.echo(f"{len(checked) - bad} of {len(checked)} scans can be used.")
    if bad:
        click.get_current_context().exit(2)


def _show(checked: list) -> None:  # type: ignore[type-arg]
    """Print the table of quality, where there is something in it."""
    from rich.console import Console

    from qspace_nd.cli.quality import render_quality

    if any(one.figures is not None for one in checked):
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
        console.print()
        console.print(render_quality(checked, width=console.width))
        console.print()
