"""`qspace-nd fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import (
    FindScans,
    common,
    memory_limit,
    model_folder,
    scan_reading,
    scans,
)
from qspace_nd.progress import Progress

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
        if not hidden and latents not in (8, 16, 24):
            self.fail(f"{value} latents need all widths, as in 64,32,{max(latents, 16)},{latents}")
        return latents, tuple(hidden) or None


@click.command(
    "fit",
    epilog="Example:  qspace-nd fit healthy/*.nii.gz  (or a BIDS folder of healthy controls)",
)
@scans
@model_folder("Where to write the model.")
@click.option(
    "--features",
    type=click.Choice(["raw", "rotation-invariant"]),
    default="raw",
    show_default=True,
    help="What is learned from: the volumes, or of each shell its mean and the power of each "
    "harmonic order, whichever way fibres and head lie.",
)
@click.option(
    "--latents",
    type=_Latents(),
    default="8",
    show_default=True,
    metavar="8|16|24|W,W,...",
    help="Latent dimensions; or all widths of the encoder.",
)
@click.option(
    "--preset",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="How the network is trained: ours, or as the paper says.",
)
@click.option(
    "--kl-weight",
    type=click.FloatRange(min=0),
    help="Weight of the KL term.  [default: 0.01; 1 with --preset paper]",
)
@click.option(
    "--tune",
    is_flag=True,
    help="Choose latents and KL weight, where not given, and map's neighbours by how well healthy "
    "white matter, changed as disease would, is found: trains six networks.",
)
@click.option(
    "--add",
    is_flag=True,
    help="Add the scans to the healthy reference of the model that is there; its network stays.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="The most passes through the scans.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.25,
    show_default=True,
    help="Share of the subjects held out to choose the weights by.",
)
@memory_limit
@scan_reading
@common
def command(
    scans: FindScans,
    model: Path,
    features: str,
    latents: Widths,
    preset: str,
    kl_weight: float | None,
    tune: bool,
    add: bool,
    epochs: int | None,
    validation: float,
    memory: int | None,
    options: Any,
    force: bool,
    device: str,
    seed: int,
    progress: Progress,
) -> None:
    """Learn what healthy tissue looks like from scans of healthy people.

    SCANS are 4-D NIfTI files with .bval, .bvec and a brain mask beside them, or BIDS folders.
    Masks and other derivatives among them are recognised by their names.
    """
    from qspace_nd.model.novelty_model import NoveltyModel
    from qspace_nd.workflows.fit import add_scans, fit_scans

    if add:
        _refuse_settings()
        found = scans(healthy=True)
        add_scans(found, model, options=options, device=device, progress=progress)
        return
    novelty_model = NoveltyModel(
        latents=latents[0],
        hidden=latents[1],
        kl_weight=kl_weight,
        epochs=epochs,
        validation=validation,
        preset=preset,
        seed=seed,
        device=device,
    )
    fit_scans(
        scans(healthy=True),
        novelty_model,
        model,
        features=features,
        tuned=_free() if tune else None,
        options=options,
        memory=memory,
        force=force,
        progress=progress,
    )
    progress.say(f"The model is in {model}/")


_SETTINGS = ("features", "latents", "preset", "kl_weight", "tune", "epochs", "validation", "seed")


def _refuse_settings() -> None:
    """Refuse, beside --add, what a new network would be made by."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    given = [name for name in _SETTINGS if context.get_parameter_source(name) is not default]
    if given:
        raise click.UsageError(
            f"--{given[0].replace('_', '-')} does not go with --add, which leaves the network as "
            f"it is; fit a new model without --add, or leave the option out."
        )


def _free() -> tuple[str, ...]:
    """The settings to tune: those that are not on the command line."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return tuple(
        name for name in ("latents", "kl_weight") if context.get_parameter_source(name) is default
    )
