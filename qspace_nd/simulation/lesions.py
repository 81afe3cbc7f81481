"""Lesions: what they do to tissue, where they lie, and how severe each is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from qspace_nd.arrays import Bools, Field, Float64, Int64
from qspace_nd.errors import ArrayError
from qspace_nd.simulation.anatomy import icbm152_tissues

LesionMask = tuple[Bools, Float64]
"""A mask (X, Y, Z) and its affine (4, 4)."""
WHITE_ENOUGH = 0.3
"""The fraction of white matter above which lesions may lie."""
_EDGE = 0.8  # mm: the standard deviation of the blur that makes edges soft


@dataclass(frozen=True)
class LesionKind:
    """What a lesion of a kind, of full severity, multiplies white and grey matter's properties by.

    The severity of one lesion is drawn from Beta(`severity`); it falls towards the lesion's edge.
    """

    t2: float
    parallel: float
    perpendicular: float
    severity: tuple[float, float] = (1.2, 2.4)


LESION_KINDS: Mapping[str, LesionKind] = MappingProxyType(
    {
        "demyelinating": LesionKind(t2=1.5, parallel=1.2, perpendicular=2.2),
        "restricted": LesionKind(t2=1.2, parallel=0.55, perpendicular=0.55),
        "mild-t2": LesionKind(t2=1.35, parallel=1.0, perpendicular=1.0),
        "anisotropy": LesionKind(t2=1.0, parallel=0.6, perpendicular=1.943),
    }
)
"""The kinds of lesion by name: long T2 with raised diffusivity and lowered anisotropy as in
multiple sclerosis; lowered diffusivity as in acute stroke; a change of T2 alone; anisotropy lost
at the same mean diffusivity."""


def draw_lesion_mask(rng: np.random.Generator, maps: Field | None = None) -> LesionMask:
    """Draw a patient's lesions: many small and few large, near the ventricles.

    Parameters
    ----------
    rng : Generator
    maps : Field (3), optional
        White matter, grey matter and fluid at 1 mm; ICBM152's unless given.

    Returns
    -------
    array (X, Y, Z) bool, array (4, 4)
        A mask on a lattice of 1 mm in the maps' space, and its affine.
    """
    places, weights = _icbm152_places() if maps is None else _lesion_places(maps)
    maps = icbm152_tissues() if maps is None else maps
    white = maps.values[0]
    mask = np.zeros(white.shape, bool)
    volumes = rng.lognormal(math.log(90.0), 1.3, size=rng.integers(15, 40)).clip(8.0, 8000.0)
    volumes[0] = 5000.0  # One confluent lesion, so that coarse voxels have a label too.
    for volume in volumes:
        centre = places[rng.choice(len(places), p=weights)]
        add_blob(mask, centre, (volume * 3 / (4 * math.pi)) ** (1 / 3), rng)
    return mask & (white > WHITE_ENOUGH), maps.affine


def carried_lesion_mask(lesions: LesionMask, maps: Field, common: Float64) -> LesionMask:
    """Bring a lesion mask of ICBM152 space to white matter of a person's maps.

    Parameters
    ----------
    lesions : pair of array (X, Y, Z) bool and array (4, 4)
    maps : Field (3)
    common : array (4, 4)
        From the maps' space to ICBM152's.
    """
    from scipy import ndimage

    mask, affine = lesions
    white = maps.values[0]
    moved = ndimage.affine_transform(
        mask.astype(np.float32),
        np.linalg.inv(affine) @ common @ maps.affine,
        output_shape=white.shape,
        order=1,
    )
    return (moved >= 0.5) & (white > WHITE_ENOUGH), maps.affine


def lesion_field(
    mask: Bools, affine: Float64, kind: LesionKind, voxel_size: float, rng: np.random.Generator
) -> Field:
    """Give lesions soft edges and a severity each.

    Parameters
    ----------
    mask : array (X, Y, Z) bool
        In the space of the tissue maps.
    affine : array (4, 4)
    kind : LesionKind
        Whose severities are drawn.
    voxel_size : float
        Of the scan, in mm.
    rng : Generator

    Returns
    -------
    Field (2)
        The fraction of a voxel that is lesion, and the fraction times its severity.

    Raises
    ------
    ArrayError
        The mask is not three-dimensional, or empty.
    """
    from scipy import ndimage

    if mask.ndim != 3 or not mask.any():
        raise ArrayError(
            f"The lesion mask has the shape {mask.shape} and {np.count_nonzero(mask)} lesion "
            "voxels; give a volume (X, Y, Z) with some."
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    margins = np.ceil((3 * _EDGE + voxel_size) / spacing).astype(int)
    mask, affine = _cropped(mask, affine, margins)
    lesions, count = ndimage.label(mask)
    severity = np.append(0.0, rng.beta(*kind.severity, size=count)).astype(np.float32)
    soft = [
        ndimage.gaussian_filter(values, _EDGE / spacing)
        for values in (mask.astype(np.float32), severity[lesions])
    ]
    return Field(np.stack(soft), affine).averaged(voxel_size)


def _cropped(mask: Bools, affine: Float64, margins: Int64) -> tuple[Bools, Float64]:
    """The part of a mask that is not empty, with a border of zeros."""
    from scipy import ndimage

    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    cropped = np.pad(mask[box], [(margin, margin) for margin in margins])
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ (np.array([axis.start for axis in box]) - margins)
    return cropped, moved


@lru_cache(maxsize=1)
def _icbm152_places() -> tuple[Int64, Float64]:
    return _lesion_places(icbm152_tissues())


def _lesion_places(maps: Field) -> tuple[Int64, Float64]:
    """Where lesions may lie, as indices (m, 3) of the 1 mm maps, and their probabilities (m,)."""
    from scipy import ndimage

    white, _, fluid = maps.values[:, ::2, ::2, ::2]
    depth = ndimage.distance_transform_edt(maps.values.sum(0)[::2, ::2, ::2] > 0)
    ventricles = (fluid > 0.5) & (depth > 15)
    distance = 2.0 * ndimage.distance_transform_edt(~ventricles)
    places = np.argwhere(white > 0.8)
    weights = np.exp(-distance[tuple(places.T)] / 8.0) + 0.03
    return 2 * places, weights / weights.sum()


def add_blob(mask: Bools, centre: Int64, radius: float, rng: np.random.Generator) -> None:
    """Add an irregular ellipsoid of about `radius` voxels to `mask`, in place."""
    from scipy import ndimage

    reach = math.ceil(1.8 * radius) + 1
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    offsets = np.moveaxis(np.indices(tuple(high - low)), 0, -1) + low - centre  # (x, y, z, 3)
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    scales = np.exp(rng.normal(0.0, 0.2, size=3))
    distance = np.linalg.norm(offsets @ axes / (radius * scales), axis=-1)
    rough = ndimage.gaussian_filter(rng.standard_normal(distance.shape), max(radius / 3, 0.7))
    mask[box] |= distance + 0.25 * rough / rough.std() < 1.0
