"""Where a person's head lies in ICBM152 space: an affine between tissue maps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from qspace_nd.arrays import Field, Float32, Float64
from qspace_nd.simulation.anatomy import icbm152_tissues, lattice_points

_SPACING = 3  # mm of the lattice on which maps are compared
_WIDTHS = (8.0, 4.0)  # mm: the blurs of the maps, coarse first


def affine_to_icbm152(maps: Field) -> Float64:
    """The affine (4, 4) that brings tissue maps closest to ICBM152's, by least squares.

    Parameters
    ----------
    maps : Field (3)
        White matter, grey matter and fluid at 1 mm, on a lattice along the world axes.
    """
    from scipy.optimize import least_squares

    affine = _first_guess(maps)
    for width in _WIDTHS:
        target, points = _icbm152_sample(width)
        blurred = _blurred(maps, width)
        slopes = blurred.gradient()
        corners = np.pad(points, ((0, 0), (0, 1)), constant_values=1)  # (n, 4)

        def residual(
            rows: Float64,
            blurred: Field = blurred,
            target: Float32 = target,
            corners: Float32 = corners,
        ) -> Float32:
            return np.ravel(blurred.at(_moved(corners, rows)) - target)

        def jacobian(rows: Float64, slopes: Field = slopes, corners: Float32 = corners) -> Float32:
            steep = slopes.at(_moved(corners, rows)).reshape(len(corners), 3, 3, 1)
            return np.reshape(steep * corners[:, None, None], (-1, 12))

        # In hundreds of mm and shares, all parameters matter alike.
        found = least_squares(
            residual, affine[:3].ravel(), jac=jacobian, x_scale=[1, 1, 1, 50] * 3, max_nfev=30
        )
        affine[:3] = found.x.reshape(3, 4)
    return np.asarray(np.linalg.inv(affine))


def overlap(maps: Field, common: Float64) -> float:
    """Dice of the white matter with ICBM152's, where `common` brings it."""
    nodes = lattice_points(maps.values.shape[1:], maps.affine)[::3, ::3, ::3].reshape(-1, 3)
    points = np.pad(nodes, ((0, 0), (0, 1)), constant_values=1) @ common[:3].T.astype(np.float32)
    theirs = icbm152_tissues().at(points)[:, 0] > 0.5
    ours = maps.at(nodes)[:, 0] > 0.5
    return float(2 * np.count_nonzero(theirs & ours) / max(theirs.sum() + ours.sum(), 1))


def _moved(corners: Float32, rows: Float64) -> Float32:
    return np.asarray(corners @ rows.reshape(3, 4).T.astype(np.float32))


def _first_guess(maps: Field) -> Float64:
    """From ICBM152 space to the maps': the same middle and volume of solid tissue."""
    (theirs, their_volume), (ours, volume) = map(_middle, (icbm152_tissues(), maps))
    affine = np.diag([*([(volume / their_volume) ** (1 / 3)] * 3), 1.0])
    affine[:3, 3] = ours - affine[:3, :3] @ theirs
    return affine


def _middle(maps: Field) -> tuple[Float64, float]:
    """The centre of white and grey matter, and their volume in nodes."""
    from scipy import ndimage

    solid = maps.values[:2].sum(axis=0)
    middle = np.array(ndimage.center_of_mass(solid))
    return maps.affine[:3, :3] @ middle + maps.affine[:3, 3], float(solid.sum())


def _blurred(maps: Field, width: float) -> Field:
    from scipy import ndimage

    coarse = maps.values[:, ::_SPACING, ::_SPACING, ::_SPACING]
    sigma = width / _SPACING
    values = ndimage.gaussian_filter(coarse, sigma, axes=(1, 2, 3), mode="constant")
    return Field(values, maps.affine @ np.diag([_SPACING, _SPACING, _SPACING, 1.0]))


@lru_cache(maxsize=len(_WIDTHS))
def _icbm152_sample(width: float) -> tuple[Float32, Float32]:
    """ICBM152's blurred maps (n, 3) at points (n, 3) in the brain and just around it."""
    maps = _blurred(icbm152_tissues(), width)
    points = lattice_points(maps.values.shape[1:], maps.affine)[::2, ::2, ::2].reshape(-1, 3)
    values = maps.at(points)
    near = values.sum(axis=1) > 0.05
    return values[near], points[near]
