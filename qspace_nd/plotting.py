"""Pictures of novelty maps, for notebooks and papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Float32
from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.errors import InputError, LabelError, ScanError
from qspace_nd.evaluation.mosaic import draw_mosaic
from qspace_nd.evaluation.shown import Shown
from qspace_nd.evaluation.shown_on import anatomy_of
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.zero_one import read_as_zero_one
from qspace_nd.layouts.maps import read_record
from qspace_nd.scores.catalogue import DIRECTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_mosaic"]

Volume = npt.ArrayLike | str | Path


def plot_mosaic(
    novelty: Volume,
    affine: npt.ArrayLike | None = None,
    *,
    mask: Volume | None = None,
    neglogp: Volume | None = None,
    share: float | None = None,
    anatomy: Volume | None = None,
    labels: Volume | None = None,
    title: str | None = None,
) -> Figure:
    """Draw nine axial slices of a novelty map over the scan, as `map` does.

    Coloured are the voxels that are more novel than all but a small share of the healthy voxels;
    where healthy people's maps are wanting, those above the map's own 98th percentile. The
    patient's right is on the left, in whatever orientation the volumes are stored.

    Parameters
    ----------
    novelty : array (X, Y, Z), str or Path
        The map. Of a path, all that is not given here is looked for beside it, as `map` writes it.
    affine : (4, 4) array, optional
        From voxel indices to mm of the world (RAS+); of a path, the file's own.
    mask : array (X, Y, Z), str or Path, optional
        The brain; of an array without it, where the map is above 0.
    neglogp : array (X, Y, Z), str or Path, optional
        -log10 of the share of healthy voxels that are as novel.
    share : float, optional
        The share of healthy voxels below which voxels are coloured: 0.05, or of a path, that above
        which `map` formed clusters.
    anatomy : array (X, Y, Z), str or Path, optional
        What the map is shown on; black farther than 4 mm from the mask, where faces are.
    labels : array (X, Y, Z), str or Path, optional
        Lesions, to be outlined.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or saved: `figure.savefig("novelty.pdf")`.

    Raises
    ------
    InputError
        A file cannot be read, volumes lie on different grids or are of other shapes, the mask is
        empty or wanting, or an affine is missing, not wanted, or places no voxels.

    Examples
    --------
    >>> from qspace_nd.plotting import plot_mosaic
    >>> figure = plot_mosaic("novelty.nii.gz", labels="lesions.nii.gz")  # doctest: +SKIP
    """
    found: dict[str, Any] = {"share": CLUSTER_SHARE}
    if isinstance(novelty, str | Path):
        if affine is not None:
            raise InputError(f"An affine is given beside {novelty}, which has its own; leave it.")
        record = read_record(Path(novelty), DIRECTED)
        values, grid = read_volume(record.path)
        found = {
            "share": record.forming_share or CLUSTER_SHARE,
            "anatomy": anatomy_of(record, grid) if anatomy is None else None,
            "title": f"{record.patient}, {record.score}",
        }
        mask = record.mask if mask is None else mask
        neglogp = record.neglogp if neglogp is None else neglogp
    else:
        if affine is None:
            raise InputError("The map is an array; give its affine (4, 4) with it.")
        values = np.asarray(novelty)
        x, y, z = (*values.shape, 0, 0, 0)[:3]
        grid = Grid((x, y, z), np.asarray(affine, np.float64))
    given = {
        "neglogp": None if neglogp is None else _volume(neglogp, grid),
        "share": share,
        "anatomy": None if anatomy is None else _volume(anatomy, grid),
        "labels": None if labels is None else _marked(labels, grid, "lesion", LabelError),
        "title": title,
    }
    found |= {name: value for name, value in given.items() if value is not None}
    inside = values > 0 if mask is None else _marked(mask, grid, "brain", ScanError)
    return draw_mosaic(Shown(values, inside, grid.affine, oriented=grid.is_oriented, **found))


def _volume(volume: Volume, grid: Grid) -> Float32:
    if not isinstance(volume, str | Path):
        return np.asarray(volume, np.float32)
    values, found = read_volume(Path(volume))
    require_same_grid(Path(volume), found, grid)
    return values


def _marked(volume: Volume, grid: Grid, marks: str, error: type[InputError]) -> Bools:
    values = _volume(volume, grid)
    if isinstance(volume, str | Path):
        return read_as_zero_one(Path(volume), values, marks, error).marked
    return values > 0
