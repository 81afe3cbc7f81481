"""`qspace-nd map`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import (
    DEFAULT_MAP,
    PATH,
    FindScans,
    common,
    memory_limit,
    model_folder,
    scan_reading,
    scans,
)
from qspace_nd.progress import Progress


@click.command("map", epilog="Example:  qspace-nd map patient.nii.gz -o novelty.nii.gz")
@scans
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=DEFAULT_MAP,
    show_default=True,
    help="The map of one scan; a folder for several.",
)
@model_folder("The model that `qspace-nd fit` wrote.")
@click.option(
    "--score",
    "scores",
    multiple=True,
    default=["latent-distance"],
    show_default=True,
    metavar="NAME",
    help="Novelty score, see `qspace-nd scores`; may be repeated, or be all.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(min=1),
    metavar="K",
    help="Take the mean distance to the K nearest healthy voxels.  [default: the model's: 10, what "
    "--tune chose, or 1 with --preset paper]",
)
@click.option(
    "--search",
    type=click.Choice(["exact", "approximate"]),
    default="exact",
    show_default=True,
    help="Look for the nearest voxels everywhere, or in likely places alone; the JSON file then "
    "says what share of them was found.",
)
@click.option(
    "--smooth",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MM",
    help="Write a second map, smoothed inside the mask by a Gaussian of this FWHM.",
)
@memory_limit
@scan_reading
@common
def command(
    scans: FindScans,
    output: Path,
    model: Path,
    scores: tuple[str, ...],
    neighbours: int | None,
    search: str,
    smooth: float | None,
    memory: int | None,
    options: Any,
    force: bool,
    device: str,
    seed: int,
    progress: Progress,
) -> None:
    """Write novelty maps of patients' scans: the higher, the less like healthy tissue.

    Beside each map lie the mask that was used and a JSON file that says how the map was made.
    """
    from qspace_nd.scores.catalogue import CATALOGUE
    from qspace_nd.workflows.fit import map_scans

    chosen = list(CATALOGUE) if "all" in scores else list(dict.fromkeys(scores))
    map_scans(
        scans(),
        model,
        output,
        scores=chosen,
        neighbours=neighbours,
        approximate=search == "approximate",
        smooth=smooth,
        options=options,
        memory=memory,
        device=device,
        force=force,
        progress=progress,
    )
