"""`qspace-nd check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import PATH, FindScans, common, scan_reading, scans
from qspace_nd.progress import Progress


@click.command("check", epilog="Example:  qspace-nd check healthy/*.nii.gz patient.nii.gz")
@scans
@click.option(
    "--model",
    type=PATH,
    metavar="FOLDER",
    help="Model that the scans are to fit.  [default: the first scan]",
)
@scan_reading
@common
def command(
    scans: FindScans,
    model: Path | None,
    options: Any,
    force: bool,
    device: str,
    seed: int,
    progress: Progress,
) -> None:
    """Say what is wrong with scans, and with each beside the first; compute nothing.

    Reads every scan as `fit` and `map` do. The exit status is 0 where all can be used, 2 where
    one cannot.
    """
    from qspace_nd.workflows.check import check_scans

    reports = check_scans(scans(), model, options=options, progress=progress)
    for report in reports:
        click.echo(f"{report.image}: {'OK' if report.problem is None else 'cannot be used'}")
        for line in report.lines():
            click.echo(f"    {line}")
    bad = sum(report.problem is not None for report in reports)
    click.echo(f"{len(reports) - bad} of {len(reports)} scans can be used.")
    if bad:
        click.get_current_context().exit(2)
