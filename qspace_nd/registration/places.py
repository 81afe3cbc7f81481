"""Where the points of a scan lie in a template."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32, Float64
from qspace_nd.registration.alignment import align
from qspace_nd.registration.images import Images, interpolated, moved

# Of SyN; chosen by the error on heads deformed by what is known, and not by the correlation, which
# less smoothing (2.0 and 1.5 were tried) raises while the places get worse.
_ITERATIONS = [20, 20, 10]  # coarse first
_WINDOW = 2  # nodes around each in which the two are correlated
_SMOOTHING = 2.5  # nodes: of each step of the deformation


@dataclass(frozen=True, eq=False)
class Registration:
    """A scan's affine and diffeomorphic map to a template.

    Attributes
    ----------
    affine : array (4, 4)
        From mm in the scan's world to mm in the template's.
    warp : dipy.align.imwarp.DiffeomorphicMap or None
        From the scan to the template, the affine within it; None for the affine alone.
    residual : float
        How unlike the template what is registered of the scan is, where it was brought: 0 for
        alike, 1 for nothing in common.
    """

    affine: Float64
    warp: Any
    residual: float = float("nan")

    def at(self, points: Float32 | Float64) -> Float32:
        """Bring points (n, 3), in mm of the scan's world, to the template: (n, 3), in mm."""
        if self.warp is None:
            return moved(points, self.affine).astype(np.float32)
        there = self.warp.transform_points(np.asarray(points, np.float64))
        return np.asarray(there, np.float32)

    def back(self, points: Float32 | Float64) -> Float32:
        """Bring points (n, 3), in mm of the template, to the scan's world: (n, 3), in mm."""
        if self.warp is None:
            return moved(points, np.linalg.inv(self.affine)).astype(np.float32)
        there = self.warp.transform_points_inverse(np.asarray(points, np.float64))
        return np.asarray(there, np.float32)


def register(
    images: Images, template: Images, *, among: int = 0, affine: Float64 | None = None
) -> Registration:
    """Bring a scan to a template: an affine, and symmetric normalisation from there.

    SyN (Avants et al., Medical Image Analysis 12:26, 2008) of what is registered by its
    cross-correlation, on the scan's lattice: what the scan did not cover pulls at nothing.

    Parameters
    ----------
    images : Images
    template : Images
    among : int
        Of how many scans, this one among them, the template is the mean; 0 for a scan that it does
        not know. It matters to the residual alone.
    affine : array (4, 4), optional
        From the scan's world to the template's, where it is known already.
    """
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import CCMetric

    affine = align(images, template) if affine is None else affine
    search = SymmetricDiffeomorphicRegistration(
        CCMetric(3, sigma_diff=_SMOOTHING, radius=_WINDOW), level_iters=_iterations(images)
    )
    search.verbosity = 0
    warp = search.optimize(
        images.registered,
        template.registered,
        static_grid2world=images.affine,
        moving_grid2world=template.affine,
        prealign=affine,
    )
    registered = Registration(affine, warp)
    return Registration(affine, warp, residual(images, template, registered, among))


def _iterations(images: Images) -> list[int]:
    """As many of the levels as leave the scan's lattice a window's nodes or more."""
    levels = math.floor(math.log2(min(images.mask.shape) / (2 * _WINDOW + 1))) + 1
    return _ITERATIONS[-max(1, levels) :]


def residual(images: Images, template: Images, registration: Registration, among: int = 0) -> float:
    """One less the correlation of what is registered of the scan with the template at its places.

    Of a scan that is one of the `among` whose mean the template is, its own share is taken out of
    the mean, so that it compares with scans that the template does not know.
    """
    mean = template.values[:1]
    if among > 1:
        everywhere = moved(np.indices(template.mask.shape).reshape(3, -1).T, template.affine)
        back = registration.back(everywhere)
        own = np.nan_to_num(interpolated(images.values[:1], images.affine, back))
        mean = (among * mean - own.reshape(mean.shape)) / np.float32(among - 1)
    places = registration.at(moved(np.argwhere(images.mask), images.affine))
    theirs = np.nan_to_num(interpolated(mean, template.affine, places)[0])
    return float(1 - np.corrcoef(theirs, images.registered[images.mask])[0, 1])
