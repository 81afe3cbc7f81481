"""`qspace-nd check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import (
    NETWORK,
    Command,
    FindScans,
    option,
    scan_reading,
    scans,
    talking,
    threads,
)
from qspace_nd.cli.values import PATH
from qspace_nd.progress import Progress


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
    help="Model that the scans are to fit.  [default: the first scan]",
)
@threads
@talking
def command(
    scans: FindScans,
    model: Path | None,
    options: Any,
    nthreads: int | None,
    progress: Progress,
) -> None:
    """Say what is wrong with scans, and with each beside the first; write nothing.

    Reads every scan as `fit` and `map` do; with -q, what is well goes without saying. The exit
    status is 0 where all can be used, 2 where one cannot.
    """
    from qspace_nd.cli.console import wrapped
    from qspace_nd.workflows.check import check_scans

    checked = check_scans(scans(), model, options=options, progress=progress)
    quiet = click.get_current_context().params["quiet"]
    for one in checked:
        if quiet and one.problem is None and not one.warnings:
            continue
        click.echo(f"{one.image}: {'OK' if one.problem is None else 'cannot be used'}")
        for line in one.lines()[len(one.facts) if quiet else 0 :]:
            click.echo(wrapped(line, sys.stdout, indent=4))
    bad = sum(one.problem is not None for one in checked)
    if bad or not quiet:
        click.echo(f"{len(checked) - bad} of {len(checked)} scans can be used.")
    if bad:
        click.get_current_context().exit(2)
