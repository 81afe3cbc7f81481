"""Options that several commands share, and how the help shows them: under headings.

An option stands in a command only if the command makes use of it:

    talking         -q, -v      every command; passes on `progress`, the bars to show
    overwriting     --force     those that write; `force`
    threads         --nthreads  those that compute
    machine         --nthreads, --device and --memory, of those that use a model; `machine`
    clustered       --cluster   those whose jobs workers can do; `runner`
    chance          --seed      those that draw chances; `seed`
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from qspace_nd.cli.spreading import spread, valued_options
from qspace_nd.cli.values import PATH, Number, Whole, WorkersOf
from qspace_nd.diffusion.gradients import B0_LIMIT, LOW_B
from qspace_nd.diffusion.matching import MAX_ANGLE
from qspace_nd.layouts.derivatives import MODEL
from qspace_nd.system.machine import DEVICES, cores

if TYPE_CHECKING:
    from qspace_nd.layouts.bids import Dataset
    from qspace_nd.system.machine import Machine
    from qspace_nd.workflows.clusters import Cluster

Function = Callable[..., Any]
FindScans = Callable[..., list[Path]]
"""Finds the scans that are named: (healthy=False) -> paths."""

DEFAULT_MODEL = Path(MODEL)
DEFAULT_MAP = Path("novelty.nii.gz")

HEADINGS = SCANS, MAPS, COHORT, NETWORK, NOVELTY, OUTPUT, MACHINE, TALK = (
    "Scans",
    "Maps and lesions",
    "Cohort",
    "Model",
    "Novelty",
    "Output",
    "Machine",
    "Messages",
)
"""What options stand under in the help, in this order."""

_WIDEST = 24  # of a column of names: a longer name stands on a line of its own


class Option(click.Option):
    """An option that the help shows under a heading."""

    def __init__(self, *args: Any, heading: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading

    def get_help_extra(self, context: click.Context) -> Any:
        """Leave out the range of a number, which says in symbols what everybody expects."""
        return {
            key: told for key, told in super().get_help_extra(context).items() if key != "range"
        }


class Command(click.Command):
    """A command whose help shows its options under headings.

    Several labels may follow one --participant-label, once as many other words have come as
    `arguments` says.
    """

    arguments = 0

    def is_label(self, word: str) -> bool:
        """Whether a word is a label for certain, though arguments are still to come."""
        return False

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Take the labels apart, then do as all commands do."""
        words = spread(args, valued_options(self), self.arguments, self.is_label)
        return super().parse_args(context, list(words))

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading, with columns of one width."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for param in self.get_params(context):
            record = param.get_help_record(context)
            if record is not None and not isinstance(param, click.Argument):
                sections[getattr(param, "heading", TALK)].append(record)
        names = [name for rows in sections.values() for name, _ in rows]
        width = max(len(name) for name in names if len(name) <= _WIDEST)
        for heading, rows in sections.items():
            if rows:
                with formatter.section(heading):
                    padded = [(name.ljust(width), help) for name, help in rows]
                    formatter.write_dl(padded, col_max=width)


def option(*names: str, heading: str, **settings: Any) -> Callable[[Function], Function]:
    """Add an option under a heading; the rest is `click.option`."""
    return click.option(*names, cls=Option, heading=heading, **settings)


def talking(function: Function) -> Function:
    """Add -q and -v; what is logged is printed as they ask; pass on `progress`."""

    @option("-q", "--quiet", heading=TALK, is_flag=True, help="Only warnings, errors and results.")
    @option(
        "-v",
        "--verbose",
        heading=TALK,
        count=True,
        help="Say more: how long steps take, for instance; -vv: where an error arose, too.",
    )
    @functools.wraps(function)
    def command(*, quiet: bool, verbose: int, **options: Any) -> None:
        from qspace_nd.cli.console import listening
        from qspace_nd.system.surroundings import require_home

        require_home()  # not before paths are read: a ~ is no folder that goes at the end

        with listening(quiet=quiet, verbose=verbose) as progress:
            function(progress=progress, **options)

    return command


