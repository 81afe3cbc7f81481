"""`qspace-nd simulate`."""

from __future__ import annotations

from pathlib import Path

import click

from qspace_nd.cli.options import PATH, common
from qspace_nd.progress import Progress


@click.command("simulate", epilog="Example:  qspace-nd simulate cohort --layout flat")
@click.argument("folder", type=PATH)
@click.option("--controls", type=click.IntRange(min=0), default=6, show_default=True)
@click.option("--patients", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--layout",
    type=click.Choice(["bids", "flat"]),
    default="bids",
    show_default=True,
    help="A BIDS dataset, or healthy/*.nii.gz with patient.nii.gz and lesions.nii.gz.",
)
@click.option("--voxel-size", type=float, default=3.0, show_default=True, help="In mm.")
@click.option("--bval", type=PATH, help="b-values in s/mm².  [default: 6 b=0 and 40 at b=1200]")
@click.option("--bvec", type=PATH, help="b-vectors for --bval, in FSL's format.")
@click.option(
    "--lesion-masks",
    type=PATH,
    multiple=True,
    help="Lesion mask in MNI space to take the shapes from; may be repeated.  [default: drawn]",
)
@click.option(
    "--lesion",
    "kind",
    type=click.Choice(["demyelinating", "restricted", "mild-t2"]),
    default="demyelinating",
    show_default=True,
    help="What lesions do to the tissue.",
)
@click.option("--snr", type=float, default=20.0, show_default=True, help="Of white matter at b=0.")
@common
def command(
    folder: Path,
    controls: int,
    patients: int,
    layout: str,
    voxel_size: float,
    bval: Path | None,
    bvec: Path | None,
    lesion_masks: tuple[Path, ...],
    kind: str,
    snr: float,
    force: bool,
    device: str,
    seed: int,
    progress: Progress,
) -> None:
    """Write a cohort of simulated healthy controls and patients to FOLDER.

    The anatomy is the ICBM152 brain, differently deformed in each subject; the signal is that of
    crossing fibre tensors, grey matter and fluid, with Rician noise. Patients have lesions, and
    label files that say where.
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
        force=force,
        progress=progress,
    )
    progress.say(
        f"Scans of controls: {len(cohort.controls)}; of patients: {len(cohort.patients)}; "
        f"all are in {folder}/"
    )
