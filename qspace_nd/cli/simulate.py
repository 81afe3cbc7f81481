"""`qspace-nd simulate`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from qspace_nd.cli.options import (
    COHORT,
    Command,
    chance,
    option,
    overwriting,
    talking,
    threads,
)
from qspace_nd.cli.values import PATH, Number, Whole
from qspace_nd.progress import Progress

LAYOUTS = ("bids", "flat")
LESIONS = ("demyelinating", "restricted", "mild-t2", "anisotropy")
NUISANCES = ("smooth", "rough")

_log = logging.getLogger(__name__)


@click.command("simulate", cls=Command, epilog="Example:  qspace-nd simulate cohort --layout flat")
@click.argument("folder", type=PATH)
@option(
    "--controls",
    heading=COHORT,
    type=Whole(0, 9999),
    metavar="N",
    default=6,
    show_default=True,
    help="How many healthy people.",
)
@option(
    "--patients",
    heading=COHORT,
    type=Whole(0, 9999),
    metavar="N",
    default=1,
    show_default=True,
    help="How many people with lesions.",
)
@option(
    "--layout",
    heading=COHORT,
    type=click.Choice(LAYOUTS),
    default=LAYOUTS[0],
    show_default=True,
    help="A BIDS dataset, or healthy/*.nii.gz with patient.nii.gz and lesions.nii.gz.",
)
@option(
    "--voxel-size",
    heading=COHORT,
    type=Number(1, 10, "mm"),
    default=3.0,
    show_default=True,
    metavar="MM",
    help="Length of a voxel's edges.",
)
@option(
    "--bval",
    heading=COHORT,
    type=PATH,
    help="b-values in s/mm².  [default: 6 b=0 and 40 at b=1200]",
)
@option("--bvec", heading=COHORT, type=PATH, help="b-vectors for --bval, in FSL's format.")
@option(
    "--anatomies",
    heading=COHORT,
    type=PATH,
    metavar="DIR",
    help="Brain labels of real people, one image each, to take heads from.  [default: ICBM152]",
)
@option(
    "--lesion-masks",
    heading=COHORT,
    type=PATH,
    multiple=True,
    help="Lesion mask in MNI space to take the shapes from; may be repeated.  [default: drawn]",
)
@option(
    "--lesion",
    "kind",
    heading=COHORT,
    type=click.Choice(LESIONS),
    default=LESIONS[0],
    show_default=True,
    help="What lesions do to the tissue.",
)
@option(
    "--mass-effect",
    heading=COHORT,
    type=Number(0, 50, "mm"),
    metavar="MM",
    default=0.0,
    help="Patients have a tumour, which pushes the tissue at its edge so far.  [default: none]",
)
@option(
    "--nuisance",
    heading=COHORT,
    type=click.Choice(NUISANCES),
    default=NUISANCES[0],
    show_default=True,
    help="Whether healthy tissue and the receiver vary over few millimetres too.",
)
@option(
    "--snr",
    heading=COHORT,
    type=Number(0, 1e6, above=True),
    default=20.0,
    show_default=True,
    metavar="RATIO",
    help="Signal-to-noise ratio of white matter at b=0.",
)
@overwriting
@threads
@chance(COHORT)
@talking
def command(
    folder: Path,
    controls: int,
    patients: int,
    layout: str,
    voxel_size: float,
    anatomies: Path | None,
    bval: Path | None,
    bvec: Path | None,
    lesion_masks: tuple[Path, ...],
    kind: str,
    mass_effect: float,
    nuisance: str,
    snr: float,
    force: bool,
    nthreads: int | None,
    seed: int,
    progress: Progress,
) -> None:
    """Write a cohort of simulated healthy controls and patients to FOLDER.

    The anatomy is the ICBM152 brain, differently deformed in each subject, or with --anatomies that
    of a real person each; the signal is that of crossing fibre tensors, grey matter and fluid, with
    Rician noise. Patients have lesions, and label files that say where.
    """
    from qspace_nd.simulation.cohort import read_table, simulate_cohort

    if (bval is None) != (bvec is None):
        raise click.UsageError("--bval and --bvec belong together; name both files or neither.")
    cohort = simulate_cohort(
        folder,
        controls=controls,
        patients=patients,
        layout=layout,
        voxel_size=voxel_size,
        table=None if bval is None or bvec is None else read_table(bval, bvec),
        lesion_masks=lesion_masks,
        kind=kind,
        snr=snr,
        seed=seed,
        anatomies=anatomies,
        mass_effect=mass_effect,
        nuisance=nuisance,
        force=force,
        progress=progress,
    )
    _log.info(
        f"Scans of controls: {len(cohort.controls)}; of patients: {len(cohort.patients)}; "
        f"all are in {folder}/"
    )
