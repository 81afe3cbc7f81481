"""`qspace-nd stack`."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qspace_nd.cli.options import (
    OUTPUT,
    SCANS,
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

_log = logging.getLogger(__name__)

Word = tuple[str, Path]


class _Channel(click.ParamType[Word]):
    """NAME=PATTERN, or one more PATTERN of the channel that was named last."""

    name = "channel"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Word:
        found = re.fullmatch(r"([^=/]*)=(.*)", value, re.DOTALL)
        channel, pattern = ("", value) if found is None else found.groups()
        if found is not None and not channel:
            self.fail(f"{value!r} has no name before =; expected NAME=PATTERN", param, context)
        if found is not None and not pattern:  # as in: DWI= */dwi.nii.gz
            return channel, Path()
        return channel, PATH.convert(pattern, param, context)


@click.command(
    "stack",
    cls=Command,
    epilog="Example:  qspace-nd stack 'DWI=*/dwi.nii.gz' 'ADC=*/adc.nii.gz' -o stacks",
)
@click.argument("channels", type=_Channel(), nargs=-1, metavar="[NAME=PATTERN]...")
@dataset_selection(SCANS)
@option(
    "--suffix",
    heading=SCANS,
    metavar="NAME,NAME,...",
    help="Suffixes of the images in the BIDS dataset, in order, as in T1w,FLAIR: the channels are "
    "called by them.",
)
@option(
    "--mask",
    heading=SCANS,
    type=PATH,
    metavar="PATTERN",
    help="Brain masks, matched as images are.  [default: those beside the images]",
)
@option(
    "--divide-by-mean",
    heading=SCANS,
    is_flag=True,
    help="Divide each channel by its mean in the brain mask: for images without a unit, as T1w and "
    "FLAIR are.",
)
@option(
    "-o",
    "--output",
    heading=OUTPUT,
    type=PATH,
    required=True,
    metavar="FOLDER",
    help="Where the 4-D files go, with their masks.",
)
@overwriting
@talking
def command(
    channels: tuple[Word, ...],
    dataset: Dataset | None,
    suffix: str | None,
    mask: Path | None,
    divide_by_mean: bool,
    output: Path,
    force: bool,
    progress: Progress,
) -> None:
    """Put separate 3-D images, T1w and FLAIR for instance, into one 4-D file a person.

    Each NAME=PATTERN names a channel and its images, one a person; quote it, so that your shell
    leaves the * alone. Images of one person are known by BIDS names, or else by what the * stands
    for. They must be registered to each other and lie on one grid. fit, map and eval take the files
    that are written.
    """
    from qspace_nd.errors import counted
    from qspace_nd.layouts.contrasts import match_patterns, match_suffixes
    from qspace_nd.workflows.stack import stack_images

    if bool(channels) == (dataset is not None):
        raise click.UsageError(
            "Name either the images of channels or a BIDS dataset, not both."
            if channels
            else "Missing argument 'NAME=PATTERN...', or --bids and --suffix in its place."
        )
    if (dataset is None) != (suffix is None):
        raise click.UsageError("--bids and --suffix go together: the one is of no use alone.")
    if dataset is None:
        contrasts = match_patterns(_by_name(channels), mask)
    else:
        contrasts = match_suffixes(dataset, _suffixes(suffix or ""), mask)
    paths = stack_images(contrasts, output, divide=divide_by_mean, force=force, progress=progress)
    names = ",".join(contrasts[0].images)
    for path in paths:
        _log.debug(f"Wrote {path}")
    files = f"{shlex.quote(str(output))}/*.nii.gz"
    _log.info(
        f"Wrote {counted(len(paths), 'stack')} of {names} to {output}/; next, if they are of "
        f"healthy people:\nqspace-nd fit {files} --channels {names}"
    )


def _by_name(words: tuple[Word, ...]) -> dict[str, list[Path]]:
    """The patterns of each channel."""
    found: dict[str, list[Path]] = {}
    name = ""
    for channel, pattern in words:
        if channel in found:
            raise click.UsageError(
                f"Two channels are called {channel}; give each a name of its own, and all images "
                f"of a channel one pattern in quotes, as in '{channel}=*/image.nii.gz'."
            )
        name = channel or name
        if not name:
            raise click.UsageError(
                f"{pattern} has no channel's name before it; expected NAME=PATTERN, as in "
                f"'DWI=*/dwi.nii.gz'."
            )
        found.setdefault(name, []).extend(_given(pattern))
    return found


def _given(pattern: Path) -> Iterator[Path]:
    if pattern != Path():
        yield pattern


def _suffixes(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise click.UsageError(f"Two suffixes are {name}; name each once.")
    return names
