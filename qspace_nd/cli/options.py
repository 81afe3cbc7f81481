"""Options that several commands share."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from qspace_nd.layouts.bids import Dataset

Function = Callable[..., Any]
FindScans = Callable[..., list[Path]]
"""Finds the scans that are named: (healthy=False) -> paths."""

DEFAULT_MODEL = Path("qspace-nd-model")
DEFAULT_MAP = Path("novelty.nii.gz")

PATH = click.Path(path_type=Path)


def common(function: Function) -> Function:
    """Add what every command has; pass the set up `progress`, `force`, `device` and `seed` on."""

    @click.option(
        "-q", "--quiet", is_flag=True, help="Say nothing but results, warnings and errors."
    )
    @click.option("-v", "--verbose", count=True, help="Say more; -vv more still.")
    @click.option("-f", "--force", is_flag=True, help="Overwrite outputs that exist.")
    @click.option(
        "--nthreads",
        type=click.IntRange(min=1),
        envvar="SLURM_CPUS_PER_TASK",
        callback=_limit_threads,
        expose_value=False,
        help="Threads to use.  [default: SLURM_CPUS_PER_TASK, or all cores]",
    )
    @click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where networks run, and on cuda distances of all pairs.",
    )
    @click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance."
    )
    @functools.wraps(function)
    def command(*, quiet: bool, verbose: int, **options: Any) -> None:
        from qspace_nd.cli.console import open_progress

        logging.basicConfig(format="%(message)s")
        logging.getLogger("qspace_nd").setLevel(max(10, 30 - 10 * verbose))
        function(progress=open_progress(quiet=quiet), **options)

    return command


def scan_reading(function: Function) -> Function:
    """Add how scans are found, accepted and read, as `options`, a `ScanOptions`."""

    @click.option(
        "--mask", type=PATH, help="Brain mask of the scan, in place of the one beside it."
    )
    @click.option("--bval", type=PATH, help="b-values of the scan, in place of the file beside it.")
    @click.option("--bvec", type=PATH, help="b-vectors of the scan, likewise (FSL's convention).")
    @click.option(
        "--max-angle",
        type=click.FloatRange(0, 90),
        default=5.0,
        show_default=True,
        help="Degrees that a gradient direction may differ from the model's.",
    )
    @click.option(
        "--gradients",
        type=click.Choice(["auto", "resample", "strict"]),
        default="auto",
        show_default=True,
        help="auto: fit scans in spherical harmonics where each shell has directions enough, which "
        "takes noise off and brings other directions to the model's. resample: the same, or refuse "
        "the scan. strict: take scans as they are, and refuse other directions.",
    )
    @click.option(
        "--ignore-nonfinite",
        is_flag=True,
        help="Leave voxels with NaN or infinity out, rather than refuse the scan.",
    )
    @functools.wraps(function)
    def command(
        *,
        mask: Path | None,
        bval: Path | None,
        bvec: Path | None,
        max_angle: float,
        gradients: str,
        ignore_nonfinite: bool,
        **options: Any,
    ) -> None:
        from qspace_nd.imaging.protocol import ScanOptions

        reading = ScanOptions(bval, bvec, mask, max_angle, ignore_nonfinite, gradients)
        function(options=reading, **options)

    return command


def memory_limit(function: Function) -> Function:
    """Add --memory, passed on in bytes; None where it is not given."""

    def to_bytes(context: click.Context, option: click.Parameter, gb: float | None) -> int | None:
        return None if gb is None else round(gb * 1e9)

    return click.option(
        "--memory",
        type=click.FloatRange(min=0, min_open=True),
        metavar="GB",
        callback=to_bytes,
        help="The most memory to use, in 10^9 bytes; with less, more is done in blocks.  "
        "[default: three quarters of what the machine, the container or Slurm's job has left]",
    )(function)


def model_folder(help: str) -> Callable[[Function], Function]:
    """Add --model, the folder of the model."""
    return click.option(
        "--model", type=PATH, default=DEFAULT_MODEL, show_default=True, help=help, metavar="FOLDER"
    )


def dataset_selection(function: Function) -> Function:
    """Add --bids and whom of the dataset is meant; pass on `dataset`, None without --bids."""

    @click.option(
        "--bids",
        type=PATH,
        metavar="DIR",
        help="BIDS dataset, raw or derivative (QSIPrep's for instance), of which participants and "
        "scans are chosen by the next two options.",
    )
    @click.option(
        "--participant-label",
        "--participant_label",
        "participants",
        multiple=True,
        metavar="LABEL",
        help="Participant, with or without sub-; may be repeated.  [default: all]",
    )
    @click.option(
        "--where",
        multiple=True,
        metavar="KEY=VALUE",
        help="Participants by a column of participants.tsv, as group=control, or scans by an "
        "entity of their names, as ses=01; may be repeated.",
    )
    @functools.wraps(function)
    def command(
        *,
        bids: Path | None,
        participants: tuple[str, ...],
        where: tuple[str, ...],
        **options: Any,
    ) -> None:
        if bids is None and (participants or where):
            option = "--participant-label" if participants else "--where"
            raise click.UsageError(f"{option} chooses from a BIDS dataset; name it with --bids.")
        dataset = None
        if bids is not None:
            from qspace_nd.layouts.bids import Dataset

            dataset = Dataset(bids, participants, where)
        function(dataset=dataset, **options)

    return command


def scans(function: Function) -> Function:
    """Add SCANS, and --bids in their place; pass on `scans`, which finds them, as `FindScans`."""

    @click.argument("scans", type=PATH, nargs=-1)
    @dataset_selection
    @functools.wraps(function)
    def command(*, scans: tuple[Path, ...], dataset: Dataset | None, **options: Any) -> None:
        if bool(scans) == (dataset is not None):
            raise click.UsageError(
                "Name either SCANS or a BIDS dataset, not both."
                if scans
                else "Missing argument 'SCANS...', or --bids in its place."
            )

        def find(*, healthy: bool = False) -> list[Path]:
            if dataset is None:
                return list(scans)
            return dataset.healthy_scans() if healthy else dataset.scans()

        function(scans=find, **options)

    return command


def _limit_threads(context: click.Context, option: click.Parameter, threads: int | None) -> None:
    """Let every library use so many threads, or as many as there are cores.

    The libraries read the environment when they are loaded: this must come before any of them.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads or _cores())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
