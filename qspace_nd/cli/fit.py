"""`qspace-nd fit`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import (
    NETWORK,
    Command,
    FindScans,
    chance,
    crewed,
    machine,
    model_folder,
    option,
    overwriting,
    scan_reading,
    scans,
    talking,
)
from qspace_nd.cli.values import Number, Whole
from qspace_nd.progress import Progress

_log = logging.getLogger(__name__)

_WIDEST, _DEEPEST = 4096, 16  # a network beyond trains for days, or fills the memory

Widths = tuple[int, tuple[int, ...] | None]


class _Latents(click.ParamType[Widths]):
    """A number of latents, or a list of widths that ends in it."""

    name = "widths"

    def convert(self, value: Any, param: Any, context: Any) -> Widths:
        if isinstance(value, tuple):
            return value
        try:
            *hidden, latents = (int(width) for width in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is neither 8, 16 or 24 nor widths such as 64,32,16,8")
        if min(latents, *hidden, latents) < 1:
            self.fail(f"{value!r} has a width below 1")
        if max(hidden, default=0) > _WIDEST or latents > _WIDEST or len(hidden) > _DEEPEST:
            self.fail(f"{_DEEPEST} widths of up to {_WIDEST:,} are the most")
        if not hidden and latents not in (8, 16, 24):
            self.fail(f"{value} latents need all widths, as in 64,32,{max(latents, 16)},{latents}")
        return latents, tuple(hidden) or None


@click.command(
    "fit",
    cls=Command,
    epilog="Example:  qspace-nd fit healthy/*.nii.gz  (or a BIDS folder of healthy controls)",
)
@scans
@scan_reading
@model_folder("Where to write the model.")
@option(
    "--features",
    heading=NETWORK,
    type=click.Choice(["raw", "rotation-invariant"]),
    default="raw",
    show_default=True,
    help="What is learned from: the volumes, or of each shell its mean and the power of each "
    "harmonic order, whichever way fibres and head lie.",
)
@option(
    "--latents",
    heading=NETWORK,
    type=_Latents(),
    default="8",
    show_default=True,
    metavar="8|16|24|W,W,...",
    help="Latent dimensions; or all widths of the encoder.",
)
@option(
    "--preset",
    heading=NETWORK,
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="How the network is trained: ours, or as the paper says.",
)
@option(
    "--kl-weight",
    heading=NETWORK,
    type=Number(0, 1e6),
    metavar="WEIGHT",
    help="Weight of the KL term.  [default: 0.01; 1 with --preset paper]",
)
@option(
    "--tune",
    heading=NETWORK,
    is_flag=True,
    help="Choose latents and KL weight, where not given, and map's neighbours by how well healthy "
    "white matter, changed as disease would, is found: trains six networks.",
)
@option(
    "--add",
    heading=NETWORK,
    is_flag=True,
    help="Add the scans to the healthy reference of the model that is there; its network stays.",
)
@option(
    "--template/--no-template",
    heading=NETWORK,
    default=None,
    help="Register the scans to their common template, for scores that know the place: half a "
    "minute a scan.  [default: with four people or more, where b-values allow it]",
)
@option(
    "--calibrate/--no-calibrate",
    heading=NETWORK,
    default=True,
    help="Map each of four healthy people or more by the others too, so that patients' maps can be "
    "compared with theirs: as long as to map all the scans.  [default: calibrate]",
)
@option(
    "--reference",
    heading=NETWORK,
    type=Whole(1, 10**10),
    metavar="N",
    help="Compare patients with N of the healthy voxels alone, drawn at random, as many of each "
    "person: a smaller, quicker model. What it costs is told.  [default: all]",
)
@option(
    "--signals/--no-signals",
    heading=NETWORK,
    default=True,
    help="Keep the healthy voxels' signals too, three quarters of a model, for scores that read "
    "them (directed and input scores) and --explain.  [default: signals]",
)
@option(
    "--channels",
    heading=NETWORK,
    metavar="NAME,NAME,...",
    help="What the channels of scans without b-values are called, in order: T1w,T2w,FLAIR.  "
    "[default: what `stack` wrote beside them, or 1,2,3]",
)
@option(
    "--register-on",
    heading=NETWORK,
    metavar="CHANNEL",
    help="Make a template of scans without b-values, registered on this of their channels: by its "
    "name, or its number from 1.",
)
@option(
    "--epochs",
    heading=NETWORK,
    type=Whole(1, 10**6),
    metavar="N",
    help="The most passes through the scans.",
)
@option(
    "--validation",
    heading=NETWORK,
    type=Number(0, 1, above=True, below=True),
    default=0.25,
    show_default=True,
    metavar="SHARE",
    help="Share of the subjects held out to choose the weights by.",
)
@overwriting
@machine
@crewed
@chance(NETWORK)
@talking
def command(
    scans: FindScans,
    model: Path,
    features: str,
    latents: Widths,
    preset: str,
    kl_weight: float | None,
    tune: bool,
    add: bool,
    template: bool | None,
    calibrate: bool,
    reference: int | None,
    signals: bool,
    channels: str | None,
    register_on: str | None,
    epochs: int | None,
    validation: float,
    options: Any,
    force: bool,
    machine: Any,
    crew: Any,
    seed: int,
    progress: Progress,
) -> None:
    """Learn what healthy tissue looks like from scans of healthy people.

    SCANS are 4-D NIfTI files with .bval, .bvec and a brain mask beside them, or BIDS folders.
    Masks and other derivatives among them are recognised by their names.
    """
    _log.info("Looking at the scans")  # what is imported for it takes its time
    from qspace_nd.model.novelty_model import NoveltyModel
    from qspace_nd.workflows.add import add_scans
    from qspace_nd.workflows.fit import fit_scans

    how: dict[str, Any] = {"options": options, "machine": machine, "progress": progress}
    if add:
        _refuse_settings()
        add_scans(scans(healthy=True), model, **how)
        return
    novelty_model = NoveltyModel(
        latents=latents[0],
        hidden=latents[1],
        kl_weight=kl_weight,
        epochs=epochs,
        validation=validation,
        reference=reference,
        preset=preset,
        seed=seed,
    )
    fit_scans(
        scans(healthy=True),
        novelty_model,
        model,
        features=features,
        tuned=_free() if tune else None,
        template=template,
        calibrate=calibrate,
        signals=signals,
        channels=() if channels is None else [name.strip() for name in channels.split(",")],
        register_on=register_on,
        crew=crew,
        force=force,
        **how,
    )
    _log.info(f"The model is in {model}/; next: qspace-nd map, of a patient's scan")


_NETWORK = "leaves the network as it is; fit a new model without --add, or leave the option out"
_OF_NO_USE = dict.fromkeys(
    (
        *("features", "latents", "preset", "kl_weight", "tune", "template", "calibrate"),
        *("reference", "signals", "channels", "register_on", "epochs", "validation", "seed"),
    ),
    _NETWORK,
) | {
    "force": "replaces nothing: a scan that is in the model already is skipped; leave the option "
    "out, or fit a new model without --add",
    "cluster": "reads the new scans here, one after the other; leave the option out",
    "memory": "holds one scan at a time, and as much memory as that takes; leave the option out",
}
"""What does not go with --add, and why."""


def _refuse_settings() -> None:
    """Refuse, beside --add, what it makes no use of."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    for name, why in _OF_NO_USE.items():
        if context.get_parameter_source(name) is not default:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} does not go with --add, which {why}.")


def _free() -> tuple[str, ...]:
    """The settings to tune: those that are not on the command line."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return tuple(
        name for name in ("latents", "kl_weight") if context.get_parameter_source(name) is default
    )
