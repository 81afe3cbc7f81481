"""From separate images, T1w and FLAIR for instance, to one 4-D file a person: a stack."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qspace_nd.arrays import Bools, Float32
from qspace_nd.errors import OutputError, ScanError, counted, listed
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.masks import read_mask
from qspace_nd.imaging.nifti import (
    load,
    read_volume,
    stored_in,
    volume_grid,
    write_scan,
    write_volume,
)
from qspace_nd.imaging.stack import CHANNELS, Stack
from qspace_nd.layouts.contrasts import Contrasts, require_channels
from qspace_nd.layouts.maps import sidecar_path, write_sidecar
from qspace_nd.layouts.names import absolute
from qspace_nd.progress import Progress, watcher
from qspace_nd.system.locking import alone, lock_of
from qspace_nd.system.writing import remove_leftovers, require_writable, together

DESCRIPTION = "qspace-nd stack of contrasts"

_RESAMPLE = "resample the images of a person onto one grid first, or name others"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Planned:
    """What is to be put together, on which grid, and where it goes."""

    contrasts: Contrasts
    grid: Grid
    path: Path

    @property
    def mask(self) -> Path:
        return self.path.with_name(f"{self.contrasts.name}_mask.nii.gz")

    def outputs(self) -> list[Path]:
        mask = [] if self.contrasts.mask is None else [self.mask]
        return [self.path, sidecar_path(self.path), *mask]

    def inputs(self) -> list[Path]:
        mask = [] if self.contrasts.mask is None else [self.contrasts.mask]
        return [*self.contrasts.images.values(), *mask]


def stack_images(
    contrasts: Sequence[Contrasts],
    folder: str | Path,
    *,
    divide: bool = False,
    force: bool = False,
    progress: Progress | bool = False,
) -> list[Path]:
    """Put the images of each person into one 4-D file, and its mask and a sidecar beside it.

    Parameters
    ----------
    contrasts : sequence of Contrasts
        All with the same channels; images are 3-D, and those of one person on one grid.
    folder : str or Path
        Where `NAME.nii.gz` (float32, on the grid of the first channel, with its header's codes),
        `NAME_mask.nii.gz` and `NAME.json` go.
    divide : bool
        Divide each channel by its mean in the mask.
    force : bool
        Replace files that exist.
    progress : Progress or bool
        True to show bars.

    Returns
    -------
    list of Path
        The 4-D files.

    Raises
    ------
    InputError
        Images do not fit together, a name is no name of a channel, or an output exists; nothing
        was written.
    """
    folder = Path(folder)
    names = list(contrasts[0].images) if contrasts else []
    require_channels(names)
    Stack.of(len(names)).called(names)
    planned = [_plan(one, folder, divide=divide) for one in contrasts]
    outputs = [path for one in planned for path in one.outputs()]
    _require_other_files(planned, outputs)
    require_writable(outputs, force=force)
    lock = lock_of(folder / "stacks")
    with alone(lock, folder):
        require_writable(outputs, force=force)  # another process may have written meanwhile
        remove_leftovers(outputs)
        with together(), watcher(progress).task("Stacking", len(planned)) as task:
            for one in planned:
                _write(one, divide=divide)
                task.advance()
    _tell_of_masks(planned)
    return [one.path for one in planned]


def _plan(contrasts: Contrasts, folder: Path, *, divide: bool) -> _Planned:
    """Check the headers of a person's images."""
    (first, *others) = contrasts.images.values()
    grid = _grid_of(first)
    for path in (*others, *([] if contrasts.mask is None else [contrasts.mask])):
        require_same_grid(path, _grid_of(path), grid, _RESAMPLE, than=first)
    if divide and contrasts.mask is None:
        raise ScanError(
            f"{first} has no brain mask beside it, in which to take the means that channels are "
            f"divided by; expected *_mask.nii.gz of its name: put one there, or name the masks "
            f"with --mask."
        )
    return _Planned(contrasts, grid, folder / f"{contrasts.name}.nii.gz")


def _grid_of(path: Path) -> Grid:
    image = load(path)
    stored_in(image, path)
    for note in image.notes:
        _log.warning(note)
    return volume_grid(image, path)


def _require_other_files(planned: Sequence[_Planned], outputs: Sequence[Path]) -> None:
    """Check that no output takes the place of an input, not even under --force."""
    inputs = {absolute(path) for one in planned for path in one.inputs()}
    taken = [path for path in outputs if absolute(path) in inputs]
    if taken:
        raise OutputError(
            f"{taken[0]} is one of the images that are to be stacked, and would be overwritten; "
            f"name another folder with -o."
        )


def _write(one: _Planned, *, divide: bool) -> None:
    """Write the stack of a person; what was read is on the grid that its header told."""
    grid, mask = one.grid, _read_mask(one)
    volumes = np.empty((*grid.shape, len(one.contrasts.images)), np.float32, order="F")
    means = []
    for index, (name, path) in enumerate(one.contrasts.images.items()):
        volume, found = read_volume(path)
        require_same_grid(path, found, grid, _RESAMPLE)
        if divide and mask is not None:
            means.append(_mean(path, name, volume[mask]))
            volume /= np.float32(means[-1])
        volumes[..., index] = volume
    if mask is not None:
        write_volume(one.mask, mask, grid, DESCRIPTION)
    facts: dict[str, Any] = {CHANNELS: [*one.contrasts.images]}
    facts |= {"DividedBy": means} if divide else {}
    write_sidecar(one.path, facts, one.inputs())
    write_scan(one.path, volumes, grid, DESCRIPTION)


def _read_mask(one: _Planned) -> Bools | None:
    if one.contrasts.mask is None:
        return None
    mask = read_mask(one.contrasts.mask, one.grid)
    for note in mask.notes:
        _log.warning(note)
    return mask.marked


def _mean(path: Path, channel: str, values: Float32) -> float:
    """The mean in the brain of those values that are finite."""
    finite = values[np.isfinite(values)]
    mean = float(finite.mean(dtype=np.float64)) if finite.size else 0.0
    if not mean > 0:
        raise ScanError(
            f"{path} has a mean of {mean:.3g} in the mask; expected one above 0, as the {channel} "
            f"is divided by it: look at the image and at the mask, or stack without dividing."
        )
    return mean


def _tell_of_masks(planned: Sequence[_Planned]) -> None:
    bare = [one.path for one in planned if one.contrasts.mask is None and not one.mask.exists()]
    if bare:
        _log.warning(
            f"{counted(len(bare), 'stack')} of {len(planned)} ({listed(bare, 3)}) have no brain "
            f"mask, as none lies beside their images: fit and map will compute one; better put "
            f"NAME_mask.nii.gz beside each, or name the masks with --mask."
        )
