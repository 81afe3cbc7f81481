"""`qspace-nd eval`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qspace_nd.cli.options import (
    DEFAULT_MAP,
    MAPS,
    OUTPUT,
    Command,
    dataset_selection,
    option,
    overwriting,
    talking,
)
from qspace_nd.cli.values import PATH
from qspace_nd.progress import Progress

if TYPE_CHECKING:
    from qspace_nd.layouts.bids import Dataset

DEFAULT_FOLDER = Path("qspace-nd-eval")

_PLAIN_WIDTH = 100  # where there is no terminal

_log = logging.getLogger(__name__)


class _Eval(Command):
    """Labels come after MAPS; before them, what is no file is one."""

    arguments = 1

    def is_label(self, word: str) -> bool:
        """Whether no file is called so."""
        return not Path(word).expanduser().exists()


@click.command(
    "eval",
    cls=_Eval,
    epilog="Example:  qspace-nd eval novelty.nii.gz --labels lesions.nii.gz",
)
@click.argument("maps", type=PATH, nargs=-1)
@option(
    "--labels",
    heading=MAPS,
    type=PATH,
    multiple=True,
    help="Lesion mask drawn by an expert: one for each patient, in the order of the maps, or a "
    "folder of them.",
)
@dataset_selection(MAPS)
@option(
    "--mask",
    "masks",
    heading=MAPS,
    type=PATH,
    multiple=True,
    help="Voxels to evaluate, for each patient.  [default: the mask beside the map]",
)
@option(
    "--within",
    heading=MAPS,
    type=PATH,
    multiple=True,
    help="Region, such as white matter, to evaluate beside the whole mask, called as its file; one "
    "or more for each patient.",
)
@option(
    "--resample-labels",
    heading=MAPS,
    is_flag=True,
    help="Bring labels that lie on another grid than their map, in the same space, onto the map's "
    "grid; without it they are refused.",
)
@option(
    "-o",
    "--output",
    heading=OUTPUT,
    type=PATH,
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder for eval.json, eval.tsv and the figures.",
)
@overwriting
@talking
def command(
    maps: tuple[Path, ...],
    labels: tuple[Path, ...],
    dataset: Dataset | None,
    masks: tuple[Path, ...],
    within: tuple[Path, ...],
    resample_labels: bool,
    output: Path,
    force: bool,
    progress: Progress,
) -> None:
    """Compare novelty maps with lesion masks drawn by experts.

    MAPS are novelty maps of one or many patients, or folders of them; novelty.nii.gz unless named.
    Maps of several scores of one scan share its labels. With --bids in place of --labels, the maps
    of the chosen participants are compared with the lesion masks of the dataset or its derivatives.
    """
    from qspace_nd.layouts.pairing import find_maps
    from qspace_nd.workflows.evaluate import evaluate_maps

    if bool(labels) == (dataset is not None):
        raise click.UsageError(
            "Missing option '--labels', or --bids in its place."
            if dataset is None
            else "Name the lesion masks by --labels or by --bids, not both."
        )
    chosen = list(maps) or [DEFAULT_MAP]
    if dataset is not None:
        chosen = dataset.maps_among(find_maps(chosen))
    evaluation = evaluate_maps(
        chosen,
        labels if dataset is None else dataset.lesions(),
        output,
        masks=masks,
        within=within,
        resample_labels=resample_labels,
        force=force,
        progress=progress,
    )
    show(evaluation.results)
    _log.info(f"Tables and figures are in {output}/")


def show(results: list) -> None:  # type: ignore[type-arg]
    """Print the tables of an evaluation to standard output."""
    from rich.console import Console

    from qspace_nd.cli.printing import (
        render_froc,
        render_overlaps,
        render_recall,
        render_table,
    )

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    for region in dict.fromkeys(result.region for result in results):
        part = [result for result in results if result.region == region]
        tables = (
            render_table(part, width=console.width, plain=not console.is_terminal),
            render_overlaps(part, width=console.width),
            render_recall(part, width=console.width),
            render_froc(part, width=console.width),
        )
        for table in tables:
            console.print(table)
            console.print()
