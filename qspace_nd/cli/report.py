"""`qspace-nd report`."""

from __future__ import annotations

from pathlib import Path

import click

from qspace_nd.cli.options import (
    DEFAULT_MAP,
    MAPS,
    OUTPUT,
    Command,
    model_folder,
    option,
    overwriting,
    talking,
)
from qspace_nd.cli.values import PATH
from qspace_nd.progress import Progress

DEFAULT_FOLDER = Path("qspace-nd-report")


@click.command("report", cls=Command, epilog="Example:  qspace-nd report novelty.nii.gz -o report")
@click.argument("maps", type=PATH, nargs=-1)
@option(
    "--labels",
    heading=MAPS,
    type=PATH,
    multiple=True,
    help="Lesion mask to outline: one for each patient, in the order of the maps, or a folder of "
    "them.",
)
@model_folder("The model that made the maps.")
@option(
    "-o",
    "--output",
    heading=OUTPUT,
    type=PATH,
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder for index.html, a page for each person, and methods and references for a paper.",
)
@overwriting
@talking
def command(
    maps: tuple[Path, ...],
    labels: tuple[Path, ...],
    model: Path,
    output: Path,
    force: bool,
    progress: Progress,
) -> None:
    """Write a page for each person's novelty maps, to be opened in a browser, and one of all.

    MAPS are novelty maps of one or many patients, or folders of them; novelty.nii.gz unless named.
    Each page is one file that needs no network: the map on the anatomy, its clusters against the
    healthy people's, the quality of the scan, and a paragraph of methods.
    """
    from qspace_nd.workflows.report import report_maps

    report_maps(
        list(maps) or [DEFAULT_MAP], model, output, labels=labels, force=force, progress=progress
    )
