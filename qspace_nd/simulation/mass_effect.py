"""A tumour that grew: where it lies, and how it pushed the tissue around it.

A ball of radius a around c grows to radius a + m in tissue that cannot be compressed, so that what
lies at a distance r of c lay at r₀ before:

    r₀³ = r³ - ((a + m)³ - a³)  outside,    r₀ = r a / (a + m)  inside

The push falls to nothing towards the surface of the brain, as the skull does not give way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspace_nd.arrays import Field, Float32, Float64, Int64
from qspace_nd.errors import InputError
from qspace_nd.simulation.anatomy import lattice_points
from qspace_nd.simulation.lesions import WHITE_ENOUGH, LesionMask, add_blob

MOST = 15.0
"""The largest mass effect, in mm."""
SEVERITY = (6.0, 2.0)
"""The Beta distribution that a tumour's severity is drawn from: more severe than other lesions."""
_RADII = (8.0, 14.0)  # mm, before it grew
_SKULL = 10.0  # mm: the depth below which the skull is hardly felt
_MARGIN = 5.0  # mm between a tumour and the surface


@dataclass(frozen=True)
class Tumour:
    """A tumour, in the space of the maps.

    Attributes
    ----------
    lesions : pair of array (X, Y, Z) bool and array (4, 4)
        What it is made of, before it pushed anything.
    growth : Field (3)
        From where tissue lies to where it lay before, in mm.
    """

    lesions: LesionMask
    growth: Field


def require_mass_effect(millimetres: float) -> None:
    """Raise an InputError unless the mass effect is from 0 to `MOST` mm."""
    if not 0 <= millimetres <= MOST:
        raise InputError(
            f"The mass effect is {millimetres:g} mm; choose one between 0 and {MOST:g} mm."
        )


def draw_tumour(rng: np.random.Generator, maps: Field, millimetres: float) -> Tumour:
    """Draw a tumour in white matter that pushes the tissue at its edge by so many mm.

    Parameters
    ----------
    rng : Generator
    maps : Field (3)
        White matter, grey matter and fluid at 1 mm.
    millimetres : float
    """
    radius = rng.uniform(*_RADII)
    halved = Field(maps.values[:, ::2, ::2, ::2], maps.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    depth = _depth(halved)
    places = np.argwhere(halved.values[0] > 0.8)
    depths = depth[tuple(places.T)]
    deep = min(radius + millimetres + _MARGIN, float(depths.max()))
    centre: Int64 = 2 * rng.choice(places[depths >= deep])
    white = maps.values[0]
    mask = np.zeros(white.shape, bool)
    add_blob(mask, centre, radius, rng)
    position = maps.affine[:3, :3] @ centre + maps.affine[:3, 3]
    push = _push(lattice_points(depth.shape, halved.affine) - position, radius, millimetres)
    push *= (1 - np.exp(-np.square(depth / _SKULL)))[..., None]
    growth = Field(np.moveaxis(push, -1, 0).astype(np.float32), halved.affine)
    return Tumour((mask & (white > WHITE_ENOUGH), maps.affine), growth)


def followed_by(first: Field, second: Field) -> Field:
    """The displacement that two make one after the other, on the second's lattice."""
    nodes = lattice_points(second.values.shape[1:], second.affine)
    step = first.at(nodes)
    total = step + second.at(nodes + step)
    return Field(np.ascontiguousarray(np.moveaxis(total, -1, 0)), second.affine)


def before_growth(points: Float32, there: Float32, deformation: Field) -> Float32:
    """Where tissue at `points` would lie in the same head without the tumour, less `points`.

    Parameters
    ----------
    points, there : array (..., 3)
        Positions in the subject, and in the maps' space where their tissue is from.
    deformation : Field (3)
        From the subject without tumour to the maps.

    Returns
    -------
    array (..., 3) float32
        mm.
    """
    before = points
    for _ in range(12):  # converges, as the deformation bends by far less than it is long
        before = there - deformation.at(before)
    return np.asarray(before - points)


def _depth(maps: Field) -> Float64:
    """Millimetres from the surface of the brain, 0 outside."""
    from scipy import ndimage

    spacing = np.linalg.norm(maps.affine[:3, :3], axis=0)
    inside = ndimage.binary_fill_holes(maps.values.sum(axis=0) > 0.5)
    return np.asarray(ndimage.distance_transform_edt(inside, sampling=spacing))


def _push(offsets: Float64, radius: float, millimetres: float) -> Float64:
    """From offsets (..., 3) of the centre to where tissue lay before: (..., 3)."""
    grown = radius + millimetres
    distance = np.linalg.norm(offsets, axis=-1, keepdims=True)
    outside = np.cbrt(np.maximum(distance**3 - grown**3 + radius**3, 0.0))
    before = np.where(distance < grown, distance * radius / grown, outside)
    return np.asarray(offsets * (before / np.maximum(distance, 1e-6) - 1))
