"""`qspace-nd calibrate`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import NOVELTY, Command, crewed, machine, model_folder, option, talking
from qspace_nd.cli.values import Whole
from qspace_nd.progress import Progress
from qspace_nd.scores.names import DEFAULT_SCORE, DIRECTED_SCORE

_log = logging.getLogger(__name__)


@click.command(
    "calibrate",
    cls=Command,
    epilog="Example:  qspace-nd calibrate --score latent-placed-distance",
)
@model_folder("The model that `qspace-nd fit` wrote.")
@option(
    "--score",
    "scores",
    heading=NOVELTY,
    multiple=True,
    default=[],
    metavar="NAME",
    help=f"Novelty score, see `qspace-nd scores`; may be repeated.  [default: {DEFAULT_SCORE}]",
)
@option(
    "--neighbours",
    heading=NOVELTY,
    type=Whole(1, 1000),
    metavar="K",
    help="As for `map`; maps of another number are not compared.  [default: the model's]",
)
@option(
    "--toward",
    heading=NOVELTY,
    metavar="CHANGE",
    help=f"The change that directed scores look for, as for `map`.  [default score with it: "
    f"{DIRECTED_SCORE}]",
)
@machine
@crewed
@talking
def command(
    model: Path,
    scores: tuple[str, ...],
    neighbours: int | None,
    toward: str | None,
    machine: Any,
    crew: Any,
    progress: Progress,
) -> None:
    """Map every healthy person of a model by the others, and keep that in the model.

    Then `map` writes beside each map what its values mean: the share of healthy voxels that are as
    novel, and clusters with how many healthy people have one as large. `fit` does it for the
    default score. Four people or more are wanted.
    """
    _log.info("Looking at the model")  # what is imported for it takes its time
    from qspace_nd.workflows.calibrate import calibrate_model
    from qspace_nd.workflows.settings import MapSettings

    chosen = scores or (DEFAULT_SCORE if toward is None else DIRECTED_SCORE,)
    settings = MapSettings(list(dict.fromkeys(chosen)), neighbours, toward=toward)
    calibrate_model(model, settings, machine=machine, crew=crew, progress=progress)
