"""A scan, its lesion labels and its novelty map beside each other, as PNG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float64
from qspace_nd.errors import ArrayError
from qspace_nd.evaluation.figures import LESION, NOVELTY_COLOURS, drawing
from qspace_nd.evaluation.metrics import Case

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL_HEIGHT = 2.7  # inches
_MARGIN = 4.0  # mm around the mask


def slices(
    path: Path,
    case: Case,
    affine: NDArray[np.floating[Any]],
    background: NDArray[np.floating[Any]] | None = None,
    *,
    background_name: str = "b = 0",
) -> None:
    """Draw, side by side, the scan, the expert's label over it, and the novelty map.

    One axial slice, the one with the most lesion voxels within the mask, in radiological
    convention. The arrays may be stored in any orientation: their axes are put in the order and
    sense of the closest world axes, and voxels are drawn as they are, in their size. (Nilearn's
    plotting interpolates oblique volumes, and shows novelty that no voxel has.)

    Parameters
    ----------
    path : Path
        The PNG to write.
    case : Case
        The map (X, Y, Z), its labels and its mask.
    affine : (4, 4) array
        From voxel indices to world coordinates in mm (RAS+), as of NIfTI.
    background : (X, Y, Z) array, optional
        The scan; without it, the label is drawn over the mask, in two panels.
    background_name : str
        What `background` shows, for its title.

    Raises
    ------
    ArrayError
        The affine is not 4 × 4 and invertible, or the background is of another shape.
    """
    if background is not None and background.shape != case.novelty.shape:
        raise ArrayError(
            f"The background of {case.patient} has shape {background.shape} and its map "
            f"{case.novelty.shape}; give both on one grid."
        )
    view = _AxialView.of(case, affine)
    mask, labels = view.plane(case.mask), view.plane(case.labels)
    scan = 0.4 * mask if background is None else view.plane(background)
    panels = 2 if background is None else 3

    low, high = _novelty_window(case)  # beyond it all is of one colour
    columns, rows = view.size
    panel_width = _PANEL_HEIGHT * columns / rows
    with drawing(path, panels * panel_width + 0.9, _PANEL_HEIGHT + 0.75) as figure:
        axes = list(figure.subplots(1, panels, squeeze=False)[0])
        *over_scan, on_map = axes
        grey = {"cmap": "gray", "extent": view.extent, **_grey_window(background, case.mask)}
        for one in over_scan:
            one.imshow(scan, **grey)
        over_scan[0].set_title(background_name)
        over_scan[-1].imshow(_overlay(labels, LESION), extent=view.extent)
        over_scan[-1].set_title("expert label")
        novelty = np.where(mask, np.clip(view.plane(case.novelty), low, high), np.nan)
        shown = on_map.imshow(novelty, NOVELTY_COLOURS, vmin=low, vmax=high, extent=view.extent)
        on_map.set_title(case.score)
        bar = figure.colorbar(shown, ax=on_map, extend="both", fraction=0.05, pad=0.02, aspect=25)
        bar.set_label("novelty")
        bar.outline.set_visible(False)
        for one in axes:
            _dress(one)
        figure.suptitle(case.patient, fontsize=10, x=0.01, ha="left")
        figure.supxlabel(
            f"Axial slice at z = {view.height:.0f} mm. Radiological convention: the patient's "
            "right (R) is on the left.\nColour window: 1st to 99.5th percentile of the healthy "
            "voxels.",
            fontsize=7,
            x=0.01,
            ha="left",
        )


@dataclass(frozen=True)
class _AxialView:
    """One axial slice, cropped to the mask, as an image: rows downwards from the front."""

    orientation: Float64  # (3, 2): of each array axis, the closest world axis and its sense
    index: int  # the slice, in the reoriented array
    crop: tuple[slice, slice]  # in reoriented x and y
    extent: tuple[float, float, float, float]  # mm, as imshow takes it
    height: float  # world z of the slice's centre, mm

    @classmethod
    def of(cls, case: Case, affine: NDArray[np.floating[Any]]) -> _AxialView:
        from nibabel.affines import voxel_sizes
        from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

        _require_affine(affine)
        orientation = io_orientation(affine)
        to_world = affine @ inv_ornt_aff(orientation, case.mask.shape)  # of reoriented indices
        mask, lesion = (
            apply_orientation(array, orientation) for array in (case.mask, case.labels & case.mask)
        )
        index = int(lesion.sum(axis=(0, 1)).argmax())
        sizes = voxel_sizes(to_world)
        crop = (
            _bounds(mask.any(axis=(1, 2)), sizes[0]),
            _bounds(mask.any(axis=(0, 2)), sizes[1]),
        )
        plane = mask[:, :, index][crop].shape  # a margin stops at the border of the image
        extent = (0.0, float(plane[0] * sizes[0]), 0.0, float(plane[1] * sizes[1]))
        centre = [(mask.shape[0] - 1) / 2, (mask.shape[1] - 1) / 2, index]
        height = float(to_world[2, :3] @ centre + to_world[2, 3])
        return cls(orientation, index, crop, extent, height)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in mm."""
        return self.extent[1], self.extent[3]

    def plane(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the slice of `array` (X, Y, Z) as (rows, columns), x and y falling."""
        from nibabel.orientations import apply_orientation

        plane: NDArray[Any] = apply_orientation(array, self.orientation)[:, :, self.index]
        return plane[self.crop].T[::-1, ::-1]


def _require_affine(affine: NDArray[np.floating[Any]]) -> None:
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.linalg.det(affine):
        raise ArrayError(
            f"The affine is {np.array2string(affine, precision=3, separator=', ')}; give an "
            "invertible 4 × 4 matrix from voxels to mm."
        )


def _bounds(occupied: Bools, size: float) -> slice:
    """Span what is occupied along an axis of voxels of `size` mm, and a margin."""
    margin = math.ceil(_MARGIN / size)
    inside = np.flatnonzero(occupied)
    return slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin)


def _grey_window(background: NDArray[np.floating[Any]] | None, mask: Bools) -> dict[str, float]:
    if background is None:
        return {"vmin": 0.0, "vmax": 1.0}
    inside = background[mask]
    inside = inside[np.isfinite(inside)]
    top = float(np.percentile(inside, 99.5)) if inside.size else 1.0
    return {"vmin": 0.0, "vmax": top if top > 0 else 1.0}


def _novelty_window(case: Case) -> tuple[float, float]:
    low, high = np.percentile(case.novelty[case.mask & ~case.labels], [1, 99.5])
    return float(low), float(high if high > low else low + 1)


def _overlay(labels: Bools, colour: str) -> Float64:
    from matplotlib.colors import to_rgba

    return np.where(labels[..., None], to_rgba(colour, 0.75), 0.0)


def _dress(axes: Axes) -> None:
    """Make a panel black around the image, without ticks, with the patient's sides marked."""
    axes.set_facecolor("black")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    corners: tuple[tuple[float, str, Literal["left", "right"]], ...]
    corners = ((0.03, "R", "left"), (0.97, "L", "right"))
    for x, letter, align in corners:
        axes.text(x, 0.97, letter, transform=axes.transAxes, color="white", ha=align, va="top")