def overwriting(function: Function) -> Function:
    """Add --force; pass on `force`."""
    return option(
        "-f", "--force", heading=OUTPUT, is_flag=True, help="Overwrite outputs that exist."
    )(function)


def chance(heading: str) -> Callable[[Function], Function]:
    """Add --seed; pass on `seed`."""
    return option(
        "--seed",
        heading=heading,
        type=Whole(0, 2**32 - 1),
        default=0,
        show_default=True,
        metavar="N",
        help="Of all chance.",
    )


def threads(function: Function) -> Function:
    """Add --nthreads; pass on `nthreads`, None where it is not given."""
    return option(
        "--nthreads",
        heading=MACHINE,
        type=Whole(1, 4096),
        metavar="N",
        envvar="SLURM_CPUS_PER_TASK",
        callback=_limit_threads,
        help="Threads to use.  [default: SLURM_CPUS_PER_TASK, or all cores]",
    )(function)


def machine(function: Function) -> Function:
    """Add what of the machine may be used; pass on `machine`, a `Machine`."""

    @threads
    @option(
        "--device",
        heading=MACHINE,
        type=click.Choice(DEVICES),
        default=DEVICES[0],
        show_default=True,
        help="Where networks run, and on cuda distances of all pairs.",
    )
    @option(
        "--memory",
        heading=MACHINE,
        type=Number(0, 1e6, "GB", above=True),
        metavar="GB",
        help="The most memory to use, in 10^9 bytes; with less, more is done in blocks.  "
        "[default: three quarters of what the machine, the container or Slurm's job has left]",
    )
    @functools.wraps(function)
    def command(*, nthreads: int | None, device: str, memory: float | None, **options: Any) -> None:
        from qspace_nd.system.machine import Machine

        most = None if memory is None else round(memory * 1e9)
        function(machine=Machine(device, most, nthreads), **options)

    return command


_cluster = option(
    "--cluster",
    heading=MACHINE,
    type=WorkersOf(),
    metavar="WHERE",
    help="Let workers do the scans side by side: local:N for N processes here, slurm for jobs by "
    "your configuration of Dask, tcp://HOST:PORT, tls://HOST:PORT or FILE.json for a Dask "
    "scheduler that runs. --nthreads and --memory are each worker's.",
)


def clustered(function: Function) -> Function:
    """Add --cluster, within `machine`; pass on `runner`, and as `machine` what a worker may use."""

    @_cluster
    @functools.wraps(function)
    def command(*, cluster: Cluster | None, machine: Machine, **options: Any) -> None:
        from qspace_nd.workflows.runners import in_turn

        if cluster is None:
            function(machine=machine, runner=in_turn, **options)
            return
        from qspace_nd.workflows.dask_runner import DaskRunner

        machine = cluster.share(_asked_of_each(machine))
        function(machine=machine, runner=DaskRunner(cluster), **options)

    return command


def crewed(function: Function) -> Function:
    """Add --cluster, within `machine`; pass on `crew`, and `machine` as it is."""

    @_cluster
    @functools.wraps(function)
    def command(*, cluster: Cluster | None, machine: Machine, **options: Any) -> None:
        from qspace_nd.workflows.runners import ALONE, Crew

        crew: Crew = ALONE
        if cluster is not None:
            from qspace_nd.workflows.dask_runner import DaskCrew

            crew = DaskCrew(cluster, _asked_of_each(machine))
        function(machine=machine, crew=crew, **options)

    return command


def _asked_of_each(machine: Machine) -> Machine:
    """What is asked for of each worker: not the threads that Slurm gives to all."""
    source = click.get_current_context().get_parameter_source("nthreads")
    given = source is ParameterSource.COMMANDLINE
    return machine if given else replace(machine, threads=None)


