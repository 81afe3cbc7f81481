"""`qspace-nd map`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.cli.options import (
    DEFAULT_MAP,
    NOVELTY,
    OUTPUT,
    Command,
    FindScans,
    clustered,
    machine,
    model_folder,
    option,
    overwriting,
    scan_reading,
    scans,
    talking,
)
from qspace_nd.cli.values import PATH, Number, PartOf, Whole
from qspace_nd.progress import Progress
from qspace_nd.scores.names import DEFAULT_SCORE, DIRECTED_SCORE
from qspace_nd.workflows.settings import EXACT, SEARCHES

_log = logging.getLogger(__name__)


@click.command(
    "map", cls=Command, epilog="Example:  qspace-nd map patient.nii.gz -o novelty.nii.gz"
)
@scans
@scan_reading
@model_folder("The model that `qspace-nd fit` wrote.")
@option(
    "--score",
    "scores",
    heading=NOVELTY,
    multiple=True,
    default=[],
    metavar="NAME",
    help="Novelty score, see `qspace-nd scores`; may be repeated, or be all: those of the paper.  "
    f"[default: {DEFAULT_SCORE}]",
)
@option(
    "--neighbours",
    heading=NOVELTY,
    type=Whole(1, 1000),
    metavar="K",
    help="Take the mean distance to the K nearest healthy voxels.  [default: the model's: 10, what "
    "--tune chose, or 1 with --preset paper]",
)
@option(
    "--search",
    heading=NOVELTY,
    type=click.Choice(SEARCHES),
    default=EXACT,
    show_default=True,
    help="Look for the nearest voxels everywhere, or in likely places alone; the JSON file then "
    "says what share of them was found.",
)
@option(
    "--smooth",
    heading=NOVELTY,
    type=Number(0, 100, "mm", above=True),
    metavar="MM",
    help="Write a second map, smoothed inside the mask by a Gaussian of this FWHM.",
)
@option(
    "--toward",
    heading=NOVELTY,
    metavar="CHANGE",
    help="The change that directed scores look for: demyelination, oedema, restricted, "
    "axonal-loss, or components as in t2=+,md=+,fa=-; without b-values, channels as in "
    "FLAIR=+,T1w=-.  [default score with it: "
    f"{DIRECTED_SCORE}]",
)
@option(
    "--explain",
    heading=NOVELTY,
    is_flag=True,
    help="Write too how far b=0, mean diffusivity, anisotropy and the mean of each shell, or "
    "channels without b-values, are above or below the healthy people's at each place; without a "
    "template, those of the healthy voxels most like it.",
)
@option(
    "--cluster-share",
    heading=NOVELTY,
    type=Number(0, 1, "of the voxels", above=True),
    default=CLUSTER_SHARE,
    show_default=True,
    metavar="SHARE",
    help="The share of healthy voxels above which a patient's form clusters, where the model is "
    "calibrated.",
)
@option(
    "--atlas",
    heading=NOVELTY,
    type=PATH,
    metavar="FILE",
    help="Name the clusters by the regions of a label image, on the scan's grid or in the model's "
    "template (template.nii.gz of the model), with the table of its name beside it: .tsv with the "
    "columns index and name, or FreeSurfer's .txt.",
)
@option(
    "-o",
    "--output",
    heading=OUTPUT,
    type=PATH,
    default=DEFAULT_MAP,
    show_default=True,
    help="The map of one scan; a folder for several.",
)
@option(
    "--part",
    heading=OUTPUT,
    type=PartOf(),
    metavar="I/N",
    help="Map the I-th of N parts of the scans alone; the N parts, on as many machines, make what "
    "one run would.",
)
@option("--pdf", heading=OUTPUT, is_flag=True, help="Write the picture of each map as PDF too.")
@option(
    "--report",
    heading=OUTPUT,
    type=PATH,
    metavar="DIR",
    help="Write a page for each scan's map too, as qspace-nd report does; people are added to a "
    "report that is there, by processes side by side too.",
)
@overwriting
@machine
@clustered
@talking
def command(
    scans: FindScans,
    output: Path,
    model: Path,
    scores: tuple[str, ...],
    neighbours: int | None,
    search: str,
    smooth: float | None,
    toward: str | None,
    explain: bool,
    cluster_share: float,
    atlas: Path | None,
    part: tuple[int, int] | None,
    pdf: bool,
    report: Path | None,
    options: Any,
    machine: Any,
    runner: Any,
    force: bool,
    progress: Progress,
) -> None:
    """Write novelty maps of patients' scans: the higher, the less like healthy tissue.

    Beside each map lie the mask that was used, a JSON file that says how the map was made, and a
    picture of it (PNG): nine axial slices.
    """
    _log.info("Looking at the scans")  # what is imported for it takes its time
    from qspace_nd.scores.catalogue import PAPER
    from qspace_nd.workflows.map import map_scans
    from qspace_nd.workflows.settings import MapSettings

    scores = scores or (DEFAULT_SCORE if toward is None else DIRECTED_SCORE,)
    chosen = list(PAPER) if "all" in scores else list(dict.fromkeys(scores))
    if report is not None:
        from qspace_nd.workflows.report import report_maps, require_new

        require_new(report, model, scans(), output, force=force)
    mapped = map_scans(
        scans(),
        model,
        output,
        MapSettings(
            *(chosen, neighbours, search, smooth, toward, explain, cluster_share, pdf, atlas)
        ),
        options=options,
        machine=machine,
        runner=runner,
        part=part or (1, 1),
        force=force,
        progress=progress,
    )
    if report is not None:
        maps = [path for files in mapped for path in files.maps.values()]
        report_maps(maps, model, report, force=force, progress=progress)
