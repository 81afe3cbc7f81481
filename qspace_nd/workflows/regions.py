"""In which regions of an atlas clusters lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from qspace_nd.arrays import Ints
from qspace_nd.calibration.clusters import Found
from qspace_nd.errors import InputError
from qspace_nd.imaging.atlas import OUTSIDE, Atlas
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import write_volume
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.layouts.maps import table_path
from qspace_nd.system.writing import write_text
from qspace_nd.workflows.placing import Placement

COLUMNS = ("region", "region_share", "peak_region")
"""Of a table of clusters: where most of it lies, what share of it, and where its peak lies."""

REGIONS = "The region of the atlas that each voxel lies in, named in the table beside it"
"""What the image of regions beside novelty maps shows."""


@dataclass(frozen=True)
class Region:
    """Where a cluster lies."""

    name: str
    share: float
    at_peak: str

    def cells(self) -> list[str]:
        """As a table has it."""
        return [self.name, f"{self.share:.2f}", self.at_peak]


def is_of_scan(atlas: Atlas, grid: Grid) -> bool:
    """Whether an atlas lies in a scan's own space: on its grid. Others lie in the template's."""
    return grid.same_as(atlas.grid)


def require_place(path: Path, *, has_template: bool) -> None:
    """Check that an atlas that is on no scan's grid can be used.

    Raises
    ------
    InputError
        The model has no template.
    """
    if not has_template:
        raise InputError(
            f"{path} lies on another grid than the scan, and so in the model's template, which it "
            f"does not have; name an atlas on the scan's grid with --atlas, or fit with --template."
        )


def regions_of(atlas: Atlas, voxels: Voxels, placement: Placement) -> Ints:
    """The region (X, Y, Z) that each voxel of the mask lies in, by its number.

    0 where there is none, or the voxels' place is not known.
    """
    mask = voxels.mask
    regions = np.zeros(mask.shape, np.intp)
    if is_of_scan(atlas, voxels.scan.grid):
        regions[mask] = atlas.labels[mask]
    elif placement.located is not None:
        regions[mask] = atlas.at(placement.located.points.numpy())
    return regions


def write_regions(path: Path, regions: Ints, atlas: Atlas, grid: Grid, stamp: str) -> None:
    """Write regions (X, Y, Z) as an atlas of its own: with what they are called beside them.

    Raises
    ------
    WorkError
        It could not be written.
    """
    there = np.unique(regions[regions > 0]).tolist()
    lines = ["index\tname", *(f"{number}\t{atlas.called(number)}" for number in there)]
    write_text(table_path(path), "\n".join(lines) + "\n")
    write_volume(path, regions, grid, stamp)


def name_clusters(found: Found, regions: Ints, atlas: Atlas, grid: Grid) -> tuple[Region, ...]:
    """Find the region of each cluster, of regions (X, Y, Z) on its grid."""
    to_index = np.linalg.inv(grid.affine)
    return tuple(
        _region(
            regions[found.labels == number],
            regions[tuple(np.rint(apply_affine(to_index, one.peak_at)).astype(int))],
            atlas,
        )
        for number, one in enumerate(found.clusters, start=1)
    )


def _region(inside: Ints, at_peak: int, atlas: Atlas) -> Region:
    """Where most of a cluster lies, of what lies in some region."""
    numbers, counts = np.unique(inside[inside > 0], return_counts=True)
    if not len(numbers):
        return Region(OUTSIDE, 0.0, atlas.called(int(at_peak)))
    most = int(counts.argmax())
    share = float(counts[most] / len(inside))
    return Region(atlas.called(int(numbers[most])), share, atlas.called(int(at_peak)))