def scan_reading(function: Function) -> Function:
    """Add how scans are found, accepted and read, as `options`, a `ScanOptions`."""

    @option(
        "--mask",
        heading=SCANS,
        type=PATH,
        help="Brain mask of the scan, in place of the one beside it.",
    )
    @option(
        "--bval",
        heading=SCANS,
        type=PATH,
        help="b-values of the scan, in place of the file beside it.",
    )
    @option(
        "--bvec",
        heading=SCANS,
        type=PATH,
        help="b-vectors of the scan, likewise (FSL's convention).",
    )
    @option(
        "--max-angle",
        heading=SCANS,
        type=Number(0, 90, "degrees"),
        default=MAX_ANGLE,
        show_default=True,
        metavar="DEGREES",
        help="How far a gradient direction may lie from the model's.",
    )
    @option(
        "--gradients",
        heading=SCANS,
        type=click.Choice(["auto", "resample", "strict"]),
        default="auto",
        show_default=True,
        help="auto: fit scans in spherical harmonics where each shell has directions enough, which "
        "takes noise off and brings other directions to the model's. resample: the same, or refuse "
        "the scan. strict: take scans as they are, and refuse other directions.",
    )
    @option(
        "--b0-threshold",
        heading=SCANS,
        type=Number(B0_LIMIT, LOW_B, "s/mm²"),
        default=B0_LIMIT,
        show_default=True,
        metavar="B",
        help="The largest b-value that is taken as 0, in s/mm².",
    )
    @option(
        "--ignore-nonfinite",
        heading=SCANS,
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
        b0_threshold: float,
        ignore_nonfinite: bool,
        **options: Any,
    ) -> None:
        from qspace_nd.imaging.protocol import ScanOptions

        reading = ScanOptions(
            bval, bvec, mask, max_angle, ignore_nonfinite, gradients, b0_threshold
        )
        function(options=reading, **options)

    return command


def model_folder(help: str) -> Callable[[Function], Function]:
    """Add --model, the folder of the model."""
    return option(
        "--model",
        heading=NETWORK,
        type=PATH,
        default=DEFAULT_MODEL,
        show_default=True,
        help=help,
        metavar="FOLDER",
    )


def dataset_selection(heading: str) -> Callable[[Function], Function]:
    """Add --bids and whom of the dataset is meant; pass on `dataset`, None without --bids."""

    def decorate(function: Function) -> Function:
        @option(
            "--bids",
            heading=heading,
            type=PATH,
            metavar="DIR",
            help="BIDS dataset, raw or derivative (QSIPrep's for instance), of which participants "
            "and scans are chosen by the next two options.",
        )
        @option(
            "--participant-label",
            "participants",
            heading=heading,
            multiple=True,
            metavar="LABEL ...",
            help="Participants, with or without sub-.  [default: all]",
        )
        @option(
            "--where",
            heading=heading,
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
            function(dataset=_choose(bids, participants, where), **options)

        return command

    return decorate


def _choose(
    bids: Path | None, participants: tuple[str, ...], where: tuple[str, ...]
) -> Dataset | None:
    if bids is None:
        if participants or where:
            named = "--participant-label" if participants else "--where"
            raise click.UsageError(f"{named} chooses from a BIDS dataset; name it with --bids.")
        return None
    from qspace_nd.layouts.bids import Dataset

    return Dataset(bids, participants, where)


def scans(function: Function) -> Function:
    """Add SCANS, and --bids in their place; pass on `scans`, which finds them, as `FindScans`."""

    @click.argument("scans", type=PATH, nargs=-1)
    @dataset_selection(SCANS)
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


def _limit_threads(
    context: click.Context, option: click.Parameter, threads: int | None
) -> int | None:
    """Let every library use so many threads, or as many as there are cores.

    The libraries read the environment when they are loaded: this must come before any of them.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads or cores())
    return threads
